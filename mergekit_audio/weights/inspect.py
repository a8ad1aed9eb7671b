"""Facts about checkpoints as plain JSON values: what they hold, and how far they are apart."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from mergekit_audio.weights.checkpoint import Checkpoint, TensorInfo
from mergekit_audio.weights.task_vector import TaskVector, TensorStats

T = TypeVar("T")
_ELEMENTS_AT_ONCE = 1 << 20


def inspect_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what a checkpoint holds: files, digest, sizes, and each tensor and layer group.

    ``norm`` and ``max_abs`` are over the finite values; ``nonfinite`` counts the others, which only
    a checkpoint opened with ``allow_nonfinite`` can have.

    Raises
    ------
    InputError
        A tensor holds a value that is not finite, and that is not allowed.
    """
    tensors = [_tensor_facts(checkpoint, name, info) for name, info in checkpoint.index.items()]
    dtypes: dict[str, int] = {}
    for facts in tensors:
        dtypes[facts["dtype"]] = dtypes.get(facts["dtype"], 0) + facts["elements"]
    config = checkpoint.config or {}
    return {
        "source": checkpoint.source,
        "folder": str(checkpoint.folder),
        "digest": checkpoint.digest(),
        "files": [
            {
                "name": path.relative_to(checkpoint.folder).as_posix(),
                "bytes": path.stat().st_size,
            }
            for path in checkpoint.files()
        ],
        "model_type": config.get("model_type"),
        "pre_layer_norm": config.get("do_stable_layer_norm"),
        "elements": sum(facts["elements"] for facts in tensors),
        "dtypes": dict(sorted(dtypes.items())),
        "respelt": {
            info.stored_name: name
            for name, info in checkpoint.index.items()
            if info.stored_name != name
        },
        "nonfinite": [facts["name"] for facts in tensors if facts["nonfinite"]],
        "groups": [
            {
                "name": group,
                "tensors": len(members),
                "elements": sum(facts["elements"] for facts in members),
                "norm": math.hypot(*(facts["norm"] for facts in members)),
            }
            for group, members in _grouped((facts["name"], facts) for facts in tensors).items()
        ],
        "tensors": tensors,
    }


def inspect_pair(base: Checkpoint, tuned: Checkpoint) -> dict[str, Any]:
    """Return the size of τ = θ_tuned − θ_base in all, by layer group and by tensor.

    Raises
    ------
    LayoutError
        The two do not hold the same tensors; every difference is listed.
    """
    stats = TaskVector.from_checkpoints(base, tuned).stats()
    groups = _grouped(stats.tensors.items())
    return {
        "base": base.source,
        "tuned": tuned.source,
        "same_content": base.digest() == tuned.digest(),
        "total": _size_facts(stats.total),
        "groups": [
            {"name": group, "tensors": len(parts), **_size_facts(TensorStats.total(parts))}
            for group, parts in groups.items()
        ],
        "tensors": [{"name": name, **_size_facts(part)} for name, part in stats.tensors.items()],
    }


def inspect_models(base: Checkpoint, models: Mapping[str, Checkpoint]) -> dict[str, Any]:
    """Return how the task vectors of several models lie to each other.

    ``cosine[i][j]`` is None where a task vector is zero. ``sign_conflict[i][j]`` is the share of
    values with opposite signs among those that both models changed, None where there are none.
    ``sum_to_mean_norm`` is ‖Σ τ‖ over the mean ‖τ‖: K for parallel task vectors, √K for orthogonal
    ones.

    Parameters
    ----------
    base
        The model that all were trained from.
    models
        The models by a name for people.

    Raises
    ------
    LayoutError
        A model does not hold the base's tensors; every difference is listed.
    """
    names = list(models)
    vectors = [TaskVector.from_checkpoints(base, model) for model in models.values()]
    by_tensor = {name: _Relations.of(vectors, name) for name in vectors[0].names} if names else {}
    total = _Relations.total(list(by_tensor.values()), len(names))
    norms = [math.sqrt(value) for value in np.diagonal(total.products).tolist()]
    mean_norm = math.fsum(norms) / len(norms) if norms else 0.0
    sum_norm = math.sqrt(np.maximum(np.sum(total.products), 0.0))  # keeps a NaN
    return {
        "base": base.source,
        "models": names,
        "norms": [_json_number(norm) for norm in norms],
        "sum_to_mean_norm": _json_number(sum_norm / mean_norm) if mean_norm else None,
        "cosine": total.cosine(),
        "sign_conflict": total.sign_conflict(),
        "groups": [
            {"name": group, "cosine": _Relations.total(parts, len(names)).cosine()}
            for group, parts in _grouped(by_tensor.items()).items()
        ],
    }


