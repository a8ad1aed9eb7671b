"""`cmerge measure`, and `cmerge merge` of a greedy soup, from recipe to rebuilt folder."""

import json
from collections.abc import Callable
from pathlib import Path

import probing
import pytest
import yaml
from commands import Done
from measuring import add_heads, joint_recipe, make_models, measure_recipe


def write(folder: Path, recipe: object, name: str) -> None:
    value = recipe.model_dump(mode="json", exclude_unset=True)  # type: ignore[attr-defined]
    (folder / name).write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")


class TestMeasure:
    @pytest.fixture(autouse=True)
    def _models(self, tmp_path: Path) -> None:
        add_heads(make_models(tmp_path) / "makam")

    def test_one_model(self, cmerge: Callable[..., Done], tmp_path: Path) -> None:
        write(tmp_path, measure_recipe(tmp_path, statistics=["fisher", "gram"]), "measure.yaml")
        dry = cmerge("measure", "measure.yaml", "--dry-run", "--json", "-q")
        assert dry.code == 0, dry.err
        plan = json.loads(dry.out)
        assert (plan["clips"], plan["seconds_heard"], plan["models"][0]["tracks"]) == (4, 2.0, 3)
        assert plan["fisher"] == {"distribution": "codes", "heads": ["residual_kmeans"]}
        assert not (tmp_path / "measured").exists()
        assert "statistics: fisher, gram\n" in cmerge("measure", "measure.yaml", "--dry-run").out
        done = cmerge("measure", "measure.yaml")
        assert done.code == 0, done.err
        last = done.err.splitlines()[-1]
        assert last.startswith("measured fisher and gram of makam on 4 clips -> measured in ")
        assert last.endswith("models: [{model: …, statistics: measured}]")
        assert cmerge("measure", "measure.yaml", "-q").code == 4
        assert cmerge("verify", "measured", "--rebuild", "-q").code == 0
        track = tmp_path / "makam_audio" / "track0.wav"
        track.write_bytes(track.read_bytes()[:-2])
        changed = cmerge("verify", "measured", "-q")
        assert changed.code == 5
        assert "input corpus (makam_audio) track0.wav" in changed.err

    def test_models_of_a_merge(self, cmerge: Callable[..., Done], tmp_path: Path) -> None:
        write(tmp_path, joint_recipe(tmp_path), "joint.yaml")
        assert "alpha: 0.95\n" in cmerge("measure", "joint.yaml", "--dry-run", "-q").out
        done = cmerge("measure", "joint.yaml")
        assert done.code == 0, done.err
        last = done.err.splitlines()[-1]
        assert last.startswith("measured gram_merged of 2 models on 4 clips -> measured in ")
        assert last.endswith("statistics: measured/makam, …}]")
        assert cmerge("verify", "measured", "--rebuild", "-q").code == 0

    def test_faults_of_the_recipe_have_their_line(
        self, cmerge: Callable[..., Done], tmp_path: Path
    ) -> None:
        write(tmp_path, measure_recipe(tmp_path, statistics=["fisher"], crop_s=0.06), "short.yaml")
        lines = (tmp_path / "short.yaml").read_text(encoding="utf-8").splitlines()
        line = next(i for i, each in enumerate(lines, 1) if each.startswith("crop_s"))
        done = cmerge("measure", "short.yaml", "-q")
        assert done.code == 3
        assert done.err.startswith(f"short.yaml:{line}:9: crop_s: 0.06 s has 4 frames")
        done = cmerge("merge", "short.yaml", "-q")
        assert done.code == 3
        assert "run: cmerge measure short.yaml" in done.err

    def test_a_model_without_heads_is_told_what_to_do(
        self, cmerge: Callable[..., Done], tmp_path: Path
    ) -> None:
        write(tmp_path, measure_recipe(tmp_path, statistics=["fisher"], model="lyra"), "lyra.yaml")
        done = cmerge("measure", "lyra.yaml", "-q")
        assert done.code == 4
        assert "lyra: no heads.safetensors" in done.err
        assert "hint: set fisher.distribution: gaussian" in done.err
        change = ("--set", "fisher.distribution=gaussian")
        assert cmerge("measure", "lyra.yaml", *change, "-q").code == 0


def test_a_greedy_soup_is_probed_and_merged(cmerge: Callable[..., Done], tmp_path: Path) -> None:
    probing.write_models(tmp_path)
    probing.write_corpus(tmp_path / "corpora" / "tones", tracks=10, seed=1)
    tasks = [{"name": "tones", "corpus": "corpora/tones", "protocol": probing.PROTOCOL}]
    value = {
        "kind": "merge",
        "base": "models/base",
        "models": [{"model": "models/makam"}, {"model": "models/lyra"}],
        "method": {"name": "greedy_soup", "tasks": tasks, "seeds": [0]},
        "output": "soup",
    }
    (tmp_path / "soup.yaml").write_text(yaml.safe_dump(value), encoding="utf-8")
    assert cmerge("merge", "soup.yaml", "--dry-run", "-q").code == 0
    done = cmerge("merge", "soup.yaml")
    assert done.code == 0, done.err
    told = json.loads((tmp_path / "soup" / "logs" / "soup.json").read_text(encoding="utf-8"))
    lock = json.loads((tmp_path / "soup" / "cmerge.lock.json").read_text(encoding="utf-8"))
    assert sorted(lock["recipe"]["method"]["accepted"]) == sorted(told["accepted"])
    assert cmerge("verify", "soup", "--rebuild", "-q").code == 0
    fault = cmerge("merge", "soup.yaml", "--force", "--set", "method.objective=west", "-q")
    assert fault.code == 3
    assert "method.objective: 'west' is no task" in fault.err
