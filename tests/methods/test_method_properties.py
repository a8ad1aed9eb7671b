"""What every merge method must do, whatever its formula."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergekit_audio.methods.base import MergeMethod, TensorGroup
from mergekit_audio.registry import discover

METHODS = discover("methods")


def make(name) -> MergeMethod:
    return METHODS[name]()


def group(shape, count, seed, *, equal=False):
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(shape, dtype=torch.float64, generator=generator)
    noise = 0.1 * torch.randn((count, *shape), dtype=torch.float64, generator=generator)
    return TensorGroup(
        name="encoder.layers.0.weight",
        base=base,
        models=base.expand(count, *shape).clone() if equal else base + noise,
        weights=torch.rand(count, dtype=torch.float64, generator=generator) + 0.5,
        generator=torch.Generator().manual_seed(seed),
    )


@pytest.mark.parametrize("name", METHODS)
def test_says_its_name_and_its_paper(name):
    assert METHODS[name].model_fields["name"].default == name
    assert "arXiv" in METHODS[name].reference
    assert METHODS[name].__doc__.startswith("Δ")


@pytest.mark.parametrize("name", METHODS)
@given(
    shape=st.lists(st.integers(1, 6), max_size=3).map(tuple),
    count=st.integers(1, 4),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_delta_has_the_shape_is_finite_and_changes_no_argument(name, shape, count, seed):
    values = group(shape, count, seed)
    copies = values.base.clone(), values.models.clone(), values.weights.clone()
    delta = make(name).merge_tensor(values)
    assert delta.shape == shape
    assert delta.dtype == torch.float64
    assert delta.isfinite().all()
    assert values.base.equal(copies[0])
    assert values.models.equal(copies[1])
    assert values.weights.equal(copies[2])


@pytest.mark.parametrize("name", METHODS)
def test_models_equal_to_the_base_give_no_delta(name):
    delta = make(name).merge_tensor(group((5, 7), 3, seed=1, equal=True))
    assert delta.abs().max() == 0


@pytest.mark.parametrize("name", METHODS)
def test_an_elementwise_method_may_be_cut_anywhere(name):
    if not METHODS[name].elementwise:
        pytest.skip("sees whole tensors")
    whole = group((1000,), 3, seed=2)
    delta = make(name).merge_tensor(whole)
    for part in (slice(0, 1), slice(1, 334), slice(334, 1000)):
        cut = TensorGroup(
            whole.name, whole.base[part], whole.models[:, part], whole.weights, whole.generator
        )
        assert make(name).merge_tensor(cut).equal(delta[part])


@pytest.mark.parametrize("name", METHODS)
def test_bits_do_not_depend_on_the_number_of_threads(name):
    before = torch.get_num_threads()
    values = group((300, 500), 4, seed=3)
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(make(name).merge_tensor(values))
    finally:
        torch.set_num_threads(before)
    assert results[0].equal(results[1])