def group_of(name: str) -> str:
    """Return a tensor's layer group: its name up to the first number, or without its last word.

    ``encoder.layers.3.attention.k_proj.weight`` is in ``encoder.layers.3``,
    ``feature_projection.projection.bias`` in ``feature_projection.projection``.
    """
    parts = name.split(".")
    for place, part in enumerate(parts):
        if part.isdecimal():
            return ".".join(parts[: place + 1])
    return ".".join(parts[:-1]) or name


class _Relations:
    """Sums over K task vectors, ``[K, K]``: products τᵢ τⱼ, opposite signs, both changed."""

    def __init__(self, products: np.ndarray, opposite: np.ndarray, changed: np.ndarray) -> None:
        self.products = products
        self.opposite = opposite
        self.changed = changed

    @classmethod
    def of(cls, vectors: Sequence[TaskVector], name: str) -> _Relations:
        count = len(vectors)
        total = cls.total([], count)
        for slices in zip(*(vector.slices(name) for vector in vectors), strict=True):
            values = [part for _, part in slices]
            signs = [np.nan_to_num(np.sign(part)).astype(np.int8) for part in values]
            for i in range(count):
                for j in range(i + 1):
                    with np.errstate(invalid="ignore"):  # infinite values, where allowed
                        total.products[i, j] += np.sum(values[i] * values[j])
                    agreement = signs[i] * signs[j]
                    total.opposite[i, j] += np.count_nonzero(agreement < 0)
                    total.changed[i, j] += np.count_nonzero(agreement)
        for table in (total.products, total.opposite, total.changed):
            table += np.tril(table, -1).T
        return total

    @classmethod
    def total(cls, parts: Sequence[_Relations], count: int) -> _Relations:
        result = cls(
            np.zeros((count, count)),
            np.zeros((count, count), dtype=np.int64),
            np.zeros((count, count), dtype=np.int64),
        )
        for part in parts:
            result.products += part.products
            result.opposite += part.opposite
            result.changed += part.changed
        return result

    def cosine(self) -> list[list[float | None]]:
        squares = np.diagonal(self.products)
        scale = np.sqrt(np.outer(squares, squares))
        with np.errstate(invalid="ignore", divide="ignore"):
            return _table(np.clip(self.products / scale, -1.0, 1.0))

    def sign_conflict(self) -> list[list[float | None]]:
        with np.errstate(invalid="ignore"):
            return _table(self.opposite / self.changed)


def _table(values: np.ndarray) -> list[list[float | None]]:
    return [[_json_number(value) for value in row] for row in values.tolist()]


def _json_number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _size_facts(stats: TensorStats) -> dict[str, Any]:
    return {
        "elements": stats.elements,
        "norm": _json_number(stats.norm),
        "relative_norm": _json_number(stats.relative_norm),
        "max_abs": _json_number(stats.max_abs),
        "changed_share": 1.0 - stats.zero_share,
    }


def _tensor_facts(checkpoint: Checkpoint, name: str, info: TensorInfo) -> dict[str, Any]:
    tensor = checkpoint.tensor(name)
    squares, largest, nonfinite = 0.0, 0.0, 0
    flat = tensor.reshape(-1)
    for start in range(0, flat.numel(), _ELEMENTS_AT_ONCE):
        part = flat[start : start + _ELEMENTS_AT_ONCE]
        wide = part.abs() if part.is_complex() else part
        values: np.ndarray = wide.to(torch.float64).numpy()
        finite = values[np.isfinite(values)]
        nonfinite += values.size - finite.size
        squares += float(np.sum(np.square(finite)))
        largest = max(largest, float(np.max(np.abs(finite), initial=0.0)))
    return {
        "name": name,
        "stored_name": info.stored_name,
        "file": info.shard.relative_to(checkpoint.folder).as_posix(),
        "shape": list(info.shape),
        "dtype": info.dtype,
        "elements": flat.numel(),
        "norm": math.sqrt(squares),
        "max_abs": largest,
        "nonfinite": nonfinite,
    }


def _grouped(items: Iterable[tuple[str, T]]) -> dict[str, list[T]]:
    groups: dict[str, list[T]] = {}
    for name, item in items:
        groups.setdefault(group_of(name), []).append(item)
    return dict(sorted(groups.items(), key=lambda entry: _natural(entry[0])))


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key in which layer 10 comes after layer 9."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)
    ]
