"""Δ kept in memory gives the bits of a merge, at any λ."""

import pytest
import torch
from small_models import family, moved, random_tensors, recipe, same_bits, write_model

from mergekit_audio import merge
from mergekit_audio.recipe.merge import Scale, ScaleOverride


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("output_dtype", [None, "float16"])
def test_apply_delta_gives_the_bits_of_merged_tensors(tmp_path, dtype, output_dtype):
    family(tmp_path, dtype=dtype)
    plan = merge.plan(recipe(dtype=output_dtype), tmp_path)
    delta = merge.compute_delta(plan)
    for scale in (0.0, 0.1, 0.2, 1 / 3, 1.0, -1.0):
        point = merge.plan(recipe(scale=scale, dtype=output_dtype), tmp_path)
        expected = dict(merge.merged_tensors(point))
        found = merge.apply_delta(plan, delta, scale)
        assert list(found) == sorted(expected)
        assert all(same_bits(found[name], expected[name]) for name in expected), scale


def test_overrides_and_excluded_tensors_keep_their_part(tmp_path):
    tensors = family(tmp_path)
    overrides = [ScaleOverride(match="encoder.layers.0.*", scale=0.75)]
    settings = {"exclude": ["feature_extractor.*"]}
    plan = merge.plan(recipe(scale=Scale(default=0.2, overrides=overrides), **settings), tmp_path)
    delta = merge.compute_delta(plan)
    assert not [name for name in delta if name.startswith("feature_extractor")]
    assert "encoder.positions" not in delta
    found = merge.apply_delta(plan, delta, 0.9)
    expected = dict(
        merge.merged_tensors(
            merge.plan(recipe(scale=Scale(default=0.9, overrides=overrides), **settings), tmp_path)
        )
    )
    assert all(same_bits(found[name], expected[name]) for name in expected)
    conv = "feature_extractor.conv_layers.0.conv.weight"
    assert same_bits(found[conv], tensors["base"][conv])


def test_scale_zero_is_the_base_itself(tmp_path):
    base = random_tensors(0)
    base["encoder.layer_norm.weight"][0] = -0.0
    write_model(tmp_path / "base", base)
    write_model(tmp_path / "makam", moved(base, 1))
    plan = merge.plan(recipe(["makam"], scale=0.2), tmp_path)
    found = merge.apply_delta(plan, merge.compute_delta(plan), 0.0)
    assert all(same_bits(found[name], base[name]) for name in base)


def test_progress_counts_the_tensors(tmp_path):
    family(tmp_path)
    plan = merge.plan(recipe(), tmp_path)
    events = []
    merge.compute_delta(plan, events.append)
    assert [event.done for event in events] == list(range(11))
    assert {event.total for event in events} == {10}
