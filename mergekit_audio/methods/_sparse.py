"""The family of methods that thin out each task vector, then join them."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from mergekit_audio.methods.base import Array, MergeMethod, Slices, TensorGroup

_SMALLEST_NORM = 1e-7


class SparseMerge(MergeMethod):
    """Δ = join of wᵢ fᵢ S(τᵢ): S sparsifies, fᵢ rescales, the join may elect a sign."""

    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"
    model_parameters: ClassVar[tuple[str, ...]] = ("density",)
    elects: ClassVar[bool] = False
    """Only what has the elected sign is joined (TIES)."""

    normalize: bool
    rescale: bool

    @abstractmethod
    def sparse(self, group: TensorGroup, selection: Any) -> Iterator[Array]:
        """Yield S(τᵢ) of each model, flat, each a new array."""

    def selection(self, slices: Slices, model_survey: Any) -> Any:
        """Return what ``sparse`` must know of the whole tensor."""
        return None

    def keeps_norm(self) -> bool:
        """Whether fᵢ is measured: n1(τᵢ) / n1(S(τᵢ)), n1 being the sum of the magnitudes."""
        return self.rescale

    def factors(self, group: TensorGroup) -> list[float]:
        """Return fᵢ where it is not measured."""
        return [1.0] * len(group.weights)

    def survey(self, slices: Slices, model_survey: Any) -> tuple[Any, list[float] | None]:
        """Return what ``sparse`` needs to know of the whole tensor, and fᵢ where it is measured."""
        selection = self.selection(slices, model_survey)
        return selection, self._norm_ratios(slices, selection) if self.keeps_norm() else None

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ of the sparse task vectors, float64, shape ``[*S]``."""
        from mergekit_audio.methods._consensus import joined

        selection, measured = group.survey
        delta = joined(
            group.xp,
            self.sparse(group, selection),
            group.weights,
            self.factors(group) if measured is None else measured,
            elect=self.elects,
            normalize=self.normalize,
        )
        return delta.reshape(group.base.shape)

    def _norm_ratios(self, slices: Slices, selection: Any) -> list[float]:
        """Return n1(τᵢ) / n1(S(τᵢ)) of a tensor; 1 where either is below 1e-7."""
        from mergekit_audio.methods._selection import flat_task_vectors

        before: list[list[float]] = []
        after: list[list[float]] = []
        for group in slices:
            xp = group.xp
            before.append([float(xp.sum(xp.abs(tau))) for tau in flat_task_vectors(group)])
            after.append([float(xp.sum(xp.abs(tau))) for tau in self.sparse(group, selection)])
        totals = zip(_column_sums(before), _column_sums(after), strict=True)
        return [1.0 if min(pair) < _SMALLEST_NORM else pair[0] / pair[1] for pair in totals]


def _column_sums(rows: list[list[float]]) -> list[float]:
    return [math.fsum(column) for column in zip(*rows, strict=True)]
