"""The command `extract-lora`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Done

from mergekit_audio.errors import RecipeError
from mergekit_audio.files import canonical_json, sha256_of_text
from mergekit_audio.rebuild import rebuild
from mergekit_audio.weights.lora import open_adapter


def test_it_writes_an_adapter_and_says_what_is_lost(
    cmerge: Callable[..., Done], models: Path, tmp_path: Path
) -> None:
    words = ("extract-lora", models / "a", "--base", models / "base", "--output", "lora")
    done = cmerge(*words, "--rank", 4)
    assert done.code == 0
    assert "whole model:" in done.out
    assert "not in the adapter:" in done.out
    assert "relative_error" in done.out
    assert "-> lora in " in done.err.splitlines()[-1]
    assert {path.name for path in (tmp_path / "lora").iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "cmerge.lock.json",
        "extraction.json",
    }
    assert {each.rank for each in open_adapter(tmp_path / "lora").deltas.values()} == {4}
    assert cmerge("verify", "lora").code == 0
    refused = cmerge(*words)
    assert (refused.code, "already exists" in refused.err) == (4, True)


def test_json_and_force(cmerge: Callable[..., Done], models: Path, tmp_path: Path) -> None:
    words = ("extract-lora", models / "a", "--base", models / "base", "-o", "lora", "--json", "-q")
    assert cmerge(*words).code == 0
    only = "encoder.layers.{0-1}.attention.*"
    done = cmerge(*words, "--force", "--energy", 0.5, "--match", only)
    assert (done.code, done.err) == (0, "")
    value = json.loads(done.out)
    assert len(value["tensors"]) == 8
    assert value["lock"]["command"].endswith(f"--energy 0.5 --match '{only}' --output lora")
    assert value["lock"] == json.loads((tmp_path / "lora/cmerge.lock.json").read_text())


def test_a_dry_run_names_the_tensors_and_writes_nothing(
    cmerge: Callable[..., Done], models: Path, tmp_path: Path
) -> None:
    words = ("extract-lora", models / "a", "--base", models / "base", "-o", "lora")
    done = cmerge(*words, "--dry-run", "--json")
    assert done.code == 0
    value = json.loads(done.out)
    assert {row["because"] for row in value["left_out"]} == {
        "1-D, not a matrix",
        "3-D, not a matrix",
    }
    assert len(value["factored"]) == 25
    assert not (tmp_path / "lora").exists()


def test_an_adapter_is_built_again_with_the_same_bytes(
    cmerge: Callable[..., Done], models: Path, tmp_path: Path
) -> None:
    words = ("extract-lora", models / "a", "--base", models / "base", "-o", "lora")
    assert cmerge(*words, "--energy", "0.9").code == 0
    done = cmerge("verify", "lora", "--rebuild")
    assert done.code == 0, done.err
    assert "the same bytes when built again" in done.out
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    lock = json.loads((tmp_path / "lora/cmerge.lock.json").read_text())
    lock["outputs"]["extraction.json"] = "0" * 64
    (tmp_path / "lora/cmerge.lock.json").write_text(json.dumps(lock))
    (difference,) = rebuild(tmp_path / "lora")
    assert (difference.what, difference.name) == ("output", "extraction.json")
    lock["recipe"]["rnk"] = 2
    lock["recipe_digest"] = sha256_of_text(canonical_json(lock["recipe"]))
    (tmp_path / "lora/cmerge.lock.json").write_text(json.dumps(lock))
    with pytest.raises(RecipeError, match="rnk"):
        rebuild(tmp_path / "lora")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("--rank", "2", "--energy", "0.5"), 2, "exclude each other"),
        (("--energy", "1.5"), 2, "expected a share above 0"),
        (("--rank", "0"), 2, "greater than or equal to 1"),
        (("--match", "nothing.*"), 4, "no 2-D weight"),
        (("--match", "{"), 4, "without its '}'"),
    ],
)
def test_what_is_wrong_is_said(
    cmerge: Callable[..., Done], models: Path, words: tuple[str, ...], code: int, text: str
) -> None:
    done = cmerge("extract-lora", models / "a", "--base", models / "base", "-o", "lora", *words)
    assert done.code == code
    assert text in done.err
