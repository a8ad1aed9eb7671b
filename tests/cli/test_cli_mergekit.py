"""Recipes of mergekit on the command line: merge, --mergekit, recipe convert, recipe check."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from commands import Done
from safetensors.numpy import load_file

from mergekit_audio.recipe.load import load


@pytest.fixture
def theirs(models: Path, tmp_path: Path) -> Path:
    """Return a mergekit recipe of a gradient over the layers."""
    path = tmp_path / "theirs.yaml"
    path.write_text(
        f"merge_method: task_arithmetic\nbase_model: {models}/base\n"
        f"models:\n  - {{model: {models}/a, parameters: {{weight: [0, 1]}}}}\n"
        f"  - {{model: {models}/b, parameters: {{weight: -0.5}}}}\n"
        "parameters: {lambda: 0.2}\ndtype: float32\n"
    )
    return path


def test_a_mergekit_recipe_runs_as_it_is(
    cmerge: Callable[..., Done], models: Path, theirs: Path, tmp_path: Path
) -> None:
    done = cmerge("merge", "theirs.yaml", "--output", "made/out", "--quiet")
    assert (done.code, done.err) == (0, "")
    merged = load_file(tmp_path / "made/out/model.safetensors")
    base, a, b = (load_file(models / name / "model.safetensors") for name in ("base", "a", "b"))
    last = max(int(name.split(".")[2]) for name in base if name.startswith("encoder.layers."))
    for name, values in merged.items():
        # The convolutions are a stack of their own; what is in none has the first value.
        parts = name.split(".")
        weight = 0.0
        if name.startswith("encoder.layers."):
            weight = int(parts[2]) / last
        elif name.startswith("feature_extractor.conv_layers."):
            weight = int(parts[2]) / 6
        expected = base[name].astype("f8") + 0.2 * (
            weight * (a[name].astype("f8") - base[name]) - 0.5 * (b[name].astype("f8") - base[name])
        )
        np.testing.assert_array_max_ulp(values, expected.astype("f4"))
    lock = json.loads((tmp_path / "made/out/cmerge.lock.json").read_text())
    assert lock["recipe"]["kind"] == "merge"
    assert lock["recipe"]["output"] == "made/out"


def test_without_an_output_folder_it_says_how_to_name_one(
    cmerge: Callable[..., Done], theirs: Path
) -> None:
    done = cmerge("merge", "theirs.yaml")
    assert done.code == 3
    assert "theirs.yaml:1:1: mergekit's recipes name no output folder" in done.err
    assert "hint: add --output FOLDER" in done.err


def test_mergekit_reads_any_file_as_mergekits(
    cmerge: Callable[..., Done], merge_recipe: Path
) -> None:
    done = cmerge("merge", merge_recipe.name, "--mergekit")
    assert done.code == 3
    assert "merge_method: missing required key" in done.err
    assert "kind: unknown key" in done.err


def test_output_is_meant_from_the_current_folder(
    cmerge: Callable[..., Done], merge_recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "recipes").mkdir()
    merge_recipe.rename(tmp_path / "recipes/merge.yaml")
    assert cmerge("merge", "recipes/merge.yaml", "-o", "here: now", "--quiet").code == 0
    assert (tmp_path / "here: now/model.safetensors").is_file()


def test_convert_writes_our_form(cmerge: Callable[..., Done], theirs: Path, tmp_path: Path) -> None:
    printed = cmerge("recipe", "convert", "theirs.yaml")
    assert printed.code == 0
    value = yaml.safe_load(printed.out)
    assert (value["kind"], value["scale"], value["output"]) == ("merge", 0.2, "theirs-merged")
    done = cmerge("recipe", "convert", "theirs.yaml", "-o", "new/ours.yaml")
    assert done.code == 0
    assert done.err.splitlines()[-1].startswith("converted theirs.yaml -> new/ours.yaml in ")
    ours = load(tmp_path / "new/ours.yaml").recipe
    assert ours == load(theirs, ["output=theirs-merged"]).recipe
    assert cmerge("recipe", "convert", "theirs.yaml", "-o", "new/ours.yaml").code == 4
    again = cmerge("recipe", "convert", "theirs.yaml", "-o", "new/ours.yaml", "--force", "--json")
    assert json.loads(again.out)["recipe"] == ours.model_dump(mode="json")


def test_check_opens_nothing_of_a_mergekit_recipe(
    cmerge: Callable[..., Done], theirs: Path
) -> None:
    theirs.write_text(theirs.read_text().replace("/base", "/nowhere"))
    assert cmerge("recipe", "check", "theirs.yaml").out == "theirs.yaml: a valid mergekit recipe\n"
    theirs.write_text(theirs.read_text().replace("lambda", "lamda"))
    done = cmerge("recipe", "check", "theirs.yaml")
    assert done.code == 3
    assert "did you mean 'lambda'?" in done.err
