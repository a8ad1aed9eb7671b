"""Compute merged tensors: θ = θ_base + scale · Δ in float64, rounded once to the output dtype."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mergekit_audio.errors import DependencyError, InputError
from mergekit_audio.merge.operands import Stored, factor_kernel, whole
from mergekit_audio.merge.parallel import core_count, ordered_map
from mergekit_audio.merge.slices import SLICE_ELEMENTS, Unit, UnitSlices, units_of
from mergekit_audio.methods._arrays import to_numpy
from mergekit_audio.methods.base import MergeMethod, Slices
from mergekit_audio.progress import Progress, ProgressEvent, silent
from mergekit_audio.weights.dtypes import STORED, as_torch, from_float64, largest, to_float64

if TYPE_CHECKING:
    import torch

    from mergekit_audio.merge.planner import MergePlan
    from mergekit_audio.merge.rows import PlanRow

T = TypeVar("T")
WINDOW_BYTES = 16_000_000
"""So much output is computed ahead of what is written, or two tensors."""


def merged_bits(
    plan: MergePlan,
    scales: Sequence[float | None] = (None,),
    order: Sequence[str] | None = None,
    progress: Progress = silent,
) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Yield each merged tensor's stored bits at each λ: (its name in the file, one array a λ).

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
    with _one_thread_each(plan):
        surveys = _survey_models(plan, units, progress)

        def merge(unit: Unit) -> list[tuple[PlanRow, list[np.ndarray]]]:
            return _merged_unit(plan, unit, scales, surveys)

        done = 0
        for results in ordered_map(
            merge,
            units,
            lambda unit: unit.nbytes * len(scales),
            workers=core_count(),
            window=WINDOW_BYTES,
        ):
            for row, bits in results:
                progress(ProgressEvent("merge tensors", done, len(plan.rows), row.stored_name))
                yield row.stored_name, bits
                done += 1
            del results
    progress(ProgressEvent("merge tensors", len(plan.rows), len(plan.rows)))


def merged_tensors(
    plan: MergePlan, progress: Progress = silent
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the merged tensors as torch's, in the base's spelling, sorted by it.

    θ = θ_base + scale · Δ in float64, rounded once to the row's dtype. A copied tensor has the
    base's bits, or its values rounded where the output dtype is another.

    Raises
    ------
    InputError
        An input has a value that is not finite, or a merged value does not fit the output's dtype.
    """
    dtypes = {row.stored_name: row.dtype for row in plan.rows}
    for name, (bits,) in merged_bits(plan, order=sorted(dtypes), progress=progress):
        yield name, as_torch(bits, dtypes[name])


