"""Tensors that the checkpoints do not share: refused, kept or left out, as the recipe says."""

import numpy as np
import pytest
import torch
from small_models import CONFIG, family, formula, recipe, same_bits, write_model

from mergekit_audio import merge
from mergekit_audio.errors import LayoutError
from mergekit_audio.methods.linear import Linear

NORM = "encoder.layer_norm.weight"
Q0 = "encoder.layers.0.attention.q_proj.weight"


@pytest.fixture
def uneven(tmp_path):
    """Return the tensors of a base and of models of which one lacks a tensor and one has more."""
    tensors = family(tmp_path)
    del tensors["makam"][NORM]
    tensors["lyra"]["head.weight"] = torch.ones(3, 8)
    for name in ("makam", "lyra"):
        write_model(tmp_path / name, tensors[name])
    return tensors


def test_missing_and_surplus_tensors_are_refused_with_the_ways_out(tmp_path, uneven):
    with pytest.raises(LayoutError) as caught:
        merge.plan(recipe(), tmp_path)
    assert f"makam does not hold the tensors of base (1 difference):\n  missing tensor {NORM}" in (
        caught.value.message
    )
    assert "unexpected tensor head.weight [3, 8] float32" in caught.value.message
    assert "`missing: base`" in caught.value.hint


def test_missing_tensors_are_kept_from_the_base(tmp_path, uneven):
    plan = merge.plan(recipe(missing="base"), tmp_path)
    result = dict(merge.merged_tensors(plan))
    assert same_bits(result[NORM], uneven["base"][NORM])
    assert "head.weight" not in result
    row = next(row for row in plan.rows if row.name == NORM)
    assert (row.action, row.reason, row.fixed) == ("copy", "missing in makam", True)
    assert "lyra: head.weight is left out, since base lacks it" in plan.notes
    theta, _ = formula(uneven, Q0, dict.fromkeys(("makam", "lyra", "carnatic"), 1.0), 0.2)
    np.testing.assert_allclose(result[Q0].numpy(), theta, rtol=3e-7, atol=3e-7)


def test_only_what_all_have_is_written(tmp_path, uneven):
    result = dict(merge.merged_tensors(merge.plan(recipe(missing="intersect"), tmp_path)))
    assert sorted(result) == sorted(set(uneven["base"]) - {NORM})


def test_tensors_of_another_shape_are_kept_from_the_base_if_asked(tmp_path):
    tensors = family(tmp_path, ["makam"])
    tensors["makam"][Q0] = torch.ones(9, 8)
    write_model(tmp_path / "makam", tensors["makam"])
    with pytest.raises(LayoutError, match=r"shape \[9, 8\], expected \[8, 8\]") as caught:
        merge.plan(recipe(["makam"]), tmp_path)
    assert "`mismatched: base`" in caught.value.hint
    plan = merge.plan(recipe(["makam"], mismatched="base"), tmp_path)
    assert same_bits(dict(merge.merged_tensors(plan))[Q0], tensors["base"][Q0])
    row = next(row for row in plan.rows if row.name == Q0)
    assert row.reason == "another shape in makam"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_dtypes_are_read_exactly_and_noted(tmp_path, dtype):
    tensors = family(tmp_path, ["makam"])
    tensors["makam"] = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in tensors["makam"].items()
    }
    write_model(tmp_path / "makam", tensors["makam"])
    plan = merge.plan(recipe(["makam"]), tmp_path)
    found = dict(merge.merged_tensors(plan))[Q0]
    theta, _ = formula(tensors, Q0, {"makam": 1.0}, 0.2)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), theta, rtol=3e-7, atol=3e-7)
    name = str(dtype).removeprefix("torch.")
    assert f"makam: 10 tensors {name} where the base has float32" in plan.notes


def test_a_sixteen_bit_merge_is_the_float32_merge_rounded(tmp_path):
    tensors = family(tmp_path, dtype=torch.bfloat16)
    single = dict(merge.merged_tensors(merge.plan(recipe(dtype="float32"), tmp_path)))
    half = dict(merge.merged_tensors(merge.plan(recipe(), tmp_path)))
    for name, value in tensors["base"].items():
        if value.is_floating_point():
            assert half[name].dtype == torch.bfloat16
            assert half[name].equal(single[name].bfloat16())


@pytest.mark.parametrize("stored_by", ["base", "model"])
def test_tied_embeddings_may_be_stored_once_or_twice(tmp_path, stored_by):
    tensors = family(tmp_path, ["makam"])
    config = {**CONFIG, "tie_word_embeddings": True}
    generator = np.random.default_rng(0)
    for name in ("base", "makam"):
        values = torch.as_tensor(generator.standard_normal((6, 4))).float()
        tensors[name]["model.embed_tokens.weight"] = values
        if (stored_by == "base") == (name == "base"):
            tensors[name]["lm_head.weight"] = values.clone()
        write_model(tmp_path / name, tensors[name], config=config)
    plan = merge.plan(recipe(["makam"], scale=1.0), tmp_path)
    result = dict(merge.merged_tensors(plan))
    expected = tensors["makam"]["model.embed_tokens.weight"]
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in tensors["base"]:
            torch.testing.assert_close(result[name], expected)
    assert sorted(result) == sorted(tensors["base"])
    assert any("lm_head.weight is" in note for note in plan.notes)


def test_a_recipe_without_a_base_takes_names_and_configs_from_the_first_model(tmp_path):
    tensors = family(tmp_path, ["makam", "lyra"])
    plain = recipe(["makam", ("lyra", 3.0)], method=Linear(), scale=1.0)
    merge.run(merge.plan(plain.model_copy(update={"base": None}), tmp_path))
    plan = merge.plan(plain.model_copy(update={"base": None}), tmp_path)
    expected = (tensors["makam"][Q0].double() + 3 * tensors["lyra"][Q0].double()) / 4
    found = dict(merge.merged_tensors(plan))[Q0]
    torch.testing.assert_close(found.double(), expected, rtol=3e-7, atol=3e-7)
    assert (tmp_path / "merged" / "config.json").is_file()


def test_a_model_of_another_base_is_noted_or_refused(tmp_path):
    from mergekit_audio.errors import InputError

    for seed, name in enumerate(("base", "makam")):
        generator = np.random.default_rng(seed)
        state = {"w": torch.as_tensor(generator.standard_normal((64, 64))).float()}
        write_model(tmp_path / name, state)
    plan = merge.plan(recipe(["makam"]), tmp_path)
    assert any("makam was not trained from base" in note for note in plan.notes)
    with pytest.raises(InputError, match="makam was not trained from base"):
        merge.plan(recipe(["makam"], unrelated="error"), tmp_path)
