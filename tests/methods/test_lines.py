import numpy as np
import pytest
from agreement import assert_merges_to
from groups import in_library, make_group, merge, merge_tensors
from pydantic import ValidationError

from mergekit_audio.errors import RecipeError
from mergekit_audio.methods.lines import Lines
from mergekit_audio.methods.magmax import Magmax


def model(count=3):
    layers = {"head": None, "layers.0": (0, 3), "layers.1": (1, 3), "layers.2": (2, 3)}
    return {
        name: make_group((6, 4), count, seed=seed, name=name, layer=layer)
        for seed, (name, layer) in enumerate(layers.items())
    }


def weighted_sum(group):
    return sum(w * tau for w, tau in zip(group.weights, group.task_vectors, strict=True))


def test_worked_by_hand():
    # Σ wᵢ τᵢ = 1 · (1, 0) + 2 · (0, 1); layer 1 of 0 … 2: 0.2 + 0.6 · ½ = 0.5
    models = np.array([[2.0, 1.0], [1.0, 2.0]])
    group = make_group((2,), 2, base=np.ones(2), models=models, weights=(1.0, 2.0), layer=(1, 3))
    assert merge(Lines(alpha=0.2, beta=0.6), group) == pytest.approx([0.5, 1.0])


@pytest.mark.parametrize("layer", [None, (0, 1), (0, 12), (5, 12), (11, 12)])
@pytest.mark.parametrize("beta", [0.4, None])
def test_factor_by_layer(layer, beta):
    group = make_group((5, 3), 2, seed=1, layer=layer)
    slope = 0.7 if beta is None else beta
    factor = 0.3
    if layer is not None and layer[1] > 1:
        factor += slope * layer[0] / (layer[1] - 1)
    assert_merges_to(Lines(alpha=0.3, beta=beta), group, factor * weighted_sum(group))


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("size", [None, 7])
def test_alpha_by_norms_over_the_whole_model(library, size):
    groups = model()
    merged = {name: merge(Magmax(), group) for name, group in groups.items()}
    of_sum = sum(abs(weighted_sum(group)).sum() for group in groups.values())
    alpha = of_sum / (3 * sum(abs(delta).sum() for delta in merged.values()))
    method = Lines(inner="magmax", beta=0.5)
    deltas = merge_tensors(
        method, {name: in_library(group, library) for name, group in groups.items()}, size
    )
    for name, group in groups.items():
        factor = alpha + (0.0 if group.layer is None else 0.5 * group.layer[0] / 2)
        np.testing.assert_allclose(deltas[name], factor * merged[name], rtol=1e-10)


def test_norms_of_the_plain_sum_give_one_over_the_number_of_models():
    deltas = merge_tensors(Lines(), model(4))
    np.testing.assert_allclose(deltas["head"], weighted_sum(model(4)["head"]) / 4)
    np.testing.assert_allclose(deltas["layers.2"], weighted_sum(model(4)["layers.2"]))


def test_equal_models_have_no_norm_and_no_delta():
    assert (merge(Lines(), make_group((3,), 2, equal=True)) == 0).all()


def test_follows_its_inner_method():
    method = Lines(inner={"name": "model_stock", "filter_wise": True})
    assert method.granularity == "row"
    assert method.model_counts == (2, None)
    assert Lines.granularity == Lines().granularity == "element"
    assert not Lines(inner="magmax").symmetric
    with pytest.raises(RecipeError, match="model_stock has no weights"):
        method.check_weights([0.5, 1.0])
    group = make_group((6, 4), 3, seed=4, layer=(1, 3))
    expected = merge(method.inner, group) * 0.6
    assert_merges_to(Lines(alpha=0.2, beta=0.8, inner=method.inner), group, expected)


def test_reads_and_writes_the_inner_method_whole():
    method = Lines(inner={"name": "model_stock", "filter_wise": True}, alpha=0.1)
    assert method.model_dump()["inner"] == method.inner.model_dump()
    assert Lines.model_validate_json(method.model_dump_json()) == method
    assert Lines().inner.name == "task_arithmetic"
    assert Lines(inner="ram").inner.name == "ram"


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ("magmaks", "did you mean 'magmax'"),
        ("lines", "can't be the inner method"),
        ({"name": "ram", "epsilon": -1}, r"ram: epsilon: .* greater than or equal to 0"),
        (3, "expected a merge method"),
    ],
)
def test_refuses_what_is_no_inner_method(inner, message):
    with pytest.raises(ValidationError, match=message):
        Lines(inner=inner)
