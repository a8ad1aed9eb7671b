"""Train the probe: an MLP with one hidden layer on frozen features; the best epoch is kept."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from mergekit_audio.errors import InputError
from mergekit_audio.recipe.protocols import Protocol

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


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
    *,
    outputs: int | None = None,
    loss: Loss = nn.functional.binary_cross_entropy_with_logits,
) -> TrainedProbe:
    """Train a probe with Adam until validation stops getting better.

    Every chunk is an example. The learning rate is multiplied by ``plateau_factor`` after
    ``plateau_patience`` epochs without a better validation score; training ends after ``patience``
    of them, or with ``max_steps`` or ``max_epochs``.

    Parameters
    ----------
    features
        Float32, shape ``[chunks, D]``, or ``[chunks, L, D]`` for a weighted sum of layers.
    targets
        What ``loss`` takes for each chunk, shape ``[chunks, ...]``.
    validate
        The validation score of a probe in evaluation mode; higher is better.
    protocol
        Sizes, learning rate, patience.
    seed
        Draws the initial weights, the order of the chunks and the dropout, each from a generator
        of its own; the global random state is not touched.
    outputs
        Of the probe; ``None`` means the columns of ``targets``.
    loss
        ``loss(logits [B, outputs], targets [B, ...]) -> []``.

    Raises
    ------
    InputError
        The loss is not finite.
    """
    head = ProbeHead(
        features.shape[-1],
        targets.shape[1] if outputs is None else outputs,
        features.shape[1] if features.ndim == 3 else None,
        protocol,
        generator=_generator(seed, "init"),
    )
    trainer = _Trainer(head, features, targets, protocol, seed, loss)
    history: list[float] = []
    best_epoch, best_state = 0, head.snapshot()
    for epoch in range(1, protocol.max_epochs + 1):
        trainer.train_epoch()
        score = validate(head)
        history.append(score)
        if best_epoch == 0 or score > history[best_epoch - 1]:
            best_epoch, best_state = epoch, head.snapshot()
        trainer.note_score(score)
        tired = protocol.patience is not None and epoch - best_epoch >= protocol.patience
        if tired or trainer.is_out_of_steps():
            break
    head.load_state_dict(best_state)
    return TrainedProbe(head, best_epoch, tuple(history))


class ProbeHead(nn.Module):
    """Softmax-weighted sum of layers (if any), Linear, ReLU, dropout, Linear.

    ``logits = W₂ · dropout(relu(W₁ · Σ_l softmax(a)_l x_l + b₁)) + b₂``, with a = 0 at the start,
    so that all layers count the same, or with a from a normal distribution (``layer_start``).

    Parameters
    ----------
    dimension
        D, the features of a chunk.
    label_count
        Outputs.
    layers
        L, or ``None`` when the input is one layer.
    protocol
        ``hidden_size``, ``layer_start``, ``dropout`` and its place.
    generator
        Draws the layers' scores, then the weights, uniform in ±1/√inputs like ``nn.Linear``.
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
        hidden = dimension if protocol.hidden_size == "features" else protocol.hidden_size
        self.keep = 1.0 - protocol.dropout
        self.drops_first = protocol.dropout_place == "before_relu"
        self.layer_scores = None
        if layers is not None:
            drawn = protocol.layer_start == "random"
            start = torch.randn(layers, generator=generator) if drawn else torch.zeros(layers)
            self.layer_scores = nn.Parameter(start)
        self.hidden_weight = _drawn((hidden, dimension), dimension, generator)
        self.hidden_bias = _drawn((hidden,), dimension, generator)
        self.output_weight = _drawn((label_count, hidden), hidden, generator)
        self.output_bias = _drawn((label_count,), hidden, generator)

    def forward(
        self, features: torch.Tensor, dropout: torch.Generator | None = None
    ) -> torch.Tensor:
        """Return logits ``[B, labels]`` of ``[B, (L,) D]``; no dropout without a generator."""
        if self.layer_scores is not None:
            features = torch.einsum("bld,l->bd", features, self.layer_scores.softmax(0))
        hidden = nn.functional.linear(features, self.hidden_weight, self.hidden_bias)
        if self.drops_first:
            hidden = torch.relu(self._dropped(hidden, dropout))
        else:
            hidden = self._dropped(torch.relu(hidden), dropout)
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

    def _dropped(self, hidden: torch.Tensor, dropout: torch.Generator | None) -> torch.Tensor:
        if dropout is None or self.keep == 1.0:
            return hidden
        return (
            hidden * torch.empty_like(hidden).bernoulli_(self.keep, generator=dropout) / self.keep
        )


class _Trainer:
    """Adam on one probe: its random streams, its learning rate and its count of steps."""

    def __init__(
        self,
        head: ProbeHead,
        features: torch.Tensor,
        targets: torch.Tensor,
        protocol: Protocol,
        seed: int,
        loss: Loss,
    ) -> None:
        self.head, self.features, self.targets = head, features, targets
        self.protocol, self.loss = protocol, loss
        self.order, self.dropout = _generator(seed, "order"), _generator(seed, "dropout")
        self.optimizer = torch.optim.Adam(head.parameters(), lr=protocol.learning_rate, fused=True)
        self.plateau = None
        if protocol.plateau_patience is not None:
            self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                self.optimizer,
                mode="max",
                factor=protocol.plateau_factor,
                patience=protocol.plateau_patience,
                threshold=0.0,
                threshold_mode="abs",
            )
        self.steps = 0

    def train_epoch(self) -> None:
        """Take a step on each batch of a new order of the chunks, while steps are left."""
        shuffled = torch.randperm(len(self.features), generator=self.order)
        for rows in torch.split(shuffled, self.protocol.batch_size):
            if self.is_out_of_steps():
                return
            self._step(rows)

    def note_score(self, score: float) -> None:
        """Lower the learning rate when the validation score has stood still."""
        if self.plateau is not None:
            self.plateau.step(score)

    def is_out_of_steps(self) -> bool:
        """Say whether ``max_steps`` are taken."""
        return self.protocol.max_steps is not None and self.steps >= self.protocol.max_steps

    def _step(self, rows: torch.Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.head(self.features[rows], self.dropout), self.targets[rows])
        if not math.isfinite(loss.item()):
            raise InputError(
                f"the probe's loss became {loss.item()}", "lower the protocol's learning_rate"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        if self.protocol.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.head.parameters(), self.protocol.gradient_clip)
        self.optimizer.step()
        self.steps += 1


def _drawn(shape: tuple[int, ...], inputs: int, generator: torch.Generator) -> nn.Parameter:
    bound = 1.0 / math.sqrt(inputs)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))


def _generator(seed: int, purpose: str) -> torch.Generator:
    digest = hashlib.sha256(f"probe/{seed}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
