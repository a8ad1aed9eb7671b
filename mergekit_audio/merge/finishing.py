"""From Δ to what is written: θ = θ_base + scale · Δ in float64, rounded to the output's dtype."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mergekit_audio.errors import InputError
from mergekit_audio.merge.operands import Stored, factor_kernel, whole
from mergekit_audio.merge.rows import PlanRow
from mergekit_audio.merge.slices import Unit, raise_nonfinite
from mergekit_audio.weights.dtypes import STORED, from_float64, largest, to_float64

if TYPE_CHECKING:
    from mergekit_audio.merge.planner import MergePlan


@dataclass(frozen=True)
class Part:
    """A run of one tensor of the output: its stored bits, flat, at each λ.

    ``start`` is the place of its first element in the flat tensor.
    """

    row: PlanRow
    start: int
    bits: list[np.ndarray]


Deltas = Iterator[tuple[int, np.ndarray, np.ndarray]]
"""(Place in the flat tensor, base, Δ): flat float64 arrays, in order."""


def finish(
    plan: MergePlan,
    unit: Unit,
    scales: Sequence[float | None],
    deltas: Deltas,
    start: int,
    stop: int,
) -> list[Part]:
    """Return the elements ``start`` to ``stop`` of a unit's rows at each λ.

    Product and sum are two roundings, never one fused: the bits are the same for any slicing.

    Parameters
    ----------
    scales
        λ; None: the row's own.
    deltas
        Δ of these elements; not asked for where every λ is 0.

    Raises
    ------
    InputError
        A merged value does not fit the output's dtype.
    """
    row = unit.row
    factors = [factor_of(row, scale) for scale in scales]
    if not any(factors):
        return [copied(plan, each, len(scales), start, stop) for each in unit.rows]
    fused = len(unit.rows) > 1
    dtype = "float64" if fused else row.dtype
    results = [np.empty(stop - start, STORED[dtype]) if each else None for each in factors]
    with np.errstate(over="ignore", invalid="ignore"):
        for place, base, delta in deltas:
            run = slice(place - start, place - start + delta.size)
            for factor, result in zip(factors, results, strict=True):
                if result is None:
                    continue
                values = delta * factor
                values += base
                if dtype == "float32":
                    np.copyto(result[run], values, casting="same_kind")
                else:
                    result[run] = from_float64(values, dtype)
                _check_range(plan, row, values, result[run], dtype)
    if fused:
        return _factored(plan, unit, results)
    bits = [copied(plan, row, 1, start, stop).bits[0] if r is None else r for r in results]
    return [Part(row, start, bits)]


def factor_of(row: PlanRow, scale: float | None) -> float:
    """Return λ of a row when the recipe's is ``scale``: an override keeps its own."""
    if row.fixed:
        return 0.0
    return row.scale if scale is None or row.override is not None else scale


def copied(plan: MergePlan, row: PlanRow, count: int, start: int, stop: int) -> Part:
    """Return the base's bits, ``count`` times, rounded where the output has another dtype."""
    plan.base.require_finite(row.base_name)
    dtype = plan.base.index[row.base_name].dtype
    bits = plan.base.bits(row.base_name).reshape(-1)[start:stop]
    if dtype == row.dtype:
        return Part(row, start, [bits] * count)
    values = to_float64(bits, dtype)
    stored = from_float64(values, row.dtype)
    _check_range(plan, row, values, stored, row.dtype)
    return Part(row, start, [stored] * count)


def _factored(plan: MergePlan, unit: Unit, kernels: Sequence[np.ndarray | None]) -> list[Part]:
    """Split merged kernels into g and v; a kernel that is None is the base's own."""
    g, v = (whole(Stored(plan.base, row.base_name)) for row in unit.rows)
    parts = [Part(row, 0, []) for row in unit.rows]
    for kernel in kernels:
        if kernel is None:
            for part in parts:
                part.bits.extend(copied(plan, part.row, 1, 0, math.prod(part.row.shape)).bits)
            continue
        factored = factor_kernel(kernel.reshape(v.shape), g, v)
        for part, values in zip(parts, (factored.magnitude, factored.direction), strict=True):
            stored = from_float64(values.reshape(-1), part.row.dtype)
            _check_range(plan, part.row, values.reshape(-1), stored, part.row.dtype)
            part.bits.append(stored)
    return parts


def _check_range(
    plan: MergePlan, row: PlanRow, values: np.ndarray, stored: np.ndarray, dtype: str
) -> None:
    """Raise ``InputError`` when a value is beyond the output's dtype, or an input not finite."""
    rounded = to_float64(stored, dtype) if STORED[dtype].kind == "u" else stored
    if np.isfinite(rounded).all():
        return
    lost = ~np.isfinite(rounded)
    if plan.recipe.allow_nonfinite:
        lost &= np.isfinite(values)
    else:
        raise_nonfinite(plan)
    if lost.any():
        value = np.abs(values[lost]).max()
        raise InputError(
            f"{row.stored_name}: {int(lost.sum())} merged values do not fit {dtype}: "
            f"found {value:.6g}, its largest is {largest(dtype):.6g}",
            "choose a smaller scale"
            if STORED[dtype].itemsize >= 4
            else "choose a wider dtype (--set dtype=float32), or a smaller scale",
        )
