"""Models that do not descend from the base are found from a sample; models that do are not."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import make_mert_checkpoint
from safetensors.torch import save_file

from mergekit_audio.errors import InputError
from mergekit_audio.merge.preflight import check_descent, descent, sample, sampled_names
from mergekit_audio.weights.checkpoint import Checkpoint

State = dict[str, torch.Tensor]


def state(seed: int, size: float = 1.0) -> State:
    generator = torch.Generator().manual_seed(seed)
    return {
        "encoder.layers.0.w": size * torch.randn(64, 64, generator=generator),
        "encoder.layers.1.w": size * torch.randn(32, 16, 3, generator=generator),
        "encoder.norm.weight": torch.ones(4000),
        "steps": torch.tensor([7]),
    }


def near(base: State, seed: int, size: float) -> State:
    other = state(seed, size)
    return {
        name: value + other[name] if "layers" in name else value.clone()
        for name, value in base.items()
    }


def opened(root: Path, name: str, tensors: State, *, nonfinite: bool = False) -> Checkpoint:
    save_file(tensors, root / f"{name}.safetensors")
    return Checkpoint.open(f"{name}.safetensors", root=root, allow_nonfinite=nonfinite)


@pytest.mark.parametrize("size", [0.0001, 0.05, 0.5])
def test_a_trained_model_is_accepted(tmp_path: Path, size: float) -> None:
    base = opened(tmp_path, "base", state(0))
    model = opened(tmp_path, "model", near(state(0), 1, size))
    assert check_descent(base, [model]) == []
    found = descent(base, model)
    assert found is not None
    assert found.relative_norm == pytest.approx(size, rel=0.1)
    assert found.correlation == pytest.approx(1 / math.sqrt(1 + size**2), abs=0.02)


def test_unrelated_models_are_refused_with_their_figures(tmp_path: Path) -> None:
    base = opened(tmp_path, "base", state(0))
    good = opened(tmp_path, "good", near(state(0), 1, 0.01))
    bad = [opened(tmp_path, f"bad{seed}", state(seed)) for seed in (2, 3)]
    with pytest.raises(InputError) as caught:
        check_descent(base, [bad[0], good, bad[1]])
    lines = caught.value.message.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("bad2.safetensors was not trained from base.safetensors: its task ")
    found = descent(base, bad[0])
    assert found is not None
    assert found.relative_norm == pytest.approx(math.sqrt(2), abs=0.1)  # independent, of one norm
    assert f"is {found.relative_norm:.2f} times" in lines[0]
    assert "2 matrices, 3584 values" in lines[0]
    assert "unrelated: note" in caught.value.hint
    assert check_descent(base, [bad[0], good, bad[1]], allow_unrelated=True) == lines


def test_a_small_unrelated_model_is_found_by_its_correlation(tmp_path: Path) -> None:
    base = opened(tmp_path, "base", state(0))
    small = opened(tmp_path, "small", state(1, 0.01))  # its task vector is θ_base's size
    with pytest.raises(InputError, match=r"correlate with its own at -?0\.0"):
        check_descent(base, [small])


def test_a_base_that_was_scaled_is_found_by_its_norm(tmp_path: Path) -> None:
    base = opened(tmp_path, "base", state(0))
    scaled = opened(tmp_path, "scaled", {n: 3 * value for n, value in state(0).items()})
    with pytest.raises(InputError, match=r"is 2\.00 times"):
        check_descent(base, [scaled])


def test_one_new_head_does_not_make_a_model_a_stranger(tmp_path: Path) -> None:
    names = [f"encoder.layers.{layer}.w" for layer in range(4)]
    weights = {name: state(i)["encoder.layers.0.w"] for i, name in enumerate(names)}
    base = opened(tmp_path, "base", {**weights, "head": torch.randn(200, 64)})
    model = opened(tmp_path, "model", {**weights, "head": torch.randn(200, 64)})
    assert check_descent(base, [model]) == []


def test_models_too_small_to_judge_pass(tmp_path: Path) -> None:
    base = opened(tmp_path, "base", {"w": torch.zeros(2, 2), "b": torch.zeros(9000)})
    model = opened(tmp_path, "model", {"w": torch.ones(2, 2), "b": torch.ones(9000)})
    assert check_descent(base, [model]) == []
    assert descent(base, opened(tmp_path, "other", {"v": torch.ones(99, 99)})) is None


def test_values_that_are_not_finite_are_left_to_others(tmp_path: Path) -> None:
    values = state(0)
    values["encoder.layers.0.w"][0, 0] = math.inf
    base = opened(tmp_path, "base", state(0))
    model = opened(tmp_path, "model", values, nonfinite=True)
    assert check_descent(base, [model]) == []


def test_equal_models_are_noted(tmp_path: Path) -> None:
    base = opened(tmp_path, "base", state(0))
    one = opened(tmp_path, "one", near(state(0), 1, 0.1))
    two = opened(tmp_path, "two", near(state(0), 1, 0.1))
    same = opened(tmp_path, "same", state(0))
    bias = state(0)
    bias["encoder.norm.weight"][-1] = 2  # outside of what is sampled
    almost = opened(tmp_path, "almost", bias)
    assert check_descent(base, [one, two, same, almost, base]) == [
        "same.safetensors is the same as the base base.safetensors: it adds nothing",
        "two.safetensors is the same as one.safetensors: it counts twice",
    ]


def test_the_sample_is_fixed_and_spread(tmp_path: Path) -> None:
    values = torch.arange(100_000, dtype=torch.float32).reshape(1000, 100)
    tensors = {
        "w": values,
        "v": torch.arange(2048.0).reshape(2, 1024).to(torch.bfloat16),
        "row": torch.ones(1, 99_999),
        "steps": torch.ones(500, 500, dtype=torch.int64),
    }
    base = opened(tmp_path, "base", tensors)
    assert sampled_names(base, base) == ["w", "v"]
    found = sample(base, "w")
    assert (found.size, found.dtype) == (2048, np.float64)
    assert (found[0], found[255], found[-1]) == (0, 255, 99_999)
    assert np.array_equal(found[256:512] - found[256], np.arange(256))
    assert np.array_equal(sample(base, "v"), tensors["v"].double().numpy().ravel())


def test_mert_of_another_seed_and_sharded_bfloat16(tmp_path: Path) -> None:
    base, model, half, stranger = (
        Checkpoint.open(str(folder))
        for folder in (
            make_mert_checkpoint(tmp_path / "base"),
            make_mert_checkpoint(tmp_path / "model", perturb_of=tmp_path / "base"),
            make_mert_checkpoint(
                tmp_path / "half",
                perturb_of=tmp_path / "base",
                dtype="bfloat16",
                shard_bytes=200_000,
            ),
            make_mert_checkpoint(tmp_path / "stranger", seed=1),
        )
    )
    assert check_descent(base, [model, half]) == []
    with pytest.raises(InputError, match="was not trained from"):
        check_descent(base, [model, stranger])
