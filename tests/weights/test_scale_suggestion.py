"""The suggested range of λ, worked by hand from norms and signs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.inspect import inspect_models
from mergekit_audio.weights.suggestion import suggest_scale


def suggestion(tmp_path: Path, *changes: list[float]) -> dict[str, Any]:
    """Return what is suggested for models m0, m1, … with these task vectors."""
    checkpoints = []
    for place, change in enumerate([[0.0] * len(changes[0]), *changes]):
        save_file({"w": torch.tensor(change)}, tmp_path / f"{place}.safetensors")
        checkpoints.append(Checkpoint.open(f"{place}.safetensors", root=tmp_path))
    models = {f"m{place}": model for place, model in enumerate(checkpoints[1:])}
    found: dict[str, Any] = suggest_scale(inspect_models(checkpoints[0], models))
    json.dumps(found, allow_nan=False)
    return found


def test_orthogonal_models_reach_as_far_as_one_of_them_at_one_over_root_k(tmp_path: Path) -> None:
    found = suggestion(tmp_path, [2.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 2.0, 0], [0, 0, 0, 2.0])
    assert (found["low"], found["start"], found["high"]) == (0.25, 0.25, 0.5)
    assert (found["trust"], found["orthogonal"], found["growth"]) == (0.5, 0.5, 2)
    assert found["grid"] == [0.25, 0.31, 0.38, 0.44, 0.5]


def test_parallel_models_have_one_scale(tmp_path: Path) -> None:
    found = suggestion(tmp_path, [2.0, 1.0], [2.0, 1.0])
    assert [found[key] for key in ("low", "start", "high")] == pytest.approx([0.5, 0.5, 0.5])
    assert found["grid"] == [0.5]
    assert any("one model twice" in caution for caution in found["cautions"])


def test_conflicts_lower_the_range_and_are_told(tmp_path: Path) -> None:
    found = suggestion(tmp_path, [4.0, 1.0, 0.0], [4.0, -1.0, 0.0])
    assert found["mean_sign_conflict"] == 0.5
    assert found["low"] == 0.25
    assert found["high"] == pytest.approx(math.sqrt(17) / 8)
    assert any("signs conflict" in caution for caution in found["cautions"])


def test_models_that_cancel_out_are_not_amplified(tmp_path: Path) -> None:
    for second in ([-2.0, 0.0], [-2.0, 0.5]):
        found = suggestion(tmp_path, [2.0, 0.0], second)
        assert found["high"] == 1
        assert any("against each other" in caution for caution in found["cautions"])


def test_a_model_that_decides_the_sum_is_named_with_even_weights(tmp_path: Path) -> None:
    found = suggestion(tmp_path, [6.0, 0.0], [0.0, 2.0])
    assert found["even_weights"] == pytest.approx([4 / 6, 2])
    assert any("m0 is 3.0 times as long as that of m1" in each for each in found["cautions"])


def test_one_model_and_none(tmp_path: Path) -> None:
    found = suggestion(tmp_path, [1.0, 2.0], [0.0, 0.0])
    assert [found[key] for key in ("models", "low", "start", "high")] == [1, 0.5, 1, 1]
    assert found["cautions"] == ["m1 does not differ from the base"]
    nothing = suggestion(tmp_path, [0.0])
    assert nothing["low"] is None
    assert nothing["grid"] == []


def test_a_model_of_another_base_is_doubted(tmp_path: Path) -> None:
    for name, values in (("base", [1.0, 0.0]), ("kin", [1.0, 0.5]), ("stranger", [0.0, 1.0])):
        save_file({"w": torch.tensor(values)}, tmp_path / f"{name}.safetensors")
    base, kin, stranger = (
        Checkpoint.open(f"{name}.safetensors", root=tmp_path)
        for name in ("base", "kin", "stranger")
    )
    relations = inspect_models(base, {"kin": kin, "stranger": stranger})
    assert relations["relative_norms"] == pytest.approx([0.5, 2**0.5])
    doubts = [each for each in suggest_scale(relations)["cautions"] if "this base?" in each]
    assert len(doubts) == 1
    assert doubts[0].startswith("the task vector of stranger is 1.41 times")
