"""What every merge method must do, whatever its formula."""

import dataclasses

import numpy as np
import pytest
from groups import in_library, make_group, merge, merge_sliced, merge_tensors
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from mergekit_audio.registry import discover

METHODS = discover("methods")
SHAPES = [(), (5,), (7, 3), (3, 9), (4, 3, 2), (1, 1, 6)]
EXAMPLES = {
    "arcee_fusion": [{}],
    "breadcrumbs": [{}, {"density": 0.5, "gamma": 0.1}],
    "breadcrumbs_ties": [{}, {"density": 0.5, "gamma": 0.1}],
    "consensus": [{}, {"minimum_count": 1}, {"inner": "ties", "density": 0.5}],
    "dare_linear": [{}, {"density": 0.7, "semantics": "mergekit"}],
    "dare_ties": [{}, {"density": 0.7, "semantics": "mergekit"}],
    "della": [{}, {"density": 0.5, "epsilon": 0.1, "semantics": "mergekit"}],
    "della_linear": [{}, {"density": 0.5, "epsilon": 0.1, "semantics": "mergekit"}],
    "emr": [{}, {"task": "m0"}],
    "fisher": [{}, {"normalize": True}],
    "greedy_soup": [{"accepted": ["m0"]}],
    "iso_c": [{}, {"convolutions": "flatten"}],
    "iso_cts": [{}, {"convolutions": "flatten"}],
    "knots": [{}, {"scope": "tensor"}, {"inner": "dare_ties"}],
    "lines": [{}, {"alpha": "norm", "beta": 0.5}, {"inner": "ties"}],
    "linear": [{}],
    "localize_and_stitch": [{}, {"density": 0.5}],
    "model_stock": [{}, {"filter_wise": True}, {"semantics": "mergekit"}],
    "multislerp": [{}, {"space": "weights"}],
    "nearswap": [{"t": 0.05}],
    "nuslerp": [{}, {"space": "weights"}, {"vectors": "last_axis"}],
    "slerp": [{"t": 0.5}, {"t": 0.0}],
    "tall_mask": [{"task": "m0"}],
    "ties": [{}, {"semantics": "mergekit", "density": 0.5}, {"normalize": False}],
    "tsv_m": [{}, {"convolutions": "flatten"}],
    "wudi": [{"solver": "exact"}, {"steps": 5}],
}
"""Parameters of each method to be tried; a method that is not here is tried with its defaults."""

CASES = [
    pytest.param(name, values, id=f"{name}-{i}")
    for name in METHODS
    for i, values in enumerate(EXAMPLES.get(name, [{}]))
]
every_method = pytest.mark.parametrize(("name", "values"), CASES)


def made(name, values):
    return METHODS[name](**values)


def group_for(method, shape, seed=0, *, count=None, **fields):
    """Return a group that the method can merge: its number of models, weights and statistics."""
    least, most = method.model_counts
    wanted = max(least, 3 if most is None else most) if count is None else count
    group = make_group(shape, wanted, seed, **fields)
    if not accepts(method, group.weights):
        group = dataclasses.replace(group, weights=(1.0,) * wanted)
    return dataclasses.replace(group, statistics=statistics_for(method, group, seed))


def accepts(method, weights):
    from mergekit_audio.errors import RecipeError

    try:
        method.check_weights(weights)
    except RecipeError:
        return False
    return True


def statistics_for(method, group, seed):
    random = np.random.default_rng(seed + 1)
    found = {}
    for kind in method.needs_statistics:
        if kind == "fisher":
            found[kind] = random.random(group.models.shape) + 0.1
        elif group.base.ndim == 2:
            rows = random.standard_normal((len(group.weights), 40, group.base.shape[1]))
            found[kind] = rows.transpose(0, 2, 1) @ rows / 40
    return found


def counts(method):
    least, most = method.model_counts
    return [count for count in (1, 2, 3, 4) if count >= least and (most is None or count <= most)]


