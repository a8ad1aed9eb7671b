"""Compute merged tensors: θ = θ_base + scale · Δ in float64, rounded once to the output dtype."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch

from mergekit_audio.errors import InputError
from mergekit_audio.methods.base import TensorGroup
from mergekit_audio.progress import Progress, ProgressEvent, silent
from mergekit_audio.weights.rounding import dtype_of, round_once

if TYPE_CHECKING:
    from mergekit_audio.merge.planner import MergePlan, PlanRow

SLICE_ELEMENTS = 1 << 15
"""Elementwise methods see at most this many elements at a time.

Measured fastest: the float64 slices of all models stay in the processor's cache, and torch computes
so few elements in the calling thread, without waking others for microseconds of work.
"""


def merged_tensors(
    plan: MergePlan, progress: Progress = silent
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the merged tensors, one in memory at a time, in the base's spelling, sorted by it.

    θ = θ_base + scale · Δ in float64, rounded once to the row's dtype. A copied tensor has the
    base's bits, or its values rounded once where the output dtype is another.

    Raises
    ------
    InputError
        An input has a value that is not finite, or a merged value does not fit the output's dtype.
    """
    for done, row in enumerate(plan.rows):
        progress(ProgressEvent("merge tensors", done, len(plan.rows), row.stored_name))
        scale = row.scale if row.action == "merge" else 0.0
        yield row.stored_name, _merged(plan, row, scale)
    progress(ProgressEvent("merge tensors", len(plan.rows), len(plan.rows)))


def compute_delta(plan: MergePlan, progress: Progress = silent) -> dict[str, torch.Tensor]:
    """Return Δ of every tensor that λ can move, float64, by canonical name.

    float64 keeps the promise that ``apply_delta`` gives the bits of ``merged_tensors``: 8 bytes a
    parameter, 755 MB for MERT-v1-95M.
    """
    rows = [row for row in plan.rows if not row.fixed]
    delta: dict[str, torch.Tensor] = {}
    for done, row in enumerate(rows):
        progress(ProgressEvent("compute Δ", done, len(rows), row.stored_name))
        total = torch.empty(row.shape, dtype=torch.float64)
        for part, _, values in _deltas(plan, row, plan.base.tensor(row.name)):
            total.view(-1)[part] = values
        delta[row.name] = total
    progress(ProgressEvent("compute Δ", len(rows), len(rows)))
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
    for row in sorted(plan.rows, key=lambda row: row.name):
        factor = 0.0 if row.fixed else row.scale if row.override is not None else scale
        state[row.name] = _merged(plan, row, factor, delta.get(row.name))
    return state


def _merged(
    plan: MergePlan, row: PlanRow, scale: float, known: torch.Tensor | None = None
) -> torch.Tensor:
    base = plan.base.tensor(row.name)
    dtype = dtype_of(row.dtype)
    if not scale and base.dtype == dtype:
        return base
    merged = torch.empty(base.shape, dtype=dtype)
    flat = merged.view(-1)
    for part, values in _values(plan, row, base, scale, known):
        flat[part] = round_once(values, dtype)
        _check_range(plan, row, values, flat[part])
    return merged


def _values(
    plan: MergePlan, row: PlanRow, base: torch.Tensor, scale: float, known: torch.Tensor | None
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yield (place in the flat tensor, base + scale · Δ before rounding), flat and float64.

    Product and sum are two roundings, never one fused, so that the bits do not depend on threads.
    """
    if not scale:
        yield from _base_slices(base, SLICE_ELEMENTS)
    elif known is not None:
        for part, values in _base_slices(base, SLICE_ELEMENTS):
            yield part, known.view(-1)[part].mul(scale).add_(values)
    else:
        for part, values, delta in _deltas(plan, row, base):
            yield part, delta.mul(scale).add_(values)


def _check_range(
    plan: MergePlan, row: PlanRow, values: torch.Tensor, rounded: torch.Tensor
) -> None:
    """Raise ``InputError`` when a value is beyond the output's dtype."""
    wide = rounded if rounded.element_size() > 1 else rounded.to(torch.float32)
    if wide.isfinite().all():
        return
    lost = ~wide.isfinite()
    if plan.recipe.allow_nonfinite:
        lost &= values.isfinite()
    if lost.any():
        largest = torch.finfo(rounded.dtype).max
        value = values[lost].abs().max().item()
        raise InputError(
            f"{row.stored_name}: {int(lost.sum())} merged values do not fit {row.dtype}: "
            f"found {value:.6g}, its largest is {largest:.6g}",
            "choose a smaller scale"
            if rounded.element_size() >= 4
            else "choose a wider dtype (--set dtype=float32), or a smaller scale",
        )


def _deltas(
    plan: MergePlan, row: PlanRow, base: torch.Tensor
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Yield (place in the flat tensor, base, Δ), both flat and float64."""
    method = plan.recipe.method
    models = [model.tensor(row.name).reshape(-1) for model in plan.models]
    weights = torch.tensor(plan.weights, dtype=torch.float64)
    generator = _generator(plan.recipe.seed, row.name)
    for part, values in _base_slices(base, SLICE_ELEMENTS if method.elementwise else base.numel()):
        stacked = torch.empty((len(models), values.numel()), dtype=torch.float64)
        for target, model in zip(stacked, models, strict=True):
            target.copy_(model[part])
        shape = values.shape if method.elementwise else base.shape
        group = TensorGroup(
            name=row.stored_name,
            base=values.view(shape),
            models=stacked.view(len(models), *shape),
            weights=weights,
            generator=generator,
        )
        yield part, values, method.merge_tensor(group).reshape(-1)


def _base_slices(base: torch.Tensor, size: int) -> Iterator[tuple[slice, torch.Tensor]]:
    flat = base.reshape(-1)
    for start in range(0, flat.numel(), max(size, 1)):
        part = slice(start, start + size)
        yield part, flat[part].to(torch.float64)


def _generator(seed: int, name: str) -> torch.Generator:
    """Return a generator that depends on the recipe's seed and the tensor's name alone."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
