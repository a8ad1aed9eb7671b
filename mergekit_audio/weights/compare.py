"""Compare K models with their base: the measured sums as JSON facts, by tensor, layer and part."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from mergekit_audio.errors import InputError
from mergekit_audio.progress import Progress
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.dtypes import is_floating
from mergekit_audio.weights.geometry import Sums, measure, same_content
from mergekit_audio.weights.globs import matches
from mergekit_audio.weights.parts import by_group, by_part, in_model_order, part_of_groups
from mergekit_audio.weights.rank import Rank
from mergekit_audio.weights.rank import ranks as measure_ranks


def compare(
    base: Checkpoint,
    models: Mapping[str, Checkpoint],
    *,
    ranks: bool,
    workers: int | None,
    progress: Progress,
    chosen: Mapping[str, str] = MappingProxyType({}),
) -> Comparison:
    """Read everything once and return what was measured.

    Raises
    ------
    LayoutError
        A model does not hold the base's tensors; every difference is listed.
    InputError
        A tensor holds a value that is not finite, and that is not allowed, or a glob of ``chosen``
        matches no tensor that is still free.
    """
    each = list(models.values())
    for model in each:
        _require_comparable(base, model)
    groups = _chosen(base, chosen)
    sums = measure(base, each, workers=workers, progress=progress)
    found = measure_ranks(base, each, workers=workers, progress=progress) if ranks else {}
    same = [same_content(base, model, sums, place) for place, model in enumerate(each)]
    return Comparison(base, dict(models), sums, found, same, groups)


@dataclass(frozen=True)
class Comparison:
    """What was measured of K models beside their base.

    Parameters
    ----------
    base, models
        The checkpoints, models by a name for people.
    sums
        By tensor.
    ranks
        By matrix, one for each model; empty when they were not asked for.
    same
        Which models have the base's bits.
    chosen
        Groups of tensors that were asked for by globs, beside layers and parts.
    """

    base: Checkpoint
    models: dict[str, Checkpoint]
    sums: dict[str, Sums]
    ranks: dict[str, list[Rank | None]]
    same: list[bool]
    chosen: dict[str, list[str]] = field(default_factory=dict)

    def pair(self, model: str) -> dict[str, Any]:
        """Return one model's facts beside the base; the keys are explained at ``inspect_pair``."""
        place = list(self.models).index(model)
        groups, parts = by_group(self._named()), by_part(self._named())
        return {
            "base": self.base.source,
            "tuned": self.models[model].source,
            "same_content": self.same[place],
            "total": self._size(list(self.sums), place),
            "parts": [
                {"name": part, "tensors": len(names), **self._size(names, place)}
                for part, names in parts.items()
            ],
            "groups": [
                {"name": group, "tensors": len(names), **self._size(names, place)}
                for group, names in groups.items()
            ],
            **self._of_chosen(
                lambda names: {"tensors": len(names), **self._size(names, place)},
            ),
            "tensors": [{"name": name, **self._size([name], place)} for name in self.sums],
        }

    def relations(self) -> dict[str, Any]:
        """Return how the models lie to each other; the keys are explained at ``inspect_models``."""
        groups, parts = by_group(self._named()), by_part(self._named())
        part_names = part_of_groups(self.sums)
        return {
            "base": self.base.source,
            "models": list(self.models),
            **self._relation(list(self.sums)),
            "layer_order": in_model_order(part_names),
            "parts": [{"name": part, **self._relation(names)} for part, names in parts.items()],
            "groups": [
                {"name": group, "part": part_names[group], **self._relation(names)}
                for group, names in groups.items()
            ],
            **self._of_chosen(self._relation),
        }

    def _of_chosen(self, facts: Callable[[list[str]], dict[str, Any]]) -> dict[str, Any]:
        """Return the facts of each chosen group under ``chosen``; nothing where there is none."""
        found = [{"name": group, **facts(names)} for group, names in self.chosen.items()]
        return {"chosen": found} if found else {}

    def _named(self) -> list[tuple[str, str]]:
        return [(name, name) for name in self.sums]

    def _size(self, names: Sequence[str], place: int) -> dict[str, Any]:
        parts = [self.sums[name] for name in names]
        elements = sum(part.elements for part in parts)
        with np.errstate(over="ignore"):
            norm = _root(math.fsum(float(part.products[place, place]) for part in parts))
        base_norm = _root(math.fsum(part.base_squares for part in parts))
        changed = elements - sum(int(part.zeros[place]) for part in parts)
        largest = np.max([0.0, *(part.max_abs[place] for part in parts)])  # keeps a NaN
        return {
            "elements": elements,
            "norm": number(norm),
            "relative_norm": number(_relative(norm, base_norm)),
            "max_abs": number(float(largest)),
            "changed_share": changed / elements if elements else 0.0,
            **self._ranks(names, place),
        }

    def _ranks(self, names: Sequence[str], place: int) -> dict[str, Any]:
        found = [self.ranks[name][place] for name in names if name in self.ranks]
        known = [rank for rank in found if rank is not None]
        return {
            "matrices": sum(len(self.base.index[name].shape) == 2 for name in names),
            "effective_rank": _mean([rank.effective for rank in known]),
            "effective_rank_share": _mean([rank.share for rank in known]),
            "stable_rank": _mean([rank.stable for rank in known]),
        }

    def _relation(self, names: Sequence[str]) -> dict[str, Any]:
        total = Sums.total([self.sums[name] for name in names], len(self.models))
        norms = [_root(value) for value in np.diagonal(total.products).tolist()]
        sum_norm = _root(float(np.sum(total.products)))
        base_norm = _root(total.base_squares)
        mean_norm = math.fsum(norms) / len(norms) if norms else 0.0
        squares = np.diagonal(total.products)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            cosine = np.clip(total.products / np.sqrt(np.outer(squares, squares)), -1.0, 1.0)
            conflict = total.opposite / total.changed
        return {
            "norms": [number(norm) for norm in norms],
            "relative_norms": [number(_relative(norm, base_norm)) for norm in norms],
            "sum_norm": number(sum_norm),
            "growth": [number(sum_norm / norm) if norm else None for norm in norms],
            "sum_to_mean_norm": number(sum_norm / mean_norm) if mean_norm else None,
            "cosine": _table(cosine),
            "sign_conflict": _table(conflict),
            "sign_disagreement": total.disagreeing / total.shared if total.shared else None,
        }


