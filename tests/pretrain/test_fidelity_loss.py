"""MERT's whole loss of an accumulation window, written once more in float64 from the paper."""

import numpy as np
import pytest
import torch
from checkpoints import make_mert_checkpoint
from pretraining import SMALL
from torch import nn

from mergekit_audio.backbones.mert import Mert
from mergekit_audio.pretrain.objective import PretrainModel
from mergekit_audio.teachers._cqt import OpenCqt
from mergekit_audio.teachers._nce import CodebookHead, OpenCodebookTeacher
from mergekit_audio.weights.checkpoint import Checkpoint

CODEBOOKS, ROWS, FINAL, BINS, FRAMES = 8, 1028, 4, 6, 24
ALPHA, PENALTY, FEATURE_GRAD = 0.7, 10.0, 0.1
STILL = {
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "layerdrop": 0.0,
}


class Codes(OpenCodebookTeacher):
    """A teacher whose codes the test gives."""

    def targets(self, wave):
        raise AssertionError("codes are given")


@pytest.fixture
def model(tmp_path):
    make_mert_checkpoint(tmp_path, overrides=SMALL | STILL, seed=1)
    base = Checkpoint.open(str(tmp_path))
    backbone = Mert().build(base.config, base.state_dict(), training=True)
    torch.manual_seed(0)
    cqt = OpenCqt(
        {"bins": BINS, "bins_per_octave": 3, "lowest_hz": 400.0, "magnitude": "linear"}, "cpu"
    )
    return PretrainModel(
        backbone,
        {"codes": CodebookHead(16, CODEBOOKS, ROWS, FINAL), "cqt": nn.Linear(16, BINS)},
        {"codes": Codes(CODEBOOKS, ROWS, FINAL, 0.1), "cqt": cqt},
        feature_grad_mult=FEATURE_GRAD,
    )


def micro_batches(model):
    """Two micro-batches with different mask counts: 5 and 11 frames a row."""
    generator = torch.Generator().manual_seed(3)
    for count in (5, 11):
        wave = 0.3 * torch.randn(2, 400 + 320 * (FRAMES - 1), generator=generator)
        mask = torch.zeros(2, FRAMES, dtype=torch.bool)
        for row in mask:
            row[torch.randperm(FRAMES, generator=generator)[:count]] = True
        codes = torch.randint(ROWS, (2, FRAMES, CODEBOOKS), generator=generator)
        yield wave, mask, {"codes": codes, "cqt": model.teachers["cqt"].targets(wave)}


def losses(model, parts, frames):
    """The trainer's loss, part by part of the window."""
    weights = {"codes": ALPHA, "cqt": 1.0}
    return [model(*part).loss(weights, PENALTY, frames) for part in parts]


def naive_cross_entropy(head, frames, codes):
    """Σ over frames and codebooks of the positive against each negative in turn, float64.

    As fairseq has it: the positive stands first, and where it turns up among all rows its logit
    is -inf.
    """
    weight, bias, table = (
        value.detach().double().numpy()
        for value in (head.final_proj.weight, head.final_proj.bias, head.label_embs)
    )
    total = 0.0
    for frame, labels in zip(frames.detach().double().numpy(), codes.numpy(), strict=True):
        queries = (weight @ frame + bias).reshape(CODEBOOKS, FINAL)
        for query, rows, label in zip(queries, table, labels, strict=True):
            cosines = rows @ query / (np.linalg.norm(rows, axis=1) * np.linalg.norm(query))
            logits = np.concatenate([[cosines[label]], cosines]) / 0.1
            logits[1 + label] = -np.inf
            total -= logits[0] - np.log(np.exp(logits).sum())
    return total


def encoded(backbone, wave, mask):
    """The stock HubertModel's features and frames, with its own masking."""
    backbone.config.apply_spec_augment = True  # or transformers ignores the mask it is given
    with torch.no_grad():
        features = backbone.feature_extractor(wave)
        return features, backbone(wave, mask_time_indices=mask).last_hidden_state


def test_the_window_is_the_formula(model):
    """Σ (α Σ_k CE_k + MSE of the CQT) over masked frames + 10 · penalty · frames, over all frames.

    Frames count, not micro-batches: the first has 10 masked frames, the second 22.
    """
    parts = list(micro_batches(model))
    expected = 0.0
    for wave, mask, targets in parts:
        features, hidden = encoded(model.backbone, wave, mask)
        masked = hidden[mask]
        entropy = naive_cross_entropy(model.heads["codes"], masked, targets["codes"][mask])
        head = model.heads["cqt"]
        prediction = masked.double() @ head.weight.detach().double().T + head.bias.detach().double()
        mse = (prediction - targets["cqt"][mask].double()).square().mean(dim=1).sum()
        penalty = features.double().square().mean() * mask.sum()
        expected += ALPHA * entropy + mse.item() + PENALTY * penalty.item()
    found = sum(losses(model, parts, 32.0)).item()
    assert found == pytest.approx(expected / 32, rel=2e-6)


def test_micro_batches_of_different_mask_counts_are_one_batch(model):
    """Terms that are sums over masked frames: one batch of four rows gives loss and gradients."""
    parts = list(micro_batches(model))
    wave, mask = (torch.cat([part[i] for part in parts]) for i in (0, 1))
    targets = {name: torch.cat([part[2][name] for part in parts]) for name in parts[0][2]}
    weights = {"codes": ALPHA, "cqt": 1.0}
    whole = model(wave, mask, targets).loss(weights, 0.0, 32.0)
    split = sum(model(*part).loss(weights, 0.0, 32.0) for part in parts)
    assert split.item() == pytest.approx(whole.item(), rel=1e-6)
    parameters = dict(model.named_parameters())
    together = torch.autograd.grad(whole, list(parameters.values()))
    apart = torch.autograd.grad(split, list(parameters.values()))
    largest = max(float(gradient.norm()) for gradient in together)
    for one, two in zip(together, apart, strict=True):
        assert float((one - two).norm()) <= 1e-5 * float(one.norm()) + 1e-7 * largest


def test_the_penalty_and_its_gradient_come_after_the_gradient_is_scaled(model):
    """The loss is 10 · mean f²; what the front learns from it is a tenth of its gradient."""
    wave, mask, targets = next(micro_batches(model))
    loss = model(wave, mask, targets).loss({"codes": 0.0, "cqt": 0.0}, PENALTY, float(mask.sum()))
    front = model.backbone.feature_extractor
    found = torch.autograd.grad(loss, list(front.parameters()))
    front.double()
    features = front(wave.double())
    whole = PENALTY * features.square().mean()
    assert loss.item() == pytest.approx(whole.item(), rel=1e-6)
    for ours, full in zip(found, torch.autograd.grad(whole, list(front.parameters())), strict=True):
        expected = FEATURE_GRAD * full
        assert float((ours - expected).norm()) <= 1e-5 * float(expected.norm())
