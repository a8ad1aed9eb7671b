"""Compute merged tensors on all cores: streamed to a writer, whole, or as Δ kept in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mergekit_audio.cores import core_count
from mergekit_audio.merge.finishing import Deltas, Part, finish
from mergekit_audio.merge.parallel import WINDOW_BYTES, ordered_map
from mergekit_audio.merge.slices import SLICE_ELEMENTS, Unit, UnitSlices, units_of
from mergekit_audio.merge.surveys import UnitWork, one_thread_each, survey_models
from mergekit_audio.progress import Progress, ProgressEvent, silent
from mergekit_audio.weights.dtypes import STORED, as_torch

if TYPE_CHECKING:
    import torch

    from mergekit_audio.merge.planner import MergePlan

PART_ELEMENTS = 1 << 20
"""Tensors of elementwise methods are computed, hashed and written in runs of so many elements."""

_Job = tuple[UnitWork, int, int]


def merged_parts(
    plan: MergePlan,
    scales: Sequence[float | None] = (None,),
    order: Sequence[str] | None = None,
    progress: Progress = silent,
) -> Iterator[Part]:
    """Yield the stored bits of the output, run by run, at each λ.

    Computed on all cores, ahead of what is taken. Δ is computed once for all λ.

    Parameters
    ----------
    scales
        λ; None: the recipe's own. An override of the recipe keeps its λ.
    order
        Names in the file, in the order wanted; by default sorted.

    Raises
    ------
    InputError
        An input has a value that is not finite, or a merged value does not fit the output's dtype.
    """
    units = units_of(plan)
    if order is not None:
        place = {name: i for i, name in enumerate(order)}
        units.sort(key=lambda unit: min(place[row.stored_name] for row in unit.rows))
    done, seen = 0, ""
    with one_thread_each(plan):
        surveys = survey_models(plan, units, progress)
        works = (UnitWork(plan, unit, surveys) for unit in units)
        for parts in ordered_map(
            lambda job: finish(plan, job[0].unit, scales, job[0].deltas(*job[1:]), *job[1:]),
            (job for work in works for job in _jobs(work)),
            lambda job: (job[2] - job[1]) * 8 * len(scales),
            workers=core_count(),
            window=WINDOW_BYTES,
        ):
            for part in parts:
                if part.row.name != seen:
                    progress(
                        ProgressEvent("merge tensors", done, len(plan.rows), part.row.stored_name)
                    )
                    done, seen = done + 1, part.row.name
                yield part
            del parts, part
    progress(ProgressEvent("merge tensors", len(plan.rows), len(plan.rows)))


def merged_tensors(
    plan: MergePlan, progress: Progress = silent
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the merged tensors as torch's, in the base's spelling, sorted by it.

    θ = θ_base + scale · Δ in float64, rounded to the row's dtype. A copied tensor has the base's
    bits, or its values rounded where the output dtype is another.

    Raises
    ------
    InputError
        An input has a value that is not finite, or a merged value does not fit the output's dtype.
    """
    names = sorted(row.stored_name for row in plan.rows)
    finished: dict[str, torch.Tensor] = {}
    flat = np.empty(0)
    for part in merged_parts(plan, order=names, progress=progress):
        row, size = part.row, math.prod(part.row.shape)
        if part.start == 0:
            flat = part.bits[0] if part.bits[0].size == size else np.empty(size, STORED[row.dtype])
        if part.bits[0].size < size:
            flat[part.start : part.start + part.bits[0].size] = part.bits[0]
        if part.start + part.bits[0].size == size:
            finished[row.stored_name] = as_torch(flat.reshape(row.shape), row.dtype)
        while names and names[0] in finished:
            name = names.pop(0)
            yield name, finished.pop(name)


def compute_delta(plan: MergePlan, progress: Progress = silent) -> dict[str, torch.Tensor]:
    """Return Δ of every tensor that λ can move, float64, by canonical name.

    float64 keeps the promise that ``apply_delta`` gives the bits of ``merged_tensors``: 8 bytes a
    parameter, 755 MB for MERT-v1-95M. A fused kernel's Δ has the kernel's name (``….weight``).
    """
    units = [unit for unit in units_of(plan) if not unit.row.fixed]
    delta: dict[str, torch.Tensor] = {}
    with one_thread_each(plan):
        surveys = survey_models(plan, units, progress)
        results = ordered_map(
            lambda unit: _whole_delta(UnitWork(plan, unit, surveys)),
            units,
            lambda unit: 2 * unit.nbytes,
            workers=core_count(),
            window=WINDOW_BYTES,
        )
        for done, (unit, total) in enumerate(zip(units, results, strict=True)):
            progress(ProgressEvent("compute Δ", done, len(units), unit.row.stored_name))
            delta[unit.row.name] = as_torch(total, "float64")
    progress(ProgressEvent("compute Δ", len(units), len(units)))
    return delta


def apply_delta(
    plan: MergePlan, delta: Mapping[str, torch.Tensor], scale: float
) -> dict[str, torch.Tensor]:
    """Return the merge at another λ as a state dict by canonical name.

    The bits are those of ``merged_tensors`` of the same recipe with this scale; scale 0 returns the
    base's own bits.

    Parameters
    ----------
    plan
        The plan that ``delta`` was computed from.
    delta
        What ``compute_delta`` returned.
    scale
        λ of all tensors that no override of the recipe sets; an override keeps its own λ.

    Raises
    ------
    InputError
        A merged value does not fit the output's dtype.
    """
    state: dict[str, torch.Tensor] = {}
    for unit in units_of(plan):
        known = delta.get(unit.row.name)
        deltas = iter(()) if known is None else _known_deltas(plan, unit, known.numpy())
        for part in finish(plan, unit, [scale], deltas, 0, math.prod(unit.row.shape)):
            row = part.row
            state[row.name] = as_torch(part.bits[0].reshape(row.shape), row.dtype)
    return dict(sorted(state.items()))


def _jobs(work: UnitWork) -> Iterator[_Job]:
    """Cut a unit into runs where its method is elementwise; runs begin where slices do."""
    size = math.prod(work.unit.row.shape)
    whole = len(work.unit.rows) > 1 or work.unit.row.method.granularity != "element"
    step = size if whole else PART_ELEMENTS
    for start in range(0, size, step):
        yield work, start, min(start + step, size)


def _whole_delta(work: UnitWork) -> np.ndarray:
    total = np.empty(work.unit.row.shape)
    for start, _, values in work.deltas(0, total.size):
        total.reshape(-1)[start : start + values.size] = values
    return total


def _known_deltas(plan: MergePlan, unit: Unit, delta: np.ndarray) -> Deltas:
    base, flat = UnitSlices(plan, unit).base, delta.reshape(-1)
    for start in range(0, flat.size, SLICE_ELEMENTS):
        values = flat[start : start + SLICE_ELEMENTS]
        mine = np.empty(values.size)
        base.read(start, start + values.size, mine)
        yield start, mine, values