def number(value: float) -> float | None:
    """Return a number as JSON can hold it: None for what is not finite."""
    return value if math.isfinite(value) else None


def _require_comparable(base: Checkpoint, model: Checkpoint) -> None:
    """Raise ``LayoutError`` unless names and shapes are equal; floating dtypes may differ."""
    fits = base.index.keys() == model.index.keys() and all(
        info.shape == model.index[name].shape
        and (
            info.dtype == model.index[name].dtype
            or (is_floating(info.dtype) and is_floating(model.index[name].dtype))
        )
        for name, info in base.index.items()
    )
    if not fits:
        base.require_same_layout(model)


def _chosen(base: Checkpoint, globs: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the floating-point tensors of each glob; the first that matches a tensor counts."""
    free = [name for name, info in base.index.items() if is_floating(info.dtype)]
    found: dict[str, list[str]] = {}
    for group, pattern in globs.items():
        found[group] = [name for name in free if matches(pattern, name)]
        if not found[group]:
            raise InputError(
                f"{base.source}: group {group!r}: no tensor matches {pattern!r}"
                + (" that is in no earlier group" if len(found) > 1 else ""),
                f"cmerge inspect {base.source} --tensors lists the names",
            )
        free = [name for name in free if name not in found[group]]
    return found


def _relative(norm: float, base_norm: float) -> float:
    if not norm:
        return 0.0
    return norm / base_norm if base_norm else math.inf


def _root(square: float) -> float:
    """Return the root of a sum of squares that rounding may have made negative; keeps a NaN."""
    return math.sqrt(max(square, 0.0)) if not math.isnan(square) else square


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _table(values: np.ndarray) -> list[list[float | None]]:
    return [[number(value) for value in row] for row in values.tolist()]
