"""``cmerge evaluate --compare``: any models on a recipe's tasks, without a recipe of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import probing
import pytest
import yaml
from commands import Done


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    probing.write_models(tmp_path)
    probing.write_corpus(tmp_path / "corpora" / "tones", seed=1)
    recipe = probing.evaluate_recipe(tmp_path, reference="makam", seeds=[0], resamples=50)
    path = tmp_path / "evaluate.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")), encoding="utf-8")
    return path


def test_any_models_are_compared_on_a_recipes_tasks(
    cmerge: Callable[..., Done], tmp_path: Path, tasks: Path
) -> None:
    models = ["models/lyra", "models/base"]
    done = cmerge("evaluate", "--compare", *models, "--tasks", "evaluate.yaml", "--workers", "1")
    assert done.code == 0, done.err
    assert not (tmp_path / "results").exists()
    summary = json.loads((tmp_path / "results_compare/summary.json").read_text())
    assert [row["name"] for row in summary["rows"]] == ["lyra", "base"]
    assert summary["reference"] == "lyra"
    assert {tuple(entry["models"]) for entry in summary["differences"]["entries"]} == {
        ("base", "lyra")
    }
    lock = json.loads((tmp_path / "results_compare/cmerge.lock.json").read_text())
    assert lock["recipe"]["models"] == [
        {"name": "lyra", "model": "models/lyra"},
        {"name": "base", "model": "models/base"},
    ]
    assert any(override.startswith("models=") for override in lock["overrides"])
    assert cmerge("verify", "results_compare", "-q").code == 0


def test_the_tasks_are_found_here_and_the_output_can_be_named(
    cmerge: Callable[..., Done], tmp_path: Path, tasks: Path
) -> None:
    words = ["--compare", "models/makam", "--set", "output=elsewhere", "--dry-run", "--json", "-q"]
    value = json.loads(cmerge("evaluate", *words).out)
    assert value["output"].endswith("/elsewhere")
    assert [model["name"] for model in value["models"]] == ["makam"]
    assert value["reference"] == "makam"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.yaml", "b.yaml"], "expected one recipe, found 2: a.yaml b.yaml"),
        (["a.yaml", "--tasks", "b.yaml"], "--tasks belongs to --compare"),
        (["--compare", "models/base"], "there is no evaluate.yaml here"),
        (["--compare", "a/base", "a/base", "--tasks", "t.yaml"], "--compare names twice: a/base"),
    ],
)
def test_wrong_words_are_refused(
    cmerge: Callable[..., Done], words: list[str], message: str
) -> None:
    done = cmerge("evaluate", *words)
    assert done.code == 2
    assert message in done.err