@pytest.mark.parametrize("name", METHODS)
def test_says_its_name_and_its_paper(name):
    assert METHODS[name].model_fields["name"].default == name
    assert "arXiv" in METHODS[name].reference
    assert METHODS[name].__doc__.startswith("Δ")


@every_method
def test_its_dump_makes_it_again(name, values):
    method = made(name, values)
    assert METHODS[name].model_validate(method.model_dump(mode="json")) == method


@every_method
@given(data=st.data(), seed=st.integers(0, 10_000))
@settings(max_examples=8, deadline=None, derandomize=True)
def test_delta_has_the_shape_is_finite_and_changes_no_argument(name, values, data, seed):
    method = made(name, values)
    shape = data.draw(st.sampled_from(SHAPES))
    count = data.draw(st.sampled_from([c for c in counts(method) if usable(method, c)]))
    group = group_for(method, shape, seed, count=count)
    copies = group.base.copy(), group.models.copy()
    delta = merge(method, group)
    assert delta.shape == shape
    assert delta.dtype == np.float64
    assert np.isfinite(delta).all()
    assert (group.base == copies[0]).all()
    assert (group.models == copies[1]).all()


def usable(method, count):
    return accepts(method, (1.0,) * count)


@every_method
def test_models_equal_to_the_base_give_no_delta(name, values):
    method = made(name, values)
    if not method.anchored:
        pytest.skip("its formula moves models that equal the base")
    for shape in SHAPES:
        delta = merge(method, group_for(method, shape, seed=1, equal=True))
        np.testing.assert_allclose(delta, 0, atol=1e-12, err_msg=str(shape))


@every_method
def test_the_order_of_the_models_changes_nothing_but_rounding(name, values):
    method = made(name, values)
    if not method.symmetric:
        pytest.skip("its formula has an order")
    group = group_for(method, (6, 8), seed=2)
    order = list(range(len(group.weights)))[::-1]

    def permuted(items):
        return tuple(items[i] for i in order)

    swapped = dataclasses.replace(
        group,
        models=group.models[order],
        weights=permuted(group.weights),
        parameters=permuted(group.parameters),
        labels=permuted(group.labels),
        digests=permuted(group.digests),
        statistics={kind: each[order] for kind, each in group.statistics.items()},
    )
    np.testing.assert_allclose(merge(method, swapped), merge(method, group), atol=1e-9)


@every_method
def test_slices_give_what_the_whole_tensor_gives(name, values):
    method = made(name, values)
    group = group_for(method, (9, 11), seed=3)
    whole = merge(method, group)
    for size in (1, 7, 64):
        sliced = merge_sliced(method, group, size)
        np.testing.assert_allclose(sliced, whole, rtol=1e-9, atol=1e-12, err_msg=f"size {size}")


@every_method
def test_torch_gives_what_numpy_gives(name, values):
    method = made(name, values)
    for shape in ((6, 8), (10,), (3, 2, 4)):
        group = group_for(method, shape, seed=4)
        found = merge(method, in_library(group, "torch"))
        np.testing.assert_allclose(found, merge(method, group), rtol=1e-8, atol=1e-10)


@every_method
def test_bits_do_not_depend_on_how_often_or_on_which_cores_it_runs(name, values):
    method = made(name, values)
    group = group_for(method, (40, 60), seed=5)
    with threadpool_limits(1):
        results = [merge(method, group).tobytes() for _ in range(2)]
    assert results[0] == results[1]


@every_method
def test_other_tensors_matter_only_to_methods_that_survey_the_model(name, values):
    method = made(name, values)
    first = group_for(method, (6, 5), seed=6)
    second = dataclasses.replace(
        group_for(method, (4, 7), seed=7), name="encoder.layers.1.weight", layer=(1, 12)
    )
    alone = merge(method, first)
    together = merge_tensors(method, {first.name: first, second.name: second})
    assert together[second.name].shape == (4, 7)
    if type(method).survey_model is METHODS["linear"].survey_model:
        np.testing.assert_array_equal(together[first.name], alone)
    assert np.isfinite(together[first.name]).all()
