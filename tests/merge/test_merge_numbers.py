"""The numbers of a merge against NumPy in float64."""

import numpy as np
import pytest
import torch
from small_models import family, formula, moved, random_tensors, recipe, same_bits, write_model

from mergekit_audio import merge
from mergekit_audio.errors import InputError
from mergekit_audio.methods.weighted_average import WeightedAverage
from mergekit_audio.recipe.merge import Scale, ScaleOverride

MODELS = ("makam", "lyra", "carnatic")
ULP = {torch.float32: 2.0**-22, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}


def merged(root, **changes):
    return dict(merge.merged_tensors(merge.plan(recipe(**changes), root)))


@pytest.mark.parametrize("dtype", list(ULP), ids=str)
@pytest.mark.parametrize("scale", [0.2, -0.7, 1.0, 3.5])
def test_task_arithmetic_is_the_formula(tmp_path, dtype, scale):
    tensors = family(tmp_path, dtype=dtype)
    weights = {"makam": 1.0, "lyra": -0.5, "carnatic": 2.0}
    result = merged(tmp_path, models=list(weights.items()), scale=scale)
    for name, base in tensors["base"].items():
        if not base.is_floating_point():
            assert same_bits(result[name], base)
            continue
        theta, spread = formula(tensors, name, weights, scale)
        bound = ULP[dtype] * (np.abs(base.double().numpy()) + abs(scale) * spread)
        assert result[name].dtype == dtype
        assert (np.abs(result[name].double().numpy() - theta) <= bound).all(), name


def test_float32_results_are_the_float64_results_rounded_once(tmp_path):
    tensors = family(tmp_path)
    plan = merge.plan(recipe(), tmp_path)
    order = [entry.model for entry in plan.recipe.models]
    for name, value in merge.merged_tensors(plan):
        base = tensors["base"][name]
        if base.is_floating_point():
            double = base.double().numpy()
            total = np.zeros_like(double)
            for model in order:
                total = total + (tensors[model][name].double().numpy() - double)
            expected = (total * 0.2 + double).astype(np.float32)
            assert same_bits(value, torch.as_tensor(expected)), name


def test_weighted_average_is_the_mean_of_the_models(tmp_path):
    tensors = family(tmp_path)
    weights = {"makam": 1.0, "lyra": 3.0, "carnatic": -0.5}
    result = merged(tmp_path, models=list(weights.items()), method=WeightedAverage(), scale=1.0)
    for name, base in tensors["base"].items():
        if base.is_floating_point():
            values = [w * tensors[m][name].double().numpy() for m, w in weights.items()]
            expected = np.sum(values, axis=0) / 3.5
            np.testing.assert_allclose(result[name].numpy(), expected, rtol=3e-7, atol=3e-7)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_weight_averaging_is_task_arithmetic_at_one_over_n(tmp_path, count):
    names = [f"culture_{i}" for i in range(count)]
    family(tmp_path, names)
    average = merged(tmp_path, models=names, method=WeightedAverage(), scale=1.0)
    task = merged(tmp_path, models=names, scale=1 / count)
    assert all(same_bits(average[name], task[name]) for name in task)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_scale_zero_gives_the_bits_of_the_base(tmp_path, dtype):
    base = random_tensors(0, dtype)
    base["encoder.layer_norm.weight"][:2] = -0.0
    write_model(tmp_path / "base", base)
    write_model(tmp_path / "makam", moved(base, 1))
    result = merged(tmp_path, models=["makam"], scale=0.0)
    assert all(same_bits(result[name], base[name]) for name in base)


def test_weight_zero_and_equal_models_give_the_values_of_the_base(tmp_path):
    base = random_tensors(0)
    for name in ("base", "makam"):
        write_model(tmp_path / name, base)
    write_model(tmp_path / "lyra", moved(base, 1))
    result = merged(tmp_path, models=["makam", ("lyra", 0.0)], scale=0.3)
    assert all(result[name].equal(base[name]) for name in base)


def test_a_negative_weight_is_a_negative_task_vector(tmp_path):
    tensors = family(tmp_path, ["makam"])
    result = merged(tmp_path, models=[("makam", -1.0)], scale=0.5)
    name = "encoder.layers.0.attention.q_proj.weight"
    base, makam = tensors["base"][name].double(), tensors["makam"][name].double()
    torch.testing.assert_close(result[name].double(), base - 0.5 * (makam - base))


