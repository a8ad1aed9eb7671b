import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Done

from mergekit_audio.weights.checkpoint import Checkpoint


def test_a_merge_writes_a_model_and_says_what_where_how_long_and_what_next(
    cmerge: Callable[..., Done], merge_recipe: Path, tmp_path: Path
) -> None:
    done = cmerge("merge", "merge.yaml")
    assert (done.code, done.out) == (0, "")
    last = done.err.splitlines()[-1]
    assert last.startswith("merged 2 models by task_arithmetic -> out in ")
    assert last.endswith(" s; next: cmerge verify out --rebuild")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "README.md",
        "cmerge.lock.json",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }


def test_json_is_one_document_with_the_lock(
    cmerge: Callable[..., Done], merge_recipe: Path, tmp_path: Path
) -> None:
    done = cmerge("merge", "merge.yaml", "--json", "--quiet", "--set", "scale=-0.5")
    assert (done.code, done.err) == (0, "")
    value = json.loads(done.out)
    assert value["output"] == str(tmp_path / "out")
    assert value["lock"] == json.loads((tmp_path / "out/cmerge.lock.json").read_text())
    assert value["lock"]["overrides"] == ["scale=-0.5"]
    assert value["lock"]["recipe"]["scale"] == -0.5
    assert value["lock"]["command"] == "cmerge merge merge.yaml --set scale=-0.5"


def test_set_changes_the_tensors(
    cmerge: Callable[..., Done], merge_recipe: Path, models: Path, tmp_path: Path
) -> None:
    assert cmerge("merge", "merge.yaml", "-q", "--set", "scale=0").code == 0
    merged = Checkpoint.open(str(tmp_path / "out"))
    assert merged.digest() == Checkpoint.open(str(models / "base")).digest()


def test_a_dry_run_writes_nothing(
    cmerge: Callable[..., Done], merge_recipe: Path, tmp_path: Path
) -> None:
    excluded = ["--set", "exclude=['feature_extractor.*']"]
    done = cmerge("merge", "merge.yaml", "--dry-run", *excluded)
    assert done.code == 0
    assert "method:\n  name: task_arithmetic\n" in done.out
    assert "copied_tensors: 9\n" in done.out
    assert "excluded by 'feature_extractor.*'" in done.out
    assert done.err.splitlines()[-1] == (
        "dry run: nothing was written; next: cmerge merge merge.yaml"
    )
    plan = json.loads(cmerge("merge", "merge.yaml", "--dry-run", "--json", "-q", *excluded).out)
    assert plan["copied_tensors"] == 9
    assert plan["merged_tensors"] + 9 == len(plan["tensors"])
    assert [path.name for path in tmp_path.iterdir()] == ["merge.yaml"]


def test_an_existing_output_is_kept_unless_forced(
    cmerge: Callable[..., Done], merge_recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    done = cmerge("merge", "merge.yaml", "--quiet")
    assert done.code == 4
    assert "out: the output already exists\n\nhint: add --force" in done.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    preview = cmerge("merge", "merge.yaml", "--dry-run")
    assert preview.code == 0
    assert "out exists: without --force this command would stop\n" in preview.err
    assert cmerge("merge", "merge.yaml", "--quiet", "--force").code == 0
    assert not (tmp_path / "out/mine.txt").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere; simulated elsewhere")
def test_a_read_only_folder_is_named(
    cmerge: Callable[..., Done], merge_recipe: Path, tmp_path: Path
) -> None:
    tmp_path.chmod(0o555)
    try:
        done = cmerge("merge", "merge.yaml", "--quiet")
    finally:
        tmp_path.chmod(0o755)
    assert done.code == 4
    assert "can't write here" in done.err


class TestVerify:
    """``cmerge verify``."""

    @pytest.fixture(autouse=True)
    def _merged(self, cmerge: Callable[..., Done], merge_recipe: Path) -> None:
        assert cmerge("merge", "merge.yaml", "--quiet").code == 0

    def test_a_folder_as_locked_is_code_0(self, cmerge: Callable[..., Done]) -> None:
        done = cmerge("verify", "out", "--no-progress")
        assert done.code == 0
        assert done.out == "out: 4 output files, 3 inputs: as locked\n"
        assert "cmerge verify out --rebuild" in done.err

    def test_a_rebuild_gives_the_same_bytes(self, cmerge: Callable[..., Done]) -> None:
        done = cmerge("verify", "out", "--rebuild", "--json", "--quiet")
        assert (done.code, done.err) == (0, "")
        value = json.loads(done.out)
        assert (value["verified"], value["rebuilt"], value["differences"]) == (True, True, [])

    def test_a_changed_file_is_code_5_and_named(
        self, cmerge: Callable[..., Done], tmp_path: Path
    ) -> None:
        with (tmp_path / "out/config.json").open("a") as stream:
            stream.write(" ")
        done = cmerge("verify", "out", "--quiet")
        assert (done.code, done.out) == (5, "")
        assert (
            "out: 1 difference from cmerge.lock.json\n  output config.json: expected " in done.err
        )
        value = json.loads(cmerge("verify", "out", "--json", "--quiet").out)
        assert value["verified"] is False
        assert [each["name"] for each in value["differences"]] == ["config.json"]

    def test_a_folder_without_a_lock_is_code_4(
        self, cmerge: Callable[..., Done], models: Path
    ) -> None:
        done = cmerge("verify", models / "base", "--quiet")
        assert done.code == 4
        assert "there is no lock here" in done.err


class TestInspect:
    """``cmerge inspect``."""

    def test_one_checkpoint(self, cmerge: Callable[..., Done], models: Path) -> None:
        value = json.loads(cmerge("inspect", models / "a", "--json", "-q").out)
        assert value["digest"] == Checkpoint.open(str(models / "a")).digest()
        assert "tensors" not in value
        full = json.loads(cmerge("inspect", models / "a", "--json", "-q", "--tensors").out)
        assert len(full["tensors"]) == len(Checkpoint.open(str(models / "a")).index)
        text = cmerge("inspect", models / "a", "-q").out
        assert "elements: 427200\n" in text

    def test_beside_a_base(self, cmerge: Callable[..., Done], models: Path) -> None:
        words = ["inspect", models / "a", "--base", models / "base"]
        value = json.loads(cmerge(*words, "--json", "-q").out)
        assert 0 < value["total"]["relative_norm"] < 0.1
        assert "relative_norm" in cmerge(*words, "-q").out

    def test_several_beside_a_base(self, cmerge: Callable[..., Done], models: Path) -> None:
        words = ["inspect", models / "a", models / "b", "--base", models / "base"]
        value = json.loads(cmerge(*words, "--json", "-q").out)
        assert len(value["pairs"]) == 2
        assert value["relations"]["cosine"][0][0] == pytest.approx(1.0)
        assert "cosine:\n" in cmerge(*words, "-q").out
