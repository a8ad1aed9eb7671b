"""Find λ without labels: gradient descent on λ alone of a loss of the merged weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from mergekit_audio.errors import InputError

Loss = Callable[[int], torch.Tensor]
"""The loss of a step, from 0, with the model's weights as they are."""


@dataclass(frozen=True)
class Descent:
    """A finished search.

    Parameters
    ----------
    scales
        λ by culture and group, those of the lowest loss.
    loss
        The mean loss there, over one round.
    history
        Of every round: its mean loss, and the λ that it was of.
    """

    scales: dict[str, dict[str, float]]
    loss: float
    history: tuple[tuple[float, dict[str, dict[str, float]]], ...]


class Composition:
    """A model whose parameters are ``θ = base + Σ_i λ_{i,g} τ_i``, with g the parameter's group.

    The weights are set in place, and ``∂L/∂λ_{i,g} = Σ_{t ∈ g} ⟨∂L/∂θ_t, τ_{i,t}⟩`` follows from an
    ordinary backward pass, so that no graph leads through the weights and memory stays that of
    training. Sums are in float32 per element and in float64 over elements.

    Parameters
    ----------
    model
        The model; its parameters of these names are overwritten.
    base
        The base's values by the model's parameter names; parameters without one stay as they are.
    vectors
        Task vectors by culture and parameter name; one that lacks a parameter does not move it.
    groups
        The group of each parameter in ``base``.
    """

    def __init__(
        self,
        model: nn.Module,
        base: Mapping[str, torch.Tensor],
        vectors: Mapping[str, Mapping[str, torch.Tensor]],
        groups: Mapping[str, str],
    ) -> None:
        named = dict(model.named_parameters())
        unknown = sorted(base.keys() - named.keys())
        if unknown:
            raise ValueError(f"the model has no parameter {unknown[0]}")
        self.model = model
        self.cultures = tuple(vectors)
        self.groups = tuple(dict.fromkeys(groups[name] for name in base))
        place = {group: number for number, group in enumerate(self.groups)}
        self._parts = [
            (
                named[name],
                base[name].to(named[name].device, torch.float32),
                [
                    vectors[culture][name].to(named[name].device, torch.float32)
                    if name in vectors[culture]
                    else None
                    for culture in self.cultures
                ],
                place[groups[name]],
            )
            for name in base
        ]

    @torch.no_grad()
    def set_scales(self, scales: torch.Tensor) -> None:
        """Set the weights to those of λ, shape ``[cultures, groups]``."""
        for parameter, base, vectors, group in self._parts:
            value = base.clone()
            for culture, vector in enumerate(vectors):
                if vector is not None:
                    value.add_(vector, alpha=float(scales[culture, group]))
            parameter.copy_(value)

    @torch.no_grad()
    def gradient(self) -> torch.Tensor:
        """Return ``∂L/∂λ`` of the parameters' gradients, float64 ``[cultures, groups]``."""
        found = torch.zeros(len(self.cultures), len(self.groups), dtype=torch.float64)
        for parameter, _, vectors, group in self._parts:
            if parameter.grad is None:
                continue
            own = parameter.grad.double().flatten()
            for culture, vector in enumerate(vectors):
                if vector is not None:
                    found[culture, group] += (own @ vector.double().flatten()).cpu()
        return found

    def named(self, scales: torch.Tensor) -> dict[str, dict[str, float]]:
        """Return λ by culture and group."""
        return {
            culture: {group: float(scales[i, j]) for j, group in enumerate(self.groups)}
            for i, culture in enumerate(self.cultures)
        }


def descend(
    composition: Composition,
    loss: Loss,
    *,
    rounds: int,
    steps_a_round: int,
    learning_rate: float,
    initial: float | Sequence[float],
    shared: bool = False,
    told: Callable[[int, float], None] = lambda done, loss: None,
) -> Descent:
    """Minimise a loss over λ with Adam (β = 0.9, 0.999), and keep the best round's λ.

    A round is one pass over the batches; its loss is the mean over its steps, each at the λ of that
    step, and its λ are those before it. The last λ gets a round without steps, so that it can be
    kept too.

    Parameters
    ----------
    composition
        The weights as a function of λ.
    loss
        Of each step of a round, from 0.
    rounds, steps_a_round, learning_rate
        Of the descent.
    initial
        λ before the first step: one for all cultures, or one for each.
    shared
        One λ for all cultures and groups.
    told
        Called after every round with the number of them and the loss.

    Raises
    ------
    InputError
        The loss is not finite.
    """
    size = (len(composition.cultures), len(composition.groups))
    first = torch.as_tensor(initial, dtype=torch.float64)
    scales = (first.expand(size[0]) if first.ndim == 0 else first)[:, None].repeat(1, size[1])
    free = nn.Parameter(scales.mean().reshape(1) if shared else scales.flatten())
    optimizer = torch.optim.Adam([free], lr=learning_rate)

    def expanded() -> torch.Tensor:
        return free.detach().expand(size[0] * size[1]).reshape(size).clone()

    history: list[tuple[float, dict[str, dict[str, float]]]] = []
    for number in range(rounds + 1):
        before, total = expanded(), 0.0
        for step in range(steps_a_round):
            current = expanded()
            composition.set_scales(current)
            composition.model.zero_grad(set_to_none=True)
            value = loss(step)
            total += float(value.detach())
            if not math.isfinite(total):
                raise InputError(
                    f"the loss is {float(value.detach())} at λ = {composition.named(current)}",
                    "start nearer to 0 (initial), or lower the learning_rate",
                )
            if number == rounds:
                continue
            value.backward()  # type: ignore[no-untyped-call]
            gradient = composition.gradient()
            free.grad = gradient.sum().reshape(1) if shared else gradient.flatten()
            optimizer.step()
        history.append((total / steps_a_round, composition.named(before)))
        told(number, history[-1][0])
    best = min(range(len(history)), key=lambda place: history[place][0])
    composition.model.zero_grad(set_to_none=True)
    return Descent(scales=history[best][1], loss=history[best][0], history=tuple(history))
