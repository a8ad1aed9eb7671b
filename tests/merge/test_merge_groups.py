"""Methods, λ, weights and parameters by parameter group, and layers that are stacked anew."""

import json

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.torch import load_file
from small_models import CONFIG, family, formula, recipe, same_bits, write_model

from mergekit_audio import merge
from mergekit_audio.errors import RecipeError
from mergekit_audio.methods.magmax import Magmax
from mergekit_audio.methods.slerp import Slerp
from mergekit_audio.methods.ties import Ties
from mergekit_audio.recipe.merge import Group, LayerRange, StackSlice

MODELS = ("makam", "lyra", "carnatic")
CONV = "feature_extractor.conv_layers.0.conv.weight"
Q0, Q10 = (f"encoder.layers.{i}.attention.q_proj.weight" for i in (0, 10))


def merged(root, **changes):
    return dict(merge.merged_tensors(merge.plan(recipe(**changes), root)))


def check(result, tensors, name, weights, scale):
    theta, _ = formula(tensors, name, weights, scale)
    np.testing.assert_allclose(result[name].numpy(), theta, rtol=3e-7, atol=3e-7)


def test_each_group_has_its_method_scale_and_weights(tmp_path):
    tensors = family(tmp_path)
    groups = [
        Group(match="feature_extractor.*", method=Magmax(), scale=1.0),
        Group(match="encoder.*", layers=LayerRange(first=1, last=10), weights=[1.0, 0.0, -2.0]),
        Group(match=["encoder.layers.0.*.bias", "encoder.temperature"], scale=0.0),
    ]
    result = merged(tmp_path, groups=groups)
    check(result, tensors, Q0, dict.fromkeys(MODELS, 1.0), 0.2)
    check(result, tensors, Q10, {"makam": 1.0, "lyra": 0.0, "carnatic": -2.0}, 0.2)
    base = tensors["base"][CONV].double().numpy()
    tau = np.stack([tensors[model][CONV].double().numpy() - base for model in MODELS])
    largest = np.take_along_axis(tau, np.abs(tau).argmax(0)[None], 0)[0]
    np.testing.assert_allclose(result[CONV].numpy(), base + largest, rtol=3e-7, atol=3e-7)
    assert same_bits(result["encoder.temperature"], tensors["base"]["encoder.temperature"])


def test_the_first_group_counts_and_an_idle_one_is_noted(tmp_path):
    family(tmp_path)
    groups = [Group(match="encoder.layers.*", scale=0.5), Group(match="encoder.layers.0.*")]
    plan = merge.plan(recipe(groups=groups), tmp_path)
    assert {row.scale for row in plan.rows if row.name.startswith("encoder.layers.")} == {0.5}
    assert any("groups[1] ('encoder.layers.0.*') merges no tensor" in note for note in plan.notes)
    rows = {row["name"]: row for row in plan.as_dict()["tensors"]}
    assert (rows[Q0]["group"], rows[CONV]["group"]) == (0, None)


@pytest.mark.parametrize(
    ("groups", "fault"),
    [
        (
            [{"match": "encodr.*"}],
            r"groups\[0\]\.match: 'encodr\.\*' matches no tensor.*encoder\.\*",
        ),
        ([{"match": ["encoder.*", "x"]}], r"groups\[0\]\.match\[1\]: 'x' matches no tensor"),
        (
            [{"match": "encoder.*", "layers": {"first": 11, "last": 12}}],
            r"groups\[0\]\.layers: 'encoder\.\*', layers 11 to 12 matches no tensor; "
            r"the main stack is encoder\.layers\.\{0-10\}",
        ),
        (
            [{"layers": [11, 12]}],
            r"groups\[0\]\.layers: '\*', layers 11 to 12 matches no tensor",
        ),
        ([{"weights": [1.0]}], r"groups\[0\]\.weights: 1 entries for 3 models"),
        (
            [{"method": {"name": "slerp", "t": 0.5}}],
            r"groups\[0\]\.method: slerp merges 1 to 2 models, found 3",
        ),
        (
            [{"parameters": [{"densty": 0.5}, {}, {}], "method": {"name": "ties"}}],
            r"groups\[0\]\.parameters\[0\]\.densty: ties takes no 'densty' .*mean 'density'",
        ),
        (
            [{"parameters": [{"density": 7.0}, {}, {}], "method": {"name": "ties"}}],
            r"groups\[0\]\.parameters\[0\]\.density: .*less than or equal to 1",
        ),
    ],
)
def test_what_a_group_can_not_be(tmp_path, groups, fault):
    family(tmp_path)
    with pytest.raises(RecipeError, match=fault):
        merge.plan(recipe(groups=[Group.model_validate(each) for each in groups]), tmp_path)


