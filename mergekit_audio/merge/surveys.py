"""Let merge methods read tensors, or the whole model, before the merge of the first element."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from mergekit_audio.cores import core_count
from mergekit_audio.errors import DependencyError
from mergekit_audio.merge.finishing import Deltas
from mergekit_audio.merge.parallel import WINDOW_BYTES, ordered_map
from mergekit_audio.merge.slices import Unit, UnitSlices
from mergekit_audio.methods._arrays import to_numpy
from mergekit_audio.methods.base import MergeMethod, Slices
from mergekit_audio.progress import Progress, ProgressEvent

if TYPE_CHECKING:
    from mergekit_audio.merge.planner import MergePlan

T = TypeVar("T")
ModelSurveys = list[tuple[MergeMethod, Any]]
"""Each method that surveyed the model, and what it found."""


class UnitWork:
    """One unit to be merged, by several threads perhaps; it is surveyed once, by the first."""

    def __init__(self, plan: MergePlan, unit: Unit, surveys: ModelSurveys) -> None:
        self.plan, self.unit, self._surveys = plan, unit, surveys
        self._lock = threading.Lock()
        self._slices: UnitSlices | None = None

    def deltas(self, start: int, stop: int) -> Deltas:
        """Yield Δ of the elements ``start`` to ``stop``, where slices may start and end."""
        method = self.unit.row.method
        for group in self._surveyed().between(start, stop):
            values = to_numpy(method.merge_tensor(group)).reshape(-1)
            yield group.start, to_numpy(group.base).reshape(-1), values

    def _surveyed(self) -> UnitSlices:
        with self._lock:
            if self._slices is None:
                method = self.unit.row.method
                known = next((found for each, found in self._surveys if each == method), None)
                slices = UnitSlices(self.plan, self.unit, known)
                slices.survey = method.survey(slices, known)
                self._slices = slices
            return self._slices


def survey_models(plan: MergePlan, units: Sequence[Unit], progress: Progress) -> ModelSurveys:
    """Let the methods that must know the whole model read it, each once."""
    surveys: ModelSurveys = []
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
        self.size = sum(math.prod(unit.row.shape) for unit in units)

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
def one_thread_each(plan: MergePlan) -> Iterator[None]:
    """Keep linear algebra on one thread: tensors run side by side, and sums keep their order.

    Raises
    ------
    DependencyError
        The recipe wants a GPU and there is none.
    """
    if plan.recipe.device == "cuda":
        _require_gpu()
    if all(row.method.is_plain for row in plan.rows if not row.fixed):
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
