"""Train the probe: an MLP with one hidden layer on frozen features; the best epoch is kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from mergekit_audio.errors import InputError
from mergekit_audio.probe.probe_head import ProbeHead, generator_of
from mergekit_audio.probe.probe_step import Loss, ProbeStep
from mergekit_audio.recipe.protocols import Protocol


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
        generator=generator_of(seed, "init"),
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
        self.protocol, self.step = protocol, ProbeStep(head, loss)
        self.order, self.dropout = generator_of(seed, "order"), generator_of(seed, "dropout")
        self.optimizer = torch.optim.Adam(
            [self.step.weights], lr=protocol.learning_rate, fused=True
        )
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
        loss = self.step.backward(self.features[rows], self.targets[rows], self.dropout)
        if not math.isfinite(loss):
            raise InputError(
                f"the probe's loss became {loss}", "lower the protocol's learning_rate"
            )
        if self.protocol.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.step.weights, self.protocol.gradient_clip)
        self.optimizer.step()
        self.steps += 1
