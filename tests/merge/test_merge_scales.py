"""Many λ from one reading, and weight norm merged as the effective kernel."""

import numpy as np
import pytest
import torch
from small_models import family, folder_bytes, recipe, same_bits, write_model

from mergekit_audio import merge
from mergekit_audio.errors import InputError, RecipeError
from mergekit_audio.lock import verify
from mergekit_audio.rebuild import rebuild
from mergekit_audio.recipe.merge import Group, Scale, ScaleOverride

G, V = (f"encoder.pos_conv_embed.conv.weight_{part}" for part in "gv")


def test_each_scale_is_the_merge_at_this_scale(tmp_path):
    family(tmp_path)
    locks = merge.run_scales(merge.plan(recipe(), tmp_path), [0.0, 0.2, 1.0])
    assert [folder.name for folder in locks] == ["scale_0", "scale_0.2", "scale_1"]
    for folder, scale in zip(locks, (0.0, 0.2, 1.0), strict=True):
        name = f"alone_{scale:g}"
        merge.run(merge.plan(recipe(scale=scale, output=name), tmp_path))
        alone, found = folder_bytes(tmp_path / name), folder_bytes(folder)
        assert found["model.safetensors"] == alone["model.safetensors"]
        assert found["config.json"] == alone["config.json"]
        assert verify(folder) == []
        assert rebuild(folder) == []


def test_overrides_and_groups_keep_their_scale(tmp_path):
    tensors = family(tmp_path)
    scale = Scale(default=0.1, overrides=[ScaleOverride(match="feature_extractor.*", scale=0.0)])
    plan = merge.plan(
        recipe(scale=scale, groups=[Group(match="encoder.layer_norm.*", scale=0.5)]), tmp_path
    )
    merge.run_scales(plan, [0.3, 0.9])
    folders = [tmp_path / "merged" / f"scale_{value}" for value in (0.3, 0.9)]
    from safetensors.torch import load_file

    states = [load_file(folder / "model.safetensors") for folder in folders]
    for name in tensors["base"]:
        same = states[0][name].equal(states[1][name])
        fixed = name.startswith(("feature_extractor.", "encoder.layer_norm."))
        assert same == (fixed or not tensors["base"][name].is_floating_point()), name


def test_a_scale_that_is_already_there_is_refused_before_any_is_written(tmp_path):
    family(tmp_path)
    plan = merge.plan(recipe(), tmp_path)
    (tmp_path / "merged" / "scale_1").mkdir(parents=True)
    (tmp_path / "merged" / "scale_1" / "mine").write_text("x")
    with pytest.raises(InputError, match="scale_1: the output already exists"):
        merge.run_scales(plan, [0.5, 1.0])
    assert [path.name for path in (tmp_path / "merged").iterdir()] == ["scale_1"]
    with pytest.raises(ValueError, match="twice"):
        merge.run_scales(plan, [0.5, 0.5])


def effective(state):
    g, v = state[G].double().numpy(), state[V].double().numpy()
    return g * v / np.sqrt((v**2).sum(axis=(0, 1), keepdims=True))


@pytest.mark.parametrize("scale", [0.2, 1.0, -0.5])
def test_fused_weight_norm_moves_the_effective_kernel(tmp_path, scale):
    tensors = family(tmp_path)
    plan = merge.plan(recipe(weight_norm="fused", scale=scale), tmp_path)
    result = dict(merge.merged_tensors(plan))
    kernels = {name: effective(state) for name, state in tensors.items()}
    base = kernels.pop("base")
    expected = base + scale * sum(kernel - base for kernel in kernels.values())
    np.testing.assert_allclose(effective(result), expected, rtol=2e-5, atol=2e-6)
    norm = torch.linalg.vector_norm(tensors["base"][V], dim=(0, 1))
    torch.testing.assert_close(torch.linalg.vector_norm(result[V], dim=(0, 1)), norm)
    stored = dict(merge.merged_tensors(merge.plan(recipe(scale=scale), tmp_path)))
    assert not np.allclose(effective(stored), expected, rtol=2e-5, atol=2e-6)
    others = [name for name in result if name not in (G, V)]
    assert all(same_bits(result[name], stored[name]) for name in others)


def test_fused_weight_norm_keeps_the_base_s_bits_where_nothing_moves(tmp_path):
    tensors = family(tmp_path, ["makam"])
    write_model(tmp_path / "makam", tensors["base"])
    moved = dict(merge.merged_tensors(merge.plan(recipe(["makam"], weight_norm="fused"), tmp_path)))
    assert same_bits(moved[V], tensors["base"][V])
    assert same_bits(moved[G], tensors["base"][G])
    zero = recipe(["makam"], weight_norm="fused", scale=0.0)
    result = dict(merge.merged_tensors(merge.plan(zero, tmp_path)))
    assert all(same_bits(result[name], tensors["base"][name]) for name in result)


def test_delta_in_memory_is_the_merge_for_fused_kernels_too(tmp_path):
    family(tmp_path)
    plan = merge.plan(recipe(weight_norm="fused"), tmp_path)
    found = merge.apply_delta(plan, merge.compute_delta(plan), 0.6)
    expected = dict(
        merge.merged_tensors(merge.plan(recipe(weight_norm="fused", scale=0.6), tmp_path))
    )
    assert all(same_bits(found[name], expected[name]) for name in expected)


def test_g_and_v_in_two_groups_can_not_be_fused(tmp_path):
    family(tmp_path)
    groups = [Group(match="*.weight_g", scale=0.0)]
    plan = merge.plan(recipe(weight_norm="fused", groups=groups), tmp_path)
    with pytest.raises(RecipeError, match=r"weight_norm: fused, but .*weight_g and .*weight_v"):
        dict(merge.merged_tensors(plan))
