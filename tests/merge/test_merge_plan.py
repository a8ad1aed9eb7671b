"""What a plan decides, and what it refuses before anything is written."""

import json

import pytest
import torch
from small_models import family, moved, random_tensors, recipe, respelled, write_model

from mergekit_audio import merge
from mergekit_audio.errors import InputError, LayoutError, RecipeError
from mergekit_audio.methods.weighted_average import WeightedAverage
from mergekit_audio.recipe.merge import Scale, ScaleOverride


def scales(default, *overrides):
    return Scale(
        default=default,
        overrides=[ScaleOverride(match=glob, scale=value) for glob, value in overrides],
    )


def test_rows_say_what_happens_to_each_tensor_and_why(tmp_path):
    family(tmp_path)
    plan = merge.plan(
        recipe(
            scale=scales(0.2, ("encoder.layers.{0-1}.*", 0.5), ("encoder.layer_norm.*", 0)),
            exclude=["feature_extractor.*"],
            dtype="float16",
        ),
        tmp_path,
    )
    rows = {row.stored_name: row for row in plan.rows}
    assert list(rows) == sorted(rows)
    found = {name: (row.action, row.reason, row.scale, row.dtype) for name, row in rows.items()}
    assert found["encoder.layers.0.attention.q_proj.bias"] == ("merge", "", 0.5, "float16")
    assert found["encoder.layers.10.attention.q_proj.weight"] == ("merge", "", 0.2, "float16")
    assert found["encoder.layer_norm.weight"] == ("copy", "scale 0", 0.0, "float16")
    assert found["feature_extractor.conv_layers.0.conv.weight"] == (
        "copy",
        "excluded by 'feature_extractor.*'",
        0.0,
        "float16",
    )
    assert found["encoder.positions"] == ("copy", "int64, not floating point", 0.0, "int64")
    assert found["encoder.trained"] == ("copy", "bool, not floating point", 0.0, "bool")


def test_as_dict_is_json_and_counts(tmp_path):
    family(tmp_path)
    value = merge.plan(recipe(exclude=["encoder.temperature"]), tmp_path).as_dict()
    assert json.loads(json.dumps(value)) == value
    assert value["merged_tensors"] == 9
    assert value["copied_tensors"] == 3
    assert len(value["tensors"]) == 12
    assert value["output_exists"] is False
    assert {model["source"] for model in value["models"]} == {"makam", "lyra", "carnatic"}


def test_the_order_of_the_models_is_that_of_their_content(tmp_path):
    family(tmp_path)
    forward = merge.plan(recipe([("makam", 1.0), ("lyra", 2.0), ("makam", -1.0)]), tmp_path)
    backward = merge.plan(recipe([("makam", -1.0), ("lyra", 2.0), ("makam", 1.0)]), tmp_path)
    assert forward.recipe == backward.recipe
    assert [model.digest for model in forward.models] == sorted(
        model.digest for model in forward.models
    )
    weights = [entry.weight for entry in forward.recipe.models if entry.model == "makam"]
    assert weights == [-1.0, 1.0]


def test_globs_that_match_nothing_are_faults_of_the_recipe_all_at_once(tmp_path):
    family(tmp_path)
    bad = recipe(
        scale=scales(0.2, ("feature_extracter.*", 0), ("encoder.*", 0.1), ("decoder.*", 1)),
        exclude=["encoder.layers.{5-9}.*"],
    )
    with pytest.raises(RecipeError) as caught:
        merge.plan(bad, tmp_path)
    keys = [fault.key for fault in caught.value.faults]
    assert keys == ["exclude[0]", "scale.overrides[0].match", "scale.overrides[2].match"]
    assert (
        "'feature_extracter.*' matches no tensor of base; did you mean 'feature_extractor.*'?"
        in (caught.value.message)
    )
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("glob", ["", "encoder.layers.{0-5.*", "encoder.layers.{5-0}.*"])
def test_broken_globs_are_faults_of_the_recipe(tmp_path, glob):
    family(tmp_path)
    with pytest.raises(RecipeError, match=r"exclude\[0\]: "):
        merge.plan(recipe(exclude=[glob]), tmp_path)


