"""``cmerge ablation``: the plan, the table on stdout, the faults of the training recipe."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from commands import Done
from pretraining import make_project, make_recipe
from probing import PROTOCOL, write_corpus


@pytest.fixture(autouse=True)
def _project(tmp_path: Path) -> None:
    make_project(tmp_path)
    write_corpus(tmp_path / "tones", tracks=20, seed=1)
    stages = [
        {"name": "a", "train": ["front"], "steps": 1, "peak_lr": 1e-3, "replay_share": 0.25},
        {"name": "b", "train": ["*"], "steps": 2, "peak_lr": 1e-3, "min_lr": 1e-4},
    ]
    recipe = make_recipe(stages=stages).model_dump(mode="json", exclude_unset=True)
    (tmp_path / "makam.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    value = {
        "kind": "ablation",
        "train": "makam.yaml",
        "tasks": [{"name": "tones", "corpus": "tones", "protocol": PROTOCOL}],
        "seeds": [0],
        "store": "store",
        "output": "results",
    }
    (tmp_path / "ablation.yaml").write_text(yaml.safe_dump(value), encoding="utf-8")


def test_the_plan_then_the_table_then_verify(cmerge: Callable[..., Done], tmp_path: Path) -> None:
    dry = cmerge("ablation", "ablation.yaml", "--dry-run", "--json", "-q")
    assert dry.code == 0
    plan = json.loads(dry.out)
    assert plan["train_first"] == [
        "results_runs/single_stage",
        "results_runs/no_rewarm",
        "results_runs/stage_1",
        "out",
    ]
    assert [each["steps"] for each in plan["strategies"]] == [3, 3, 1, 3]
    assert not (tmp_path / "results_runs").exists()
    done = cmerge("ablation", "ablation.yaml")
    assert done.code == 0
    assert done.out.startswith("| CPT strategy | replay | tones |\n")
    assert "compared 4 strategies on tones -> results in " in done.err.splitlines()[-1]
    assert cmerge("verify", "results").code == 0
    assert cmerge("ablation", "ablation.yaml", "-q").code == 4
    again = cmerge("ablation", "ablation.yaml", "--force", "--json", "-q")
    value = json.loads(again.out)
    assert value["lock"]["kind"] == "ablation"
    assert value["summary"]["table"][0]["name"] == "base"


def test_faults_of_the_training_recipe_name_its_file(cmerge: Callable[..., Done]) -> None:
    done = cmerge("ablation", "ablation.yaml", "--set", "changes=['stages[0].steps=0']")
    assert done.code == 3
    assert "makam.yaml:" in done.err
    assert "stages[0]: give either `steps` (above 0) or `hours`" in done.err
    done = cmerge("ablation", "ablation.yaml", "--set", "train=maqam.yaml")
    assert done.code == 3
    assert "no such recipe file" in done.err
    done = cmerge("ablation", "makam.yaml")
    assert done.code == 3
    assert "run: cmerge train-culture makam.yaml" in done.err