def test_overrides_by_glob_and_the_first_that_matches_counts(tmp_path):
    tensors = family(tmp_path)
    scale = Scale(
        default=0.2,
        overrides=[
            ScaleOverride(match="feature_extractor.*", scale=0.0),
            ScaleOverride(match="encoder.layers.{0-5}.*.bias", scale=1.5),
            ScaleOverride(match="encoder.layers.{0-5}.*", scale=-0.4),
        ],
    )
    result = merged(tmp_path, scale=scale)
    expected = {
        "feature_extractor.conv_layers.0.conv.weight": 0.0,
        "encoder.layers.0.attention.q_proj.bias": 1.5,
        "encoder.layers.0.attention.q_proj.weight": -0.4,
        "encoder.layers.1.feed_forward.weight": -0.4,
        "encoder.layers.10.attention.q_proj.weight": 0.2,
        "encoder.layer_norm.weight": 0.2,
    }
    for name, factor in expected.items():
        theta, _ = formula(tensors, name, dict.fromkeys(MODELS, 1.0), factor)
        np.testing.assert_allclose(result[name].numpy(), theta, rtol=3e-7, atol=3e-7)
    conv = "feature_extractor.conv_layers.0.conv.weight"
    assert same_bits(result[conv], tensors["base"][conv])


def test_excluded_and_integer_tensors_are_the_base_s(tmp_path):
    tensors = family(tmp_path, ["makam"])
    other = moved(tensors["base"], 9)
    other["encoder.positions"] = other["encoder.positions"] + 100
    write_model(tmp_path / "lyra", other)
    result = merged(tmp_path, models=["makam", "lyra"], exclude=["encoder.layers.*"])
    for name, base in tensors["base"].items():
        copied = name.startswith("encoder.layers.") or not base.is_floating_point()
        assert same_bits(result[name], base) == copied, name


def test_weight_norm_is_merged_as_stored(tmp_path):
    tensors = family(tmp_path)
    result = merged(tmp_path)
    for part in ("weight_g", "weight_v"):
        name = f"encoder.pos_conv_embed.conv.{part}"
        theta, _ = formula(tensors, name, dict.fromkeys(MODELS, 1.0), 0.2)
        np.testing.assert_allclose(result[name].numpy(), theta, rtol=3e-7, atol=3e-7)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_output_dtype_is_reached_in_one_rounding(tmp_path, dtype):
    tensors = family(tmp_path)
    result = merged(tmp_path, dtype=dtype, exclude=["encoder.layer_norm.*"])
    target = getattr(torch, dtype)
    for name, base in tensors["base"].items():
        if not base.is_floating_point():
            assert same_bits(result[name], base)
        elif name == "encoder.layer_norm.weight":
            assert same_bits(result[name], base.to(target))
        else:
            theta, _ = formula(tensors, name, dict.fromkeys(MODELS, 1.0), 0.2)
            assert result[name].dtype == target
            error = np.abs(result[name].double().numpy() - theta)
            assert (error <= ULP[target] / 2 * np.abs(theta) + 1e-7).all()


def test_values_that_do_not_fit_the_output_dtype_are_refused(tmp_path):
    tensors = family(tmp_path, ["makam"])
    tensors["base"]["encoder.layer_norm.weight"][3] = 70_000.0
    write_model(tmp_path / "base", tensors["base"])
    message = (
        r"encoder\.layer_norm\.weight: 1 merged values do not fit float16: "
        r"found 70000, its largest is 65504"
    )
    with pytest.raises(InputError, match=message):
        merged(tmp_path, models=["makam"], dtype="float16", exclude=["encoder.layer_norm.*"])


def test_a_scale_that_overflows_float32_is_refused(tmp_path):
    family(tmp_path, ["makam"])
    with pytest.raises(InputError, match=r"merged values do not fit float32") as caught:
        merged(tmp_path, models=["makam"], scale=1e40)
    assert caught.value.hint == "choose a smaller scale"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("folder", ["base", "makam"])
def test_values_that_are_not_finite_are_refused_unless_allowed(tmp_path, folder, value):
    tensors = family(tmp_path, ["makam"])
    tensors[folder]["encoder.layers.0.attention.q_proj.bias"][2] = value
    write_model(tmp_path / folder, tensors[folder])
    with pytest.raises(InputError, match=rf"{folder}/model\.safetensors.*q_proj\.bias"):
        merged(tmp_path, models=["makam"])
    allowed = merged(tmp_path, models=["makam"], allow_nonfinite=True, dtype="float16")
    bad = ~allowed["encoder.layers.0.attention.q_proj.bias"].isfinite()
    assert bad.nonzero().tolist() == [[2]]
    assert all(
        value.isfinite().all() for name, value in allowed.items() if "q_proj.bias" not in name
    )
