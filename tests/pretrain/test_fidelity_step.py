"""One optimiser step of the trainer against plain PyTorch in float64, from waves to weights.

The trainer runs as users run it, on recordings; its batches are caught and trained on once more by
HubertModel's own parts in float64 with every loss, the clipping and AdamW written out below.
"""

import copy

import pytest
import torch
from pretraining import TEACHERS, make_base, make_corpus, make_recipe
from torch.nn import functional

from mergekit_audio import pretrain
from mergekit_audio.backbones.mert import Mert
from mergekit_audio.pretrain.trainer import StageTrainer
from mergekit_audio.weights.checkpoint import Checkpoint

LR, BETA1, BETA2, EPSILON, DECAY, CLIP = 1e-3, 0.9, 0.98, 1e-5, 0.01, 2.0
ALPHA, PENALTY, FEATURE_GRAD = 0.6, 10.0, 0.1
CODEBOOKS = 8
STILL = {
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "layerdrop": 0.0,
}
RECIPE = {
    "teachers": [
        TEACHERS[0] | {"codebooks": CODEBOOKS, "weight": ALPHA},
        TEACHERS[1],
    ],
    "stages": [{"name": "step", "train": ["*"], "steps": 1, "peak_lr": LR}],
    "replay": None,
    "arguments": {
        "adam_beta1": BETA1,
        "adam_beta2": BETA2,
        "adam_epsilon": EPSILON,
        "weight_decay": DECAY,
        "max_grad_norm": CLIP,
        "feature_penalty": PENALTY,
        "feature_grad_mult": FEATURE_GRAD,
    },
}


class Caught:
    """What the trainer worked on."""

    def __init__(self):
        self.batches, self.before, self.gradients, self.after, self.loss = [], {}, {}, {}, 0.0


def train_one_step(root, monkeypatch, **config):
    """Run the recipe's one step; return the batches, and the weights and gradients around it."""
    make_base(root / "base", **STILL, **config)
    make_corpus(root / "makam", seed=1)
    caught = Caught()
    compute_loss, clip, inner = (
        StageTrainer.compute_loss,
        StageTrainer._clip_grad_norm,
        StageTrainer.train_or_resume,
    )

    def watch_loss(self, model, inputs, *rest, **named):
        targets = {name: value.clone() for name, value in self._targets(inputs).items()}
        caught.batches.append((inputs["wave"].clone(), inputs["mask"].clone(), targets))
        loss = compute_loss(self, model, inputs, *rest, **named)
        caught.loss += float(loss.detach())
        return loss

    def watch_clip(self, model):
        caught.gradients = {n: p.grad.clone() for n, p in self.model.named_parameters()}
        return clip(self, model)

    def watch_training(self):
        caught.before = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        inner(self)
        caught.after = {n: p.detach().clone() for n, p in self.model.named_parameters()}

    monkeypatch.setattr(StageTrainer, "compute_loss", watch_loss)
    monkeypatch.setattr(StageTrainer, "_clip_grad_norm", watch_clip)
    monkeypatch.setattr(StageTrainer, "train_or_resume", watch_training)
    recipe = make_recipe(**copy.deepcopy(RECIPE))
    pretrain.run(pretrain.plan(recipe, root))
    return caught


def reference_loss(backbone, heads, batches):
    """The window's loss: sums over masked frames of all micro-batches, over their number."""
    frames = sum(int(mask.sum()) for _, mask, _ in batches)
    total = torch.zeros((), dtype=torch.float64)
    for wave, mask, targets in batches:
        features = backbone.feature_extractor(wave.double())
        features = FEATURE_GRAD * features + (1 - FEATURE_GRAD) * features.detach()
        penalty = features.square().mean()
        hidden = backbone.feature_projection(features.transpose(1, 2))
        hidden = torch.where(mask.unsqueeze(-1), backbone.masked_spec_embed, hidden)
        masked = backbone.encoder(hidden).last_hidden_state[mask]
        total = total + PENALTY * penalty * mask.sum()
        total = total + ALPHA * cross_entropies(
            heads, masked, targets["residual_kmeans"][:, : mask.shape[1]][mask]
        )
        cqt = targets["cqt"][:, : mask.shape[1]][mask].double()
        prediction = masked @ heads["cqt.weight"].T + heads["cqt.bias"]
        total = total + (prediction - cqt).square().mean(dim=1).sum()
    return total / frames


def cross_entropies(heads, masked, codes):
    """fairseq's NCE: the positive first, all rows after it, the positive among them at -inf."""
    total = torch.zeros((), dtype=torch.float64)
    table = heads["residual_kmeans.label_embs"]
    projected = functional.linear(
        masked, heads["residual_kmeans.final_proj.weight"], heads["residual_kmeans.final_proj.bias"]
    )
    for k, query in enumerate(projected.chunk(CODEBOOKS, dim=1)):
        positive = table[k][codes[:, k]]
        candidates = torch.cat(
            [positive.unsqueeze(0), table[k].unsqueeze(1).expand(-1, len(codes), -1)]
        )
        dot = (candidates * query).sum(dim=-1)
        logits = dot / (candidates.norm(dim=-1) * query.norm(dim=-1)) / 0.1
        same = torch.zeros_like(logits, dtype=torch.bool)
        same[1 + codes[:, k], torch.arange(len(codes))] = True
        logits = logits.masked_fill(same, float("-inf"))
        total = total - (logits[0] - logits.logsumexp(dim=0)).sum()
    return total


def adamw(value, gradient):
    """The first step of AdamW with decoupled decay; its moments start at 0."""
    first, second = (1 - BETA1) * gradient, (1 - BETA2) * gradient.square()
    step = (first / (1 - BETA1)) / ((second / (1 - BETA2)).sqrt() + EPSILON)
    return value - LR * DECAY * value - LR * step


@pytest.mark.parametrize("stable", [False, True], ids=["post-norm", "pre-norm"])
def test_one_step_is_that_of_plain_pytorch_in_float64(tmp_path, monkeypatch, stable):
    caught = train_one_step(tmp_path, monkeypatch, do_stable_layer_norm=stable)
    assert len(caught.batches) == 2
    counts = {int(mask.sum()) for _, mask, _ in caught.batches}
    assert len(counts) == 2, "the seed should give micro-batches of different mask counts"

    base = Checkpoint.open(str(tmp_path / "base"))
    backbone = Mert().build(base.config, base.state_dict(), training=False).double()
    heads = {
        name.removeprefix("heads."): value.double().requires_grad_()
        for name, value in caught.before.items()
        if name.startswith("heads.")
    }
    leaves = {f"backbone.{name}": value for name, value in backbone.named_parameters()}
    leaves |= {f"heads.{name}": value for name, value in heads.items()}
    assert leaves.keys() == caught.before.keys()
    loss = reference_loss(backbone, heads, caught.batches)
    assert caught.loss == pytest.approx(loss.item(), rel=1e-5)

    gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    assert norm > CLIP, "the step should be clipped"
    for name, gradient in gradients.items():
        error = float((caught.gradients[name] - gradient).norm())
        assert error <= 1e-5 * float(gradient.norm()) + 1e-7 * float(norm), name

    for name, gradient in gradients.items():
        expected = adamw(leaves[name].detach(), gradient * (CLIP / (norm + 1e-6)))
        assert float((caught.after[name] - expected).abs().max()) <= 1e-5, name
        moved = float((expected - caught.before[name]).norm())
        assert float((caught.after[name] - expected).norm()) <= 0.01 * moved + 1e-6, name
