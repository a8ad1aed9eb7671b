"""Read one tensor of base and models slice by slice, as merge methods see it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mergekit_audio.errors import Fault, InputError, RecipeError
from mergekit_audio.merge.operands import Operand, Stored, effective_kernel
from mergekit_audio.merge.rows import PlanRow, Source
from mergekit_audio.methods.base import TensorGroup

if TYPE_CHECKING:
    from mergekit_audio.merge.planner import MergePlan

SLICE_ELEMENTS = 1 << 17
"""Methods that allow it see about this many elements at a time.

Measured fastest on two cores: smaller ones make the threads wait for each other, larger ones leave
the processor's cache.
"""
_MAGNITUDE, _DIRECTION = ".weight_g", ".weight_v"


@dataclass(frozen=True)
class Unit:
    """What is merged at one go: a tensor, or the magnitude and direction of one kernel.

    Parameters
    ----------
    rows
        One row, or those of g and v.
    row
        The row whose method, sources and λ count; its name is the kernel's where there are two.
    """

    rows: tuple[PlanRow, ...]
    row: PlanRow

    @property
    def nbytes(self) -> int:
        """Bytes in the output."""
        return sum(row.nbytes for row in self.rows)


def units_of(plan: MergePlan) -> list[Unit]:
    """Return the units of a plan in the order of its rows; g and v together where they are fused.

    Raises
    ------
    RecipeError
        g and v of one kernel are to be fused but have not one method and one λ.
    """
    rows = {row.name: row for row in plan.rows}
    units = []
    for row in plan.rows:
        partner = rows.get(row.name.removesuffix(_DIRECTION) + _MAGNITUDE)
        if plan.recipe.weight_norm == "stored" or row.fixed:
            units.append(Unit((row,), row))
        elif row.name.endswith(_DIRECTION) and partner is not None:
            units.append(_fused(partner, row))
        elif not (row.name.endswith(_MAGNITUDE) and _direction(row) in rows):
            units.append(Unit((row,), row))
    return units


def _direction(row: PlanRow) -> str:
    return row.name.removesuffix(_MAGNITUDE) + _DIRECTION


def _fused(magnitude: PlanRow, direction: PlanRow) -> Unit:
    same = ("fixed", "group", "scale", "method")
    if any(getattr(magnitude, key) != getattr(direction, key) for key in same):
        problem = f"{magnitude.stored_name} and {direction.stored_name} are not merged alike"
        raise RecipeError(
            [Fault("", 0, 0, "weight_norm", f"fused, but {problem}")],
            "let globs match both of them, or use `weight_norm: stored`",
        )
    kernel = direction.name.removesuffix(_DIRECTION) + ".weight"
    return Unit((magnitude, direction), replace(direction, name=kernel, stored_name=kernel))


class UnitSlices:
    """The slices of one unit, read from the files at each iteration."""

    def __init__(self, plan: MergePlan, unit: Unit, model_survey: Any = None) -> None:
        self.plan, self.unit = plan, unit
        self.name = unit.row.stored_name
        self.shape = unit.row.shape
        self.layer = unit.row.layer
        self.model_survey = model_survey
        self.survey: Any = None
        self.base, *self.models = self._operands()
        self._statistics = self._read_statistics()
        self._checks = not (plan.recipe.allow_nonfinite or unit.row.method.linear)
        sources = unit.row.sources
        self._weights = tuple(source.weight for source in sources)
        self._parameters = tuple(source.parameters for source in sources)
        self._labels = tuple(plan.models[source.model].label for source in sources)
        self._digests = (
            tuple(plan.models[source.model].digest for source in sources)
            if unit.row.method.random
            else ()
        )

    def __iter__(self) -> Iterator[TensorGroup]:
        """Yield the tensor in slices that its method allows, in order."""
        return self.between(0, math.prod(self.shape))

    def between(self, start: int, stop: int) -> Iterator[TensorGroup]:
        """Yield the slices of a run of elements; it starts where a slice may."""
        step = self._step()
        for place in range(start, stop, step):
            yield self._group(place, min(place + step, stop))

    def sampled(self, step: int) -> Iterator[TensorGroup]:
        """Yield every ``step``-th element, from the first, flat and without statistics."""
        stop = math.prod(self.shape)
        for place in range(0, stop, step * SLICE_ELEMENTS):
            block = self._read(place, min(place + step * SLICE_ELEMENTS, stop), step)
            yield self._group_of(block, place, (block.shape[1],), {})

    def _step(self) -> int:
        granularity = self.unit.row.method.granularity
        if granularity == "element":
            return SLICE_ELEMENTS
        if granularity == "tensor" or not self.shape:
            return max(1, math.prod(self.shape))
        per_row = math.prod(self.shape[1:])
        return max(1, SLICE_ELEMENTS // per_row) * per_row

    def _group(self, start: int, stop: int) -> TensorGroup:
        shape = self._slice_shape(start, stop)
        statistics = self._cut_statistics(start, stop, shape)
        return self._group_of(self._read(start, stop), start, shape, statistics)

    def _read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        block = np.empty((1 + len(self.models), len(range(start, stop, step))))
        for operand, out in zip((self.base, *self.models), block, strict=True):
            operand.read(start, stop, out, step)
        if self._checks and not np.isfinite(block).all():
            raise_nonfinite(self.plan)
        return block

    def _group_of(
        self,
        block: np.ndarray,
        start: int,
        shape: tuple[int, ...],
        statistics: Mapping[str, np.ndarray],
    ) -> TensorGroup:
        group = TensorGroup(
            name=self.name,
            base=block[0].reshape(shape),
            models=block[1:].reshape(-1, *shape),
            seed=self.plan.recipe.seed,
            start=start,
            shape=self.shape,
            layer=self.layer,
            survey=self.survey,
            model_survey=self.model_survey,
            statistics=statistics,
            weights=self._weights,
            parameters=self._parameters,
            labels=self._labels,
            digests=self._digests,
        )
        return group if self.plan.recipe.device == "cpu" else _on_gpu(group)

    def _slice_shape(self, start: int, stop: int) -> tuple[int, ...]:
        granularity = self.unit.row.method.granularity
        if granularity == "element":
            return (stop - start,)
        if granularity == "tensor" or not self.shape:
            return self.shape
        return ((stop - start) // math.prod(self.shape[1:]), *self.shape[1:])

    def _operands(self) -> list[Operand]:
        plan, rows = self.plan, self.unit.rows
        if len(rows) == 1:
            row = rows[0]
            models = [plan.models[each.model].operand(each.name) for each in row.sources]
            return [Stored(plan.base, row.base_name), *models]
        g, v = rows
        base = effective_kernel(Stored(plan.base, g.base_name), Stored(plan.base, v.base_name))
        return [
            base,
            *(
                effective_kernel(
                    plan.models[mine.model].operand(mine.name),
                    plan.models[theirs.model].operand(theirs.name),
                )
                for mine, theirs in zip(g.sources, v.sources, strict=True)
            ),
        ]

    def _read_statistics(self) -> Mapping[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        if len(self.unit.rows) > 1:  # what was measured is of g and v, not of the kernel
            return found
        for kind in self.unit.row.method.needs_statistics:
            arrays = [self._statistic(kind, source) for source in self.unit.row.sources]
            there = [values for values in arrays if values is not None]
            if len(there) == len(arrays):
                found[kind] = np.stack(there).astype(np.float64)
        return found

    def _statistic(self, kind: str, source: Source) -> np.ndarray | None:
        statistics = self.plan.models[source.model].statistics
        return statistics.read(kind, source.name) if statistics else None

    def _cut_statistics(
        self, start: int, stop: int, shape: tuple[int, ...]
    ) -> Mapping[str, np.ndarray]:
        return {
            kind: each.reshape(len(each), -1)[:, start:stop].reshape(len(each), *shape)
            if each.shape[1:] == self.shape
            else each
            for kind, each in self._statistics.items()
        }


def raise_nonfinite(plan: MergePlan) -> None:
    """Raise one error that names every tensor of every input with values that are not finite."""
    messages: dict[str, None] = {}
    hint = ""
    for checkpoint in (plan.base, *(model.checkpoint for model in plan.models)):
        for name in checkpoint.index:
            try:
                checkpoint.require_finite(name)
            except InputError as error:
                messages[error.message] = None
                hint = error.hint
    if messages:
        raise InputError("\n".join(messages), hint)


def _on_gpu(group: TensorGroup) -> TensorGroup:
    import torch

    def moved(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to("cuda")

    return replace(
        group,
        base=moved(group.base),
        models=moved(group.models),
        statistics={kind: moved(each) for kind, each in group.statistics.items()},
    )
