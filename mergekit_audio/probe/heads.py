"""Train the probe: an MLP with one hidden layer on frozen features; the best epoch is kept."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from mergekit_audio.errors import InputError
from mergekit_audio.recipe.evaluate import Protocol

PLATEAU_FACTOR = 0.5


@dataclass(frozen=True)
class TrainedProbe:
    """A probe with the weights of its best validation epoch.

    Parameters
    ----------
    head
        The probe.
    best_epoch
        1-based epoch of the best validation score (the earliest of equals).
    history
        The validation score after every epoch.
    """

    head: ProbeHead
    best_epoch: int
    history: tuple[float, ...]


def train_probe(
    features: torch.Tensor,
    targets: torch.Tensor,
    validate: Callable[[ProbeHead], float],
    protocol: Protocol,
    seed: int,
) -> TrainedProbe:
    """Train a probe with Adam and binary cross-entropy until validation stops getting better.

    Every chunk is an example. The learning rate is halved after ``plateau_patience`` epochs without
    a better validation score, training ends after ``patience`` of them.

    Parameters
    ----------
    features
        Float32, shape ``[chunks, D]``, or ``[chunks, L, D]`` for a weighted sum of layers.
    targets
        0 or 1, float32, shape ``[chunks, labels]``.
    validate
        The validation score of a probe in evaluation mode; higher is better.
    protocol
        Sizes, learning rate, patience.
    seed
        Draws the initial weights, the order of the chunks and the dropout, each from a generator
        of its own; the global random state is not touched.

    Raises
    ------
    InputError
        The loss is not finite.
    """
    layers = features.shape[1] if features.ndim == 3 else None
    head = ProbeHead(
        features.shape[-1], targets.shape[1], layers, protocol, generator=_generator(seed, "init")
    )
    optimizer = torch.optim.Adam(head.parameters(), lr=protocol.learning_rate, fused=True)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode="max",
        factor=PLATEAU_FACTOR,
        patience=protocol.plateau_patience,
        threshold=0.0,
        threshold_mode="abs",
    )
    order, dropout = _generator(seed, "order"), _generator(seed, "dropout")
    history: list[float] = []
    best_epoch, best_state = 0, head.snapshot()
    for epoch in range(1, protocol.max_epochs + 1):
        _train_epoch(head, optimizer, features, targets, protocol.batch_size, order, dropout)
        score = validate(head)
        history.append(score)
        if best_epoch == 0 or score > history[best_epoch - 1]:
            best_epoch, best_state = epoch, head.snapshot()
        plateau.step(score)
        if epoch - best_epoch >= protocol.patience:
            break
    head.load_state_dict(best_state)
    return TrainedProbe(head, best_epoch, tuple(history))


class ProbeHead(nn.Module):
    """Softmax-weighted sum of layers (if any), Linear, ReLU, dropout, Linear.

    ``logits = W₂ · dropout(relu(W₁ · Σ_l softmax(a)_l x_l + b₁)) + b₂``, with a = 0 at the start,
    so that all layers count the same.

    Parameters
    ----------
    dimension
        D, the features of a chunk.
    label_count
        Outputs.
    layers
        L, or ``None`` when the input is one layer.
    protocol
        ``hidden_size`` and ``dropout``.
    generator
        Draws the weights, uniform in ±1/√inputs like ``nn.Linear``.
    """

    def __init__(
        self,
        dimension: int,
        label_count: int,
        layers: int | None,
        protocol: Protocol,
        *,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.keep = 1.0 - protocol.dropout
        self.layer_scores = nn.Parameter(torch.zeros(layers)) if layers is not None else None
        self.hidden_weight = _drawn((protocol.hidden_size, dimension), dimension, generator)
        self.hidden_bias = _drawn((protocol.hidden_size,), dimension, generator)
        self.output_weight = _drawn(
            (label_count, protocol.hidden_size), protocol.hidden_size, generator
        )
        self.output_bias = _drawn((label_count,), protocol.hidden_size, generator)

    def forward(
        self, features: torch.Tensor, dropout: torch.Generator | None = None
    ) -> torch.Tensor:
        """Return logits ``[B, labels]`` of ``[B, (L,) D]``; no dropout without a generator."""
        if self.layer_scores is not None:
            features = torch.einsum("bld,l->bd", features, self.layer_scores.softmax(0))
        hidden = torch.relu(nn.functional.linear(features, self.hidden_weight, self.hidden_bias))
        if dropout is not None and self.keep < 1.0:
            mask = torch.empty_like(hidden).bernoulli_(self.keep, generator=dropout)
            hidden = hidden * mask / self.keep
        return nn.functional.linear(hidden, self.output_weight, self.output_bias)

    def layer_weights(self) -> list[float] | None:
        """Return the softmax weights of the layers, or ``None`` for a probe of one layer."""
        if self.layer_scores is None:
            return None
        weights: list[float] = self.layer_scores.detach().double().softmax(0).tolist()
        return weights

    def snapshot(self) -> dict[str, torch.Tensor]:
        """Return a copy of the weights."""
        return {name: value.detach().clone() for name, value in self.state_dict().items()}


def _train_epoch(
    head: ProbeHead,
    optimizer: torch.optim.Optimizer,
    features: torch.Tensor,
    targets: torch.Tensor,
    batch_size: int,
    order: torch.Generator,
    dropout: torch.Generator,
) -> None:
    shuffled = torch.randperm(len(features), generator=order)
    for first in range(0, len(shuffled), batch_size):
        rows = shuffled[first : first + batch_size]
        optimizer.zero_grad(set_to_none=True)
        logits = head(features[rows], dropout)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, targets[rows])
        if not math.isfinite(loss.item()):
            raise InputError(
                f"the probe's loss became {loss.item()}", "lower the protocol's learning_rate"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _drawn(shape: tuple[int, ...], inputs: int, generator: torch.Generator) -> nn.Parameter:
    bound = 1.0 / math.sqrt(inputs)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))


def _generator(seed: int, purpose: str) -> torch.Generator:
    digest = hashlib.sha256(f"probe/{seed}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