def compute_delta(plan: MergePlan, progress: Progress = silent) -> dict[str, torch.Tensor]:
    """Return Δ of every tensor that λ can move, float64, by canonical name.

    float64 keeps the promise that ``apply_delta`` gives the bits of ``merged_tensors``: 8 bytes a
    parameter, 755 MB for MERT-v1-95M. A fused kernel's Δ has the kernel's name (``….weight``).
    """
    units = [unit for unit in units_of(plan) if not unit.row.fixed]
    delta: dict[str, torch.Tensor] = {}
    with _one_thread_each(plan):
        surveys = _survey_models(plan, units, progress)

        def compute(unit: Unit) -> np.ndarray:
            total = np.empty(unit.row.shape)
            for start, values in _deltas(_slices(plan, unit, surveys)):
                total.reshape(-1)[start : start + values.size] = values
            return total

        results = ordered_map(
            compute,
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
        parts = None if known is None else _known_slices(plan, unit, known.numpy().reshape(-1))
        for row, (bits,) in _finished(plan, unit, [scale], parts):
            state[row.name] = as_torch(bits, row.dtype)
    return dict(sorted(state.items()))


Surveys = list[tuple[MergeMethod, Any]]
Parts = Callable[[], Iterator[tuple[int, np.ndarray, np.ndarray]]]


def _merged_unit(
    plan: MergePlan, unit: Unit, scales: Sequence[float | None], surveys: Surveys
) -> list[tuple[PlanRow, list[np.ndarray]]]:
    def parts() -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        slices = _slices(plan, unit, surveys)
        for group in slices:
            values = to_numpy(unit.row.method.merge_tensor(group)).reshape(-1)
            yield group.start, to_numpy(group.base).reshape(-1), values

    return _finished(plan, unit, scales, parts)


def _known_slices(plan: MergePlan, unit: Unit, delta: np.ndarray) -> Parts:
    def parts() -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        base = UnitSlices(plan, unit).base
        for start in range(0, delta.size, SLICE_ELEMENTS):
            values = delta[start : start + SLICE_ELEMENTS]
            mine = np.empty(values.size)
            base.read(start, start + values.size, mine)
            yield start, mine, values

    return parts


def _finished(
    plan: MergePlan, unit: Unit, scales: Sequence[float | None], parts: Parts | None
) -> list[tuple[PlanRow, list[np.ndarray]]]:
    """Return the stored bits of a unit's rows at each λ.

    Product and sum are two roundings, never one fused: the bits are the same for any slicing.
    """
    row = unit.row
    factors = [_factor(row, scale) for scale in scales]
    if parts is None or not any(factors):
        return [(each, [_copied(plan, each)] * len(scales)) for each in unit.rows]
    fused = len(unit.rows) > 1
    dtype = "float64" if fused else row.dtype
    results = [np.empty(row.shape, STORED[dtype]) if factor else None for factor in factors]
    with np.errstate(over="ignore", invalid="ignore"):
        for start, base, delta in parts():
            for factor, result in zip(factors, results, strict=True):
                if result is None:
                    continue
                values = delta * factor
                values += base
                part = result.reshape(-1)[start : start + values.size]
                if dtype == "float32":
                    np.copyto(part, values, casting="same_kind")
                else:
                    part[...] = from_float64(values, dtype)
                _check_range(plan, row, values, part, dtype)
    if fused:
        return _factored(plan, unit, results)
    return [(row, [_copied(plan, row) if each is None else each for each in results])]


def _factored(
    plan: MergePlan, unit: Unit, kernels: Sequence[np.ndarray | None]
) -> list[tuple[PlanRow, list[np.ndarray]]]:
    """Split merged kernels into g and v; a kernel that is None is the base's own."""
    magnitude, direction = unit.rows
    g, v = (whole(Stored(plan.base, row.base_name)) for row in unit.rows)
    pairs = [each if each is None else factor_kernel(each, g, v) for each in kernels]
    found: list[tuple[PlanRow, list[np.ndarray]]] = [(magnitude, []), (direction, [])]
    for pair in pairs:
        for row, bits in found:
            if pair is None:
                bits.append(_copied(plan, row))
                continue
            values = pair.magnitude if row is magnitude else pair.direction
            stored = from_float64(values, row.dtype)
            _check_range(plan, row, values, stored, row.dtype)
            bits.append(stored)
    return found


def _factor(row: PlanRow, scale: float | None) -> float:
    if row.fixed:
        return 0.0
    return row.scale if scale is None or row.override is not None else scale


def _copied(plan: MergePlan, row: PlanRow) -> np.ndarray:
    """Return the base's bits, rounded where the output has another dtype."""
    plan.base.require_finite(row.base_name)
    dtype = plan.base.index[row.base_name].dtype
    bits = plan.base.bits(row.base_name)
    if dtype == row.dtype:
        return bits
    values = to_float64(bits, dtype)
    stored = from_float64(values, row.dtype)
    _check_range(plan, row, values, stored, row.dtype)
    return stored


def _check_range(
    plan: MergePlan, row: PlanRow, values: np.ndarray, stored: np.ndarray, dtype: str
) -> None:
    """Raise ``InputError`` when a value is beyond the output's dtype."""
    rounded = to_float64(stored, dtype) if STORED[dtype].kind == "u" else stored
    if np.isfinite(rounded).all():
        return
    lost = ~np.isfinite(rounded)
    if plan.recipe.allow_nonfinite:
        lost &= np.isfinite(values)
    if lost.any():
        value = np.abs(values[lost]).max()
        raise InputError(
            f"{row.stored_name}: {int(lost.sum())} merged values do not fit {dtype}: "
            f"found {value:.6g}, its largest is {largest(dtype):.6g}",
            "choose a smaller scale"
            if STORED[dtype].itemsize >= 4
            else "choose a wider dtype (--set dtype=float32), or a smaller scale",
        )


def _slices(plan: MergePlan, unit: Unit, surveys: Surveys) -> UnitSlices:
    method = unit.row.method
    known = next((found for each, found in surveys if each == method), None)
    slices = UnitSlices(plan, unit, known)
    slices.survey = method.survey(slices, known)
    return slices


def _deltas(slices: UnitSlices) -> Iterator[tuple[int, np.ndarray]]:
    for group in slices:
        yield group.start, to_numpy(slices.unit.row.method.merge_tensor(group)).reshape(-1)


def _survey_models(plan: MergePlan, units: Sequence[Unit], progress: Progress) -> Surveys:
    """Let methods that must know the whole model read it once before the merge."""
    surveys: Surveys = []
    for unit in units:
        method = unit.row.method
        surveyed = type(method).survey_model is not MergeMethod.survey_model
        if not surveyed or unit.row.fixed or any(each == method for each, _ in surveys):
            continue
        members = [each for each in units if not each.row.fixed and each.row.method == method]
        surveys.append((method, method.survey_model(_Tensors(plan, members, progress))))
    return surveys


class _Tensors:
    """All units of one method, by canonical name; see ``methods.base.Tensors``."""

    def __init__(self, plan: MergePlan, units: Sequence[Unit], progress: Progress) -> None:
        self._plan, self._progress = plan, progress
        self._units = sorted(units, key=lambda unit: unit.row.name)

    def map(self, function: Callable[[Slices], T]) -> list[T]:
        """Return ``function`` of each tensor, in their order; computed on all cores."""
        results: list[T] = []
        computed = ordered_map(
            lambda unit: function(UnitSlices(self._plan, unit)),
            self._units,
            lambda unit: unit.nbytes,
            workers=core_count(),
            window=WINDOW_BYTES,
        )
        for done, result in enumerate(computed):
            self._progress(ProgressEvent("survey tensors", done, len(self._units)))
            results.append(result)
        self._progress(ProgressEvent("survey tensors", len(self._units), len(self._units)))
        return results


@contextlib.contextmanager
def _one_thread_each(plan: MergePlan) -> Iterator[None]:
    """Keep linear algebra on one thread: tensors run side by side, and sums keep their order."""
    if plan.recipe.device == "cuda":
        _require_gpu()
    methods = [row.method for row in plan.rows if not row.fixed]
    if all(method.is_plain for method in methods):
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def _require_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        raise DependencyError(
            "device: cuda, but torch finds no GPU", "use `device: cpu`, or a machine with a GPU"
        )
