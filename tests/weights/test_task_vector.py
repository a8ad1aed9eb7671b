"""The algebra of task vectors against NumPy in float64."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import make_mert_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mergekit_audio.errors import InputError, LayoutError
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.task_vector import TaskVector

Arrays = dict[str, np.ndarray]
factors = st.floats(-3, 3, allow_nan=False).map(lambda value: round(value, 6))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Checkpoint]:
    """Return a small base and three models tuned from it."""
    root = tmp_path_factory.mktemp("models")
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    extra = {"steps": torch.tensor([4, 5])}
    base = make_mert_checkpoint(root / "base", overrides=small, extra=extra)
    folders = [base]
    for seed in (1, 2, 3):
        changed = {"steps": torch.tensor([seed, seed])}
        folders.append(
            make_mert_checkpoint(
                root / f"{seed}",
                overrides=small,
                seed=seed,
                perturb_of=base,
                perturb_scale=0.01,
                extra=changed,
            )
        )
    return [Checkpoint.open(str(folder)) for folder in folders]


@pytest.fixture(scope="module")
def arrays(models: list[Checkpoint]) -> list[Arrays]:
    """Return the same tensors through the safetensors library, as float64."""
    return [
        {
            name: tensor.double().numpy()
            for name, tensor in load_file(model.folder / "model.safetensors").items()
            if tensor.is_floating_point()
        }
        for model in models
    ]


def vectors(models: list[Checkpoint]) -> list[TaskVector]:
    return [TaskVector.from_checkpoints(models[0], model) for model in models[1:]]


def differences(arrays: list[Arrays]) -> list[Arrays]:
    return [{name: tuned[name] - arrays[0][name] for name in tuned} for tuned in arrays[1:]]


def require_equal(vector: TaskVector, expected: Arrays, tolerance: float = 0.0) -> None:
    assert list(vector.names) == sorted(expected)
    for name, values in expected.items():
        found = vector.tensor(name)
        assert found.dtype == torch.float64
        assert np.allclose(found.numpy(), values, rtol=tolerance, atol=tolerance)


def test_a_task_vector_is_the_exact_difference(
    models: list[Checkpoint], arrays: list[Arrays]
) -> None:
    for vector, expected in zip(vectors(models), differences(arrays), strict=True):
        require_equal(vector, expected)


@settings(max_examples=25, deadline=None)
@given(factors, factors)
def test_operators_follow_numpy(
    models: list[Checkpoint], arrays: list[Arrays], left: float, right: float
) -> None:
    (one, two, three), (a, b, c) = vectors(models), differences(arrays)
    require_equal(
        left * one - two * right + -three,
        {name: left * a[name] - right * b[name] - c[name] for name in a},
        tolerance=1e-15,
    )


@settings(max_examples=15, deadline=None)
@given(factors, factors)
def test_laws(models: list[Checkpoint], left: float, right: float) -> None:
    one, two, three = vectors(models)
    name = "encoder.layers.1.attention.k_proj.weight"

    def same(first: TaskVector, second: TaskVector, tolerance: float = 1e-15) -> bool:
        return torch.allclose(first.tensor(name), second.tensor(name), rtol=0, atol=tolerance)

    assert same(one + two, two + one, 0)
    assert same((one + two) + three, one + (two + three))
    assert same(left * (one + two), left * one + left * two)
    assert same((left + right) * one, left * one + right * one)
    assert same(one - one, 0 * one, 0)
    negated = -one
    assert same(-negated, one, 0)
    assert same(one * 1, one, 0)


@settings(max_examples=20, deadline=None)
@given(factors)
def test_apply_is_the_formula_rounded_once(
    models: list[Checkpoint], arrays: list[Arrays], scale: float
) -> None:
    (one, two, _), (a, b, _) = vectors(models), differences(arrays)
    applied = dict((one + 2 * two).apply(models[0], scale))
    assert list(applied) == list(models[0].index)
    for name, base in arrays[0].items():
        delta = a[name] + 2 * b[name]
        exact = base + scale * delta
        bound = 2.0**-22 * (np.abs(base) + np.abs(scale * delta)) + 2.0**-149
        assert applied[name].dtype == torch.float32
        assert np.all(np.abs(applied[name].numpy() - exact) <= bound)
    assert applied["steps"].tolist() == [4, 5]


def test_scale_0_and_scale_1_return_the_models_bits(models: list[Checkpoint]) -> None:
    base, tuned = models[0], models[1]
    vector = TaskVector.from_checkpoints(base, tuned)
    for name, tensor in vector.apply(base, 0.0):
        assert tensor.equal(base.tensor(name))
    for name, tensor in vector.apply(base):
        assert tensor.equal((base if name == "steps" else tuned).tensor(name))


def test_apply_to_another_base_and_dtype(models: list[Checkpoint], tmp_path: Path) -> None:
    state = load_file(models[3].folder / "model.safetensors")
    half = {name: t.bfloat16() if t.is_floating_point() else t for name, t in state.items()}
    save_file(half, tmp_path / "half.safetensors")
    target = Checkpoint.open("half.safetensors", root=tmp_path)
    vector = TaskVector.from_checkpoints(models[0], models[1])
    name = "encoder.layers.0.feed_forward.output_dense.weight"
    found = dict(vector.apply(target, 0.5))[name]
    exact = half[name].double() + 0.5 * vector.tensor(name)
    assert found.dtype == torch.bfloat16
    assert torch.all((found.double() - exact).abs() <= 2.0**-8 * exact.abs())


def test_stats_follow_numpy(models: list[Checkpoint], arrays: list[Arrays]) -> None:
    (one, two, _), (a, b, _) = vectors(models), differences(arrays)
    stats = (one - 0.5 * two).stats()
    delta = {name: a[name] - 0.5 * b[name] for name in a}
    assert list(stats.tensors) == sorted(delta)
    for name, found in stats.tensors.items():
        base_norm = np.linalg.norm(arrays[0][name].ravel())
        assert found.elements == delta[name].size
        assert found.norm == pytest.approx(np.linalg.norm(delta[name].ravel()), rel=1e-13)
        assert found.max_abs == np.abs(delta[name]).max()
        assert found.relative_norm == pytest.approx(found.norm / base_norm, rel=1e-13)
        assert found.zero_share == np.mean(delta[name] == 0)
    flat = np.concatenate([values.ravel() for values in delta.values()])
    assert stats.total.norm == pytest.approx(np.linalg.norm(flat), rel=1e-13)
    assert stats.total.elements == flat.size
    assert stats.total.max_abs == np.abs(flat).max()


def test_stats_of_nothing_changed(models: list[Checkpoint]) -> None:
    stats = TaskVector.from_checkpoints(models[0], models[0]).stats()
    assert stats.total.norm == 0
    assert stats.total.relative_norm == 0
    assert stats.total.zero_share == 1
    assert math.isnan(vectors(models)[0].cosine(TaskVector.from_checkpoints(models[0], models[0])))


def test_stats_do_not_depend_on_threads(models: list[Checkpoint]) -> None:
    vector = vectors(models)[0]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = vector.stats()
        torch.set_num_threads(4)
        assert vector.stats() == one
    finally:
        torch.set_num_threads(threads)


def test_cosine_and_dot_follow_numpy(models: list[Checkpoint], arrays: list[Arrays]) -> None:
    (one, two, _), (a, b, _) = vectors(models), differences(arrays)
    flat = [np.concatenate([delta[name].ravel() for name in sorted(delta)]) for delta in (a, b)]
    expected = flat[0] @ flat[1]
    norms = np.linalg.norm(flat[0]) * np.linalg.norm(flat[1])
    assert one.dot(two) == pytest.approx(expected, rel=1e-10, abs=1e-13 * norms)
    assert one.cosine(two) == pytest.approx(expected / norms, abs=1e-13)
    assert one.cosine(one) == 1
    assert one.cosine(-3 * one) == pytest.approx(-1, abs=1e-15)


def test_other_layouts_are_refused(models: list[Checkpoint], tmp_path: Path) -> None:
    other = Checkpoint.open(str(make_mert_checkpoint(tmp_path / "other")))
    own = vectors(models)[0]
    foreign = TaskVector.from_checkpoints(other, other)
    with pytest.raises(LayoutError, match="differences"):
        TaskVector.from_checkpoints(models[0], other)
    actions: list[Any] = [
        lambda: own + foreign,
        lambda: own - foreign,
        lambda: own.cosine(foreign),
        lambda: own.apply(other),
    ]
    for action in actions:
        with pytest.raises(LayoutError) as refused:
            action()
        assert f"steps: only in {models[0].source}" in refused.value.message
        assert "encoder.layer_norm.bias: [32] float32 in" in refused.value.message


def test_wrong_operands(models: list[Checkpoint]) -> None:
    vector = vectors(models)[0]
    for action in (
        lambda: vector + 1,  # type: ignore[operator]
        lambda: vector - 1,  # type: ignore[operator]
        lambda: vector * vector,  # type: ignore[operator]
        lambda: vector * True,
    ):
        with pytest.raises(TypeError):
            action()
    with pytest.raises(ValueError, match="multiplied by nan"):
        vector * math.nan
    with pytest.raises(ValueError, match="at scale inf"):
        vector.apply(models[0], math.inf)
    with pytest.raises(InputError, match="no floating-point tensor 'steps'"):
        vector.tensor("steps")


def test_values_that_are_not_finite_stay_visible(models: list[Checkpoint], tmp_path: Path) -> None:
    state = load_file(models[1].folder / "model.safetensors")
    state["encoder.layer_norm.bias"][3] = math.inf
    save_file(state, tmp_path / "bad.safetensors")
    bad = Checkpoint.open("bad.safetensors", root=tmp_path)
    with pytest.raises(InputError, match=r"tensor 'encoder\.layer_norm\.bias' holds 0 NaN and 1"):
        TaskVector.from_checkpoints(models[0], bad).stats()
    bad = Checkpoint.open("bad.safetensors", root=tmp_path, allow_nonfinite=True)
    vector = TaskVector.from_checkpoints(models[0], bad)
    assert math.isinf(vector.stats().tensors["encoder.layer_norm.bias"].max_abs)
    assert math.isnan((vector - vector).stats().total.max_abs)