def test_a_model_s_own_parameters_reach_the_method(tmp_path):
    tensors = family(tmp_path, ["makam"])
    name = "encoder.layers.1.feed_forward.weight"
    for density in (0.1, 0.5):
        plain = recipe(["makam"], method=Ties(), scale=1.0)
        entry = plain.models[0].model_copy(update={"parameters": {"density": density}})
        plan = merge.plan(plain.model_copy(update={"models": [entry]}), tmp_path)
        moved = dict(merge.merged_tensors(plan))[name] != tensors["base"][name]
        assert abs(moved.float().mean() - density) < 0.02


def test_order_is_kept_where_the_formula_has_one(tmp_path):
    tensors = family(tmp_path, ["makam", "lyra"])
    for models in (["makam", "lyra"], ["lyra", "makam"]):
        result = merged(tmp_path, models=models, method=Slerp(t=0.0), scale=1.0)
        expected = tensors[models[0]][Q0].numpy()
        np.testing.assert_allclose(result[Q0].numpy(), expected, rtol=3e-7, atol=3e-7)


def test_layers_are_stacked_from_where_the_recipe_says(tmp_path):
    tensors = family(tmp_path, ["makam", "lyra"])
    for name in ("base", "makam", "lyra"):
        state = {key: value for key, value in tensors[name].items() if ".layers." not in key}
        for i in range(4):
            state[f"encoder.layers.{i}.w"] = tensors[name][Q0] * (i + 1)
        tensors[name] = state
        write_model(tmp_path / name, state, config={**CONFIG, "num_hidden_layers": 4})
    stack = [
        StackSlice(base=LayerRange(first=0, last=1), models=[LayerRange(first=0, last=1), None]),
        StackSlice(
            base=LayerRange(first=1, last=3),
            models=[LayerRange(first=0, last=2), LayerRange(first=1, last=3)],
        ),
    ]
    merge.run(merge.plan(recipe(["makam", "lyra"], stack=stack), tmp_path))
    found = load_file(tmp_path / "merged" / "model.safetensors")
    origins = {0: (0, 0, None), 1: (1, 1, None), 2: (1, 0, 1), 3: (2, 1, 2), 4: (3, 2, 3)}
    assert sorted(name for name in found if ".layers." in name) == [
        f"encoder.layers.{i}.w" for i in origins
    ]
    for i, (base, makam, lyra) in origins.items():
        start = tensors["base"][f"encoder.layers.{base}.w"].double().numpy()
        total = tensors["makam"][f"encoder.layers.{makam}.w"].double().numpy() - start
        if lyra is not None:
            total = total + tensors["lyra"][f"encoder.layers.{lyra}.w"].double().numpy() - start
        np.testing.assert_allclose(
            found[f"encoder.layers.{i}.w"].numpy(), start + 0.2 * total, rtol=1e-6, atol=1e-6
        )
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["num_hidden_layers"] == 5


def test_layers_that_are_not_there_can_not_be_stacked(tmp_path):
    family(tmp_path, ["makam"])
    stack = [
        StackSlice(base=LayerRange(first=0, last=1), models=[LayerRange(first=10, last=11)]),
        StackSlice(base=LayerRange(first=0, last=1), models=[LayerRange(first=0, last=0)]),
    ]
    with pytest.raises(RecipeError) as caught:
        merge.plan(recipe(["makam"], stack=stack), tmp_path)
    assert "stack[0].models[0]: makam has no layers 10 to 11" in str(caught.value)
    assert "stack[1].models[0]: 0 to 0 are not 2 layers as in base" in str(caught.value)


def test_a_range_of_layers_has_a_short_form_and_runs_forward():
    assert LayerRange.model_validate([2, 5]) == LayerRange(first=2, last=5)
    with pytest.raises(ValidationError, match="the last layer, 1, comes before the first, 3"):
        LayerRange(first=3, last=1)
