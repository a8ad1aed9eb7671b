"""PCB: weigh parameters by how they compete within a model and between the models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mergekit_audio.methods._task_vectors import weighted_task_vectors
from mergekit_audio.methods.base import Array, MergeMethod, TensorGroup, Tensors
from mergekit_audio.methods.ops import weighted_sum

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TAIL = 1e-4
_SMALLEST_SUM = 1e-12


@dataclass(frozen=True)
class _Ranges:
    """(Lower, upper) end of each model's magnitudes and balances over all tensors."""

    magnitudes: Sequence[Sequence[float]]
    balances: Sequence[Sequence[float]] = ()


class Pcb(MergeMethod):
    """Δ = Σᵢ sᵢ cᵢ / Σᵢ sᵢ: task vectors averaged by scores sᵢ of their parameters' competition.

    With tᵢ = wᵢ τᵢ over all tensors that are merged, as one vector of d elements:
    aᵢ = abs(tᵢ), clipped so that its ⌊10⁻⁴ d⌋ smallest and largest equal the next ones;
    cᵢ = sign(tᵢ) aᵢ; balance bᵢ = exp(K minmax(aᵢ)²) · tanh(tᵢ Σⱼ tⱼ) within and between models;
    sᵢ = minmax of bᵢ, cut off below at its (d − ⌊(1 − ratio) d⌋)-th largest, so that the rest
    scores 0. Where no model scores, Δ is 0. The paper's λ is ``scale``; one λ per task, as it
    searches, are the weights.
    """

    name: Literal["pcb"] = "pcb"
    """Always `pcb`."""
    reference: ClassVar[str] = (
        "Du et al., Parameter Competition Balancing for Model Merging, arXiv 2410.02396, "
        "section 3.2, eq. 2 to 5"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"
    ratio: float = Field(default=0.1, gt=0, le=1)
    """The share of each model's parameters that keep a score (paper: 0.05 … 0.1)."""

    def survey_model(self, tensors: Tensors) -> _Ranges | None:
        """Return the ends of all models' magnitudes and balances; None: nothing to merge."""
        from mergekit_audio.methods._order_statistics import order_statistics

        magnitudes = order_statistics(tensors, _magnitudes, _tails, elementwise=True)
        if not magnitudes:
            return None
        ranges = _Ranges(magnitudes)
        balances = order_statistics(
            tensors,
            lambda group: [balance for _, balance in _balances(group, ranges)],
            self._upper_part,
            elementwise=True,
        )
        return _Ranges(magnitudes, balances)

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ, float64, shape ``[*S]``."""
        xp, ranges = group.xp, group.model_survey
        if ranges is None:
            return xp.zeros_like(group.base)
        total, scores = xp.zeros_like(group.base), xp.zeros_like(group.base)
        pairs = zip(_balances(group, ranges), ranges.balances, strict=True)
        for (clipped, balance), (low, high) in pairs:
            if high > low:
                score = xp.clip(balance, low, high)
                score -= low
                score /= high - low
            else:
                score = xp.astype(balance >= high, xp.float64)
            scores += score
            score *= clipped
            total += score
        total /= xp.maximum(scores, xp.full_like(scores, _SMALLEST_SUM))
        return total

    def _upper_part(self, models: int, size: int) -> list[tuple[int, int]]:
        """Return the ranks of the smallest and largest balance that scores."""
        return [(min(int((1 - self.ratio) * size), size - 1), size - 1)] * models


def _magnitudes(group: TensorGroup) -> Array:
    """Return abs(tᵢ), shape ``[K, *S]``."""
    return group.xp.abs(weighted_task_vectors(group))


def _balances(group: TensorGroup, ranges: _Ranges) -> Iterator[tuple[Array, Array]]:
    """Yield cᵢ and bᵢ of each model, both of shape ``[*S]``."""
    xp, vectors = group.xp, weighted_task_vectors(group)
    count = vectors.shape[0]
    total = weighted_sum(vectors, [1.0] * count)
    for i, (low, high) in enumerate(ranges.magnitudes):
        own = vectors[i, ...]
        magnitude = xp.clip(xp.abs(own), low, high)
        share = magnitude - low
        share /= high - low if high > low else 1.0
        grown = share * count
        grown *= share
        balance = xp.exp(grown)
        balance *= xp.tanh(own * total)
        magnitude *= xp.sign(own)
        yield magnitude, balance


def _tails(models: int, size: int) -> list[tuple[int, int]]:
    """Return the ranks of the smallest and largest magnitude that is not clipped."""
    tail = int(size * _TAIL)
    return [(tail, size - 1 - tail)] * models