def test_globs_match_both_spellings_of_weight_norm(tmp_path):
    base = random_tensors(0)
    write_model(tmp_path / "base", respelled(base))
    write_model(tmp_path / "makam", moved(base, 1))
    for glob in ("*.weight_g", "*.parametrizations.weight.original0"):
        plan = merge.plan(recipe(["makam"], exclude=[glob]), tmp_path)
        excluded = [row.stored_name for row in plan.rows if row.reason.startswith("excluded")]
        assert excluded == ["encoder.pos_conv_embed.conv.parametrizations.weight.original0"]


def test_an_override_that_others_leave_nothing_is_noted(tmp_path):
    family(tmp_path)
    plan = merge.plan(
        recipe(scale=scales(0.2, ("encoder.layers.*", 0.1), ("encoder.layers.0.*", 0.5))), tmp_path
    )
    assert plan.notes == (
        "scale.overrides[1] ('encoder.layers.0.*') sets λ of no tensor: earlier ones, "
        "`exclude` and integer tensors leave it none",
    )


def test_equal_models_and_changed_buffers_are_noted(tmp_path):
    tensors = family(tmp_path, ["makam"])
    write_model(tmp_path / "twin", tensors["makam"])
    write_model(tmp_path / "same", tensors["base"])
    other = moved(tensors["base"], 7)
    other["encoder.positions"] = other["encoder.positions"] + 1
    write_model(tmp_path / "other", other)
    plan = merge.plan(recipe(["makam", "twin", "same", "other"]), tmp_path)
    assert sorted(plan.notes) == [
        "other: encoder.positions (int64) is another; the base's is kept",
        "same holds the same tensors as the base: its task vector is zero",
        "twin holds the same tensors as makam",
    ]


def test_every_difference_of_every_model_is_listed(tmp_path):
    tensors = family(tmp_path)
    makam = dict(tensors["makam"])
    makam["encoder.layer_norm.weight"] = torch.zeros(9)
    del makam["encoder.temperature"]
    lyra = dict(tensors["lyra"])
    lyra["extra.weight"] = torch.zeros(2)
    lyra["encoder.layers.0.attention.q_proj.bias"] = torch.zeros(8, dtype=torch.int32)
    write_model(tmp_path / "makam", makam)
    write_model(tmp_path / "lyra", lyra)
    with pytest.raises(LayoutError) as caught:
        merge.plan(recipe(), tmp_path)
    for part in (
        "makam does not hold the tensors of base (2 differences)",
        "encoder.layer_norm.weight: shape [9], expected [8]",
        "missing tensor encoder.temperature [] float32",
        "lyra does not hold the tensors of base (2 differences)",
        "unexpected tensor extra.weight [2] float32",
        "encoder.layers.0.attention.q_proj.bias: dtype int32, expected float32",
    ):
        assert part in caught.value.message
    assert caught.value.exit_code == 4


def test_every_model_that_cannot_be_read_is_listed(tmp_path):
    family(tmp_path, ["makam"])
    (tmp_path / "makam" / "model.safetensors").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        merge.plan(recipe(["makam", "empty"]), tmp_path)
    assert "makam/model.safetensors: the file is empty" in caught.value.message
    assert "empty: no weights here" in caught.value.message


def test_values_that_are_not_finite_are_found_in_every_model(tmp_path):
    tensors = family(tmp_path)
    for folder, name in (("makam", "encoder.temperature"), ("lyra", "encoder.layer_norm.weight")):
        tensors[folder][name].view(-1)[0] = float("nan")
        write_model(tmp_path / folder, tensors[folder])
    plan = merge.plan(recipe(), tmp_path)
    with pytest.raises(InputError) as caught:
        merge.run(plan)
    assert not plan.output.exists()
    assert (
        "makam/model.safetensors: tensor 'encoder.temperature' holds 1 NaN" in caught.value.message
    )
    assert "lyra/model.safetensors: tensor 'encoder.layer_norm.weight'" in caught.value.message


def test_weights_that_the_method_cannot_use_are_found_before_any_file_is_opened(tmp_path):
    bad = recipe([("makam", 1.0), ("lyra", -1.0)], method=WeightedAverage())
    with pytest.raises(RecipeError, match="sum of the weights, which is 0"):
        merge.plan(bad, tmp_path)
