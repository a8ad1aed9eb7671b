"""Facts about checkpoints as plain JSON values: what they hold, and how far they are apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from mergekit_audio.progress import Progress, silent
from mergekit_audio.weights.checkpoint import Checkpoint, TensorInfo
from mergekit_audio.weights.compare import Comparison, compare
from mergekit_audio.weights.dtypes import to_values
from mergekit_audio.weights.parts import by_group, group_of
from mergekit_audio.weights.suggestion import suggest_scale

__all__ = [
    "group_of",
    "inspect_checkpoint",
    "inspect_geometry",
    "inspect_models",
    "inspect_pair",
]

_ELEMENTS_AT_ONCE = 1 << 18


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
            for group, members in by_group((facts["name"], facts) for facts in tensors).items()
        ],
        "tensors": tensors,
    }


def inspect_geometry(
    base: Checkpoint,
    models: Mapping[str, Checkpoint],
    *,
    ranks: bool = True,
    groups: Mapping[str, str] = MappingProxyType({}),
    workers: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Return all facts about K models beside their base, from one pass over the checkpoints.

    ``pairs``: for each model its size beside the base, as :func:`inspect_pair` says.
    ``relations``: how the task vectors lie to each other, as :func:`inspect_models` says.
    ``suggestion``: a range of λ and why, as :func:`~.suggestion.suggest_scale` says.

    Parameters
    ----------
    base
        The model that all were trained from.
    models
        The models by a name for people; at least one.
    ranks
        Compute effective and stable ranks, which takes longer than all else; they are None
        otherwise.
    groups
        Globs over tensor names by a name for people: facts of these groups as well, under
        ``chosen`` of pairs and relations. The first that matches a tensor counts.
    workers
        Threads; None: one for each core. No effect on the result.
    progress
        Told of the work's steps.

    Raises
    ------
    LayoutError
        A model does not hold the base's tensors; every difference is listed.
    InputError
        A tensor holds a value that is not finite, and that is not allowed, or a group has none.
    """
    found = compare(base, models, ranks=ranks, workers=workers, progress=progress, chosen=groups)
    relations = found.relations()
    return {
        "pairs": [found.pair(name) for name in models],
        "relations": relations,
        "suggestion": suggest_scale(relations),
    }


def inspect_pair(base: Checkpoint, tuned: Checkpoint) -> dict[str, Any]:
    """Return the size of τ = θ_tuned − θ_base: ``total``, ``parts``, ``groups``, ``tensors``.

    ``norm`` is ‖τ‖, ``relative_norm`` ‖τ‖ / ‖θ_base‖ (None where only the base is 0), ``max_abs``
    the largest absolute value, ``changed_share`` the share of elements that are not 0.
    ``effective_rank``, ``effective_rank_share`` (of the full rank) and ``stable_rank`` are means
    over the ``matrices``; None here, where no ranks are computed. ``same_content``: every bit is
    the base's. A part is the front, the positional tensors, a stack of layers, or other; a group is
    a layer.

    Raises
    ------
    LayoutError
        The two do not hold the same tensors; every difference is listed.
    """
    return _compared(base, {tuned.source: tuned}).pair(tuned.source)


def inspect_models(base: Checkpoint, models: Mapping[str, Checkpoint]) -> dict[str, Any]:
    """Return how the task vectors of several models lie to each other.

    In all, by ``parts`` and by ``groups``: ``norms`` are ‖τᵢ‖ and ``relative_norms``
    ‖τᵢ‖ / ‖θ_base‖. ``sum_norm`` is ‖Σ τ‖; ``growth[i]`` is ‖Σ τ‖ / ‖τᵢ‖ and ``sum_to_mean_norm``
    ‖Σ τ‖ over the mean ‖τ‖: K for parallel task vectors, √K for orthogonal ones. ``cosine[i][j]``
    is None where a task vector is zero. ``sign_conflict[i][j]`` is the share of values with
    opposite signs among those that both models changed, ``sign_disagreement`` the share with both
    signs among those that two or more models changed; None where there are none. ``layer_order``
    names the groups as signals pass them: front, positional, stacks, other.

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
    return _compared(base, models).relations()


def _compared(base: Checkpoint, models: Mapping[str, Checkpoint]) -> Comparison:
    return compare(base, models, ranks=False, workers=None, progress=silent)


def _tensor_facts(checkpoint: Checkpoint, name: str, info: TensorInfo) -> dict[str, Any]:
    checkpoint.require_finite(name)
    squares, largest, nonfinite = [], 0.0, 0
    flat = checkpoint.bits(name).reshape(-1)
    for start in range(0, flat.size, _ELEMENTS_AT_ONCE):
        part = to_values(flat[start : start + _ELEMENTS_AT_ONCE], info.dtype)
        values = (np.abs(part) if np.iscomplexobj(part) else part).astype(np.float64)
        finite = values[np.isfinite(values)]
        nonfinite += values.size - finite.size
        squares.append(float(np.sum(np.square(finite))))
        largest = max(largest, float(np.max(np.abs(finite), initial=0.0)))
    return {
        "name": name,
        "stored_name": info.stored_name,
        "file": info.shard.relative_to(checkpoint.folder).as_posix(),
        "shape": list(info.shape),
        "dtype": info.dtype,
        "elements": flat.size,
        "norm": math.sqrt(math.fsum(squares)),
        "max_abs": largest,
        "nonfinite": nonfinite,
    }
