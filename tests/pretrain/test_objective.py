import numpy as np
import pytest
import torch
from checkpoints import make_mert_checkpoint
from pretraining import SMALL
from torch import nn

from mergekit_audio.backbones.mert import Mert
from mergekit_audio.errors import InputError
from mergekit_audio.pretrain.objective import PretrainModel, public_names, scale_gradient
from mergekit_audio.weights.checkpoint import Checkpoint

STILL = {name: 0.0 for name in ("hidden_dropout", "attention_dropout", "feat_proj_dropout")}


class Squares:
    """A teacher with a loss that is easy by hand: the squared distance to the target."""

    def loss(self, head, frames, target):
        error = (head(frames) - target).square().sum()
        return error, {"error": error.detach()}


def small_model(folder, **settings):
    make_mert_checkpoint(folder, overrides=SMALL | STILL | {"layerdrop": 0.0}, seed=1)
    base = Checkpoint.open(str(folder))
    backbone = Mert().build(base.config, base.state_dict(), training=True)
    torch.manual_seed(0)
    head = nn.Linear(16, 3)
    return PretrainModel(
        backbone, {"squares": head}, {"squares": Squares()}, **{"feature_grad_mult": 0.1} | settings
    )


def batch(clips, generator, *, masked):
    wave = torch.randn(clips, 4000, generator=generator)
    mask = torch.zeros(clips, 12, dtype=torch.bool)
    for row, count in enumerate(masked):
        mask[row, torch.randperm(12, generator=generator)[:count]] = True
    return wave, mask, torch.randn(clips, 12, 3, generator=generator)


def gradients(model, parts, frames, penalty=10.0):
    model.zero_grad()
    losses = []
    for wave, mask, target in parts:
        loss = model(wave, mask, {"squares": target}).loss({"squares": 0.5}, penalty, frames)
        loss.backward()
        losses.append(loss.item())
    return sum(losses), {
        n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None
    }


def test_two_micro_batches_equal_one_batch(tmp_path):
    model = small_model(tmp_path / "base")
    wave, mask, target = batch(8, torch.Generator().manual_seed(1), masked=[5] * 8)
    halves = [(wave[:4], mask[:4], target[:4]), (wave[4:], mask[4:], target[4:])]
    frames = float(mask.sum())
    loss, whole = gradients(model, [(wave, mask, target)], frames)
    split_loss, split = gradients(model, halves, frames)
    assert split_loss == pytest.approx(loss, rel=1e-5)
    assert whole.keys() == split.keys()
    assert len(whole) > 40
    for name in whole:
        torch.testing.assert_close(split[name], whole[name], rtol=1e-3, atol=2e-6)


def test_unequal_masks_are_normalised_over_the_window(tmp_path):
    """The mean of the micro-batches' means would be wrong: frames count, not micro-batches."""
    model = small_model(tmp_path / "base")
    wave, mask, target = batch(4, torch.Generator().manual_seed(1), masked=[2, 2, 9, 9])
    halves = [(wave[:2], mask[:2], target[:2]), (wave[2:], mask[2:], target[2:])]
    loss, whole = gradients(model, [(wave, mask, target)], 22.0, penalty=0.0)
    split_loss, split = gradients(model, halves, 22.0, penalty=0.0)
    assert split_loss == pytest.approx(loss, rel=1e-5)
    for name in whole:
        torch.testing.assert_close(split[name], whole[name], rtol=1e-3, atol=2e-6)


def test_loss_by_hand(tmp_path):
    model = small_model(tmp_path / "base").eval()
    model.backbone.config.apply_spec_augment = True  # or transformers ignores the mask it is given
    wave, mask, target = batch(2, torch.Generator().manual_seed(1), masked=[3, 4])
    with torch.no_grad():
        objective = model(wave, mask, {"squares": target})
        features = model.backbone.feature_extractor(wave).double().numpy()
        hidden = (
            model.backbone(wave, mask_time_indices=mask).last_hidden_state[mask].double().numpy()
        )
    weight = model.heads["squares"].weight.detach().double().numpy()
    bias = model.heads["squares"].bias.detach().double().numpy()
    error = np.square(hidden @ weight.T + bias - target[mask].double().numpy()).sum()
    expected = (0.5 * error + 10 * np.square(features).mean() * 7) / 20
    assert objective.masked_frames == 7
    assert objective.loss({"squares": 0.5}, 10.0, 20.0).item() == pytest.approx(expected, rel=1e-5)


def test_feature_grad_mult_scales_the_front_only(tmp_path):
    parts = [batch(2, torch.Generator().manual_seed(1), masked=[5, 5])]
    _, tenth = gradients(small_model(tmp_path / "a"), parts, 10.0)
    _, full = gradients(small_model(tmp_path / "a", feature_grad_mult=1.0), parts, 10.0)
    for name in full:
        factor = 0.1 if "feature_extractor" in name else 1.0
        torch.testing.assert_close(tenth[name], factor * full[name], rtol=1e-4, atol=1e-7)


def test_a_frozen_front_gets_no_gradient_and_rests(tmp_path):
    model = small_model(tmp_path / "base")
    for parameter in model.backbone.feature_extractor.parameters():
        parameter.requires_grad_(False)
    model.train()
    assert not model.backbone.feature_extractor.training
    assert model.backbone.encoder.training
    _, found = gradients(model, [batch(2, torch.Generator().manual_seed(1), masked=[5, 5])], 10.0)
    assert not any("feature_extractor" in name for name in found)
    awake = small_model(tmp_path / "base", eval_when_frozen=False).requires_grad_(False).train()
    assert awake.backbone.feature_extractor.training


def test_scale_gradient():
    values = torch.ones(3, requires_grad=True)
    (scale_gradient(values, 0.25) * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert values.grad.tolist() == [0.25, 0.5, 0.75]


def test_public_names_are_the_checkpoints(tmp_path):
    model = small_model(tmp_path / "base")
    names = set(public_names(model).values())
    backbone = set(Checkpoint.open(str(tmp_path / "base")).index)
    assert names == backbone | {"heads.squares.weight", "heads.squares.bias"}


def test_a_base_without_mask_vector_is_refused():
    with pytest.raises(InputError, match="no mask vector"):
        PretrainModel(nn.Linear(2, 2), {}, {}, feature_grad_mult=1.0)
