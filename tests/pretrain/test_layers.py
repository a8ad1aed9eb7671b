"""What is kept and computed for the way back: frozen fronts, checkpointed and compiled layers."""

import pytest
import torch
from checkpoints import make_mert_checkpoint
from pretraining import SMALL, make_project, make_recipe

from mergekit_audio import pretrain
from mergekit_audio.backbones.mert import Mert
from mergekit_audio.pretrain import objective
from mergekit_audio.pretrain.objective import PretrainModel, prepare_layers
from mergekit_audio.weights.checkpoint import Checkpoint


def make_model(folder, **settings):
    make_mert_checkpoint(folder, overrides=SMALL | {"layerdrop": 0.0}, seed=1)
    base = Checkpoint.open(str(folder))
    backbone = Mert().build(base.config, base.state_dict(), training=True)
    return PretrainModel(backbone, {}, {}, feature_grad_mult=0.1, **settings)


def step(model, seed=0):
    """Encode half-masked noise; return the saved bytes, the output and all gradients."""
    sizes = {}

    def pack(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    model.zero_grad()
    torch.manual_seed(seed)
    wave = 0.1 * torch.randn(2, 32_000)
    mask = torch.rand(2, 99) < 0.5
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        frames, penalty = model.encode(wave, mask)
        loss = frames.square().sum() + penalty
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return sum(sizes.values()), frames.detach(), gradients


@pytest.mark.parametrize("resting", [True, False])
def test_a_frozen_front_has_no_graph(tmp_path, monkeypatch, resting):
    """Its backward does not run: its features have none, in evaluation and in training mode."""
    model = make_model(tmp_path, eval_when_frozen=resting)
    model.backbone.feature_extractor.requires_grad_(False)
    model.train()
    seen = []

    def watched(front, wave, inner=objective.front_frames):
        features = inner(front, wave)
        seen.append(features)
        return features

    monkeypatch.setattr(objective, "front_frames", watched)
    _, _, gradients = step(model)
    assert model.backbone.feature_extractor.training != resting
    assert seen[0].grad_fn is None
    assert not seen[0].requires_grad
    assert "backbone.feature_projection.projection.weight" in gradients
    assert not any("feature_extractor" in name for name in gradients)


def test_checkpointed_layers_give_the_same_bits_and_keep_less(tmp_path):
    """Dropout too: its random numbers are drawn again as they were."""
    plain, checkpointed = make_model(tmp_path), make_model(tmp_path)
    for model in (plain, checkpointed):
        model.backbone.feature_extractor.requires_grad_(False)
    prepare_layers(checkpointed, checkpointing=True, compiling=False)
    assert plain.state_dict().keys() == checkpointed.state_dict().keys()
    kept, frames, gradients = step(plain)
    kept_less, same_frames, same_gradients = step(checkpointed)
    torch.testing.assert_close(same_frames, frames, rtol=0, atol=0)
    assert gradients.keys() == same_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(same_gradients[name], gradient, rtol=0, atol=0)
    assert kept_less < 0.7 * kept


def test_frozen_layers_at_rest_are_checkpointed_too(tmp_path):
    """Where only what comes before trains, gradients flow through layers in evaluation mode."""
    plain, checkpointed = make_model(tmp_path), make_model(tmp_path)
    prepare_layers(checkpointed, checkpointing=True, compiling=False)
    results = []
    for model in (plain, checkpointed):
        model.backbone.feature_extractor.requires_grad_(False)
        model.backbone.encoder.requires_grad_(False)
        model.train()
        assert not model.backbone.encoder.training
        results.append(step(model))
    (kept, _, gradients), (kept_less, _, same) = results
    assert kept_less < 0.8 * kept
    for name, gradient in gradients.items():
        torch.testing.assert_close(same[name], gradient, rtol=0, atol=0)


def test_a_recipe_with_checkpointing_trains_the_same_weights(tmp_path):
    make_project(tmp_path)
    stages = [{"name": "all", "train": ["*"], "steps": 2, "peak_lr": 1e-3}]
    for name, asked in (("plain", False), ("saving", True)):
        recipe = make_recipe(
            stages=stages, output=name, arguments={"gradient_checkpointing": asked}
        )
        pretrain.run(pretrain.plan(recipe, tmp_path))
    one, other = (
        Checkpoint.open(str(tmp_path / name)).state_dict() for name in ("plain", "saving")
    )
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize(("groups", "width"), [(2, 24), (2, 32), (3, 24)])
def test_bfloat16_is_near_float32_with_any_groups(tmp_path, groups, width):
    """Some CPUs compute grouped convolutions of 8 or 12 channels wrongly in bfloat16."""
    sizes = {"hidden_size": width, "num_conv_pos_embedding_groups": groups}
    still = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "layerdrop": 0.0}
    make_mert_checkpoint(
        tmp_path, overrides=SMALL | sizes | still | {"num_conv_pos_embeddings": 16}, seed=1
    )
    base = Checkpoint.open(str(tmp_path))
    model = Mert().build(base.config, base.state_dict(), training=False)
    position = model.encoder.pos_conv_embed
    hidden = torch.randn(2, 50, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = position(hidden)
        with torch.autocast("cpu", torch.bfloat16):
            found = position(hidden.bfloat16())
    assert float((found - expected).norm()) < 0.02 * float(expected.norm())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch's own
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiled_layers_compute_the_same(tmp_path):
    """With fullgraph set, a break of the graph would raise."""
    pytest.importorskip("torch._inductor")
    still = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "feat_proj_dropout": 0.0}
    make_mert_checkpoint(tmp_path, overrides=SMALL | still | {"layerdrop": 0.0}, seed=1)
    base = Checkpoint.open(str(tmp_path))
    results = []
    for compiling in (False, True):
        backbone = Mert().build(base.config, base.state_dict(), training=True)
        model = PretrainModel(backbone, {}, {}, feature_grad_mult=0.1)
        prepare_layers(model, checkpointing=False, compiling=compiling)
        results.append(step(model))
    (_, frames, gradients), (_, found, compiled) = results
    torch.testing.assert_close(found, frames, rtol=1e-4, atol=1e-5)
    assert gradients.keys() == compiled.keys()
    largest = max(float(gradient.norm()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        error = float((compiled[name] - gradient).norm())
        assert error <= 1e-4 * float(gradient.norm()) + 1e-6 * largest, name
