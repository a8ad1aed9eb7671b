"""Compare models on the tracks of test splits: paired bootstrap, Holm's correction, sign flips."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mergekit_audio.errors import InputError
from mergekit_audio.probe.intervals import bca_interval, bootstrap_p_value, percentile_interval
from mergekit_audio.probe.metrics import require_scores
from mergekit_audio.probe.resampling import resampling_weights, statistic
from mergekit_audio.probe.significance import holm, sign_flip_p_value
from mergekit_audio.probe.task_metrics import METRICS_OF_KIND, score_task
from mergekit_audio.progress import Progress, ProgressEvent, silent
from mergekit_audio.recipe.evaluate import TaskKind

RESAMPLES = 10_000
CONFIDENCE = 0.95
FEWEST_RESAMPLES = 2
MEAN = "mean"


@dataclass(frozen=True)
class TaskScores:
    """What all models' probes said of one task's test tracks.

    Parameters
    ----------
    name, kind, western
        Of the task.
    labels
        Tags, classes or outputs, in the columns' order.
    targets
        Tags ``[tracks, labels]``, class indices ``[tracks]``, or values ``[tracks, outputs]``.
    scores
        For each model by name, float32 or float64, shape ``[seeds, tracks, labels]``, seeds and
        tracks in the same order for all; of a tempo task ``[seeds, tracks, 1 or 300]``.
    """

    name: str
    kind: TaskKind
    labels: tuple[str, ...]
    targets: NDArray[Any]
    scores: Mapping[str, NDArray[np.floating[Any]]]
    western: bool = False


def compare(
    tasks: Sequence[TaskScores],
    models: Sequence[str],
    *,
    reference: str | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Return every difference that a table shows, with its intervals and p-values.

    For each pair, each task and metric, and the averages over tasks (all; non-Western and Western
    where there are both): scores are averaged over seeds track by track, then the metrics of both
    models are taken on the same resamples of the tracks (each task has its own), and their
    difference is given with percentile and BCa interval and bootstrap p-value. Holm's correction
    takes all differences of the call as one family. The sign-flip test asks something else: whether
    the difference is above the noise of the probes' seeds, on these very tracks.

    Parameters
    ----------
    tasks
        The tasks in the table's order.
    models
        The models to compare, in the table's order.
    reference
        What the others are compared with; ``None`` means the first model.
    pairs
        Other pairs (model, reference) instead of all models with the reference.
    resamples
        Of the tracks; with m differences, a corrected p-value can't be below
        ``2 m / (resamples + 1)``.
    seed
        Of the resamples.
    confidence
        Of the intervals, between 0 and 1; the level of the tests is ``1 - confidence``.
    progress
        Called after each model's resamples of a task.

    Returns
    -------
    dict
        ``reference``, ``confidence``, ``resamples``, ``seed``, ``seeds``, ``smallest_holm_p`` and
        ``entries``, each with ``models`` (model, reference), ``task`` (``None`` of an average),
        ``average`` (``None`` of a task), ``metric``, ``difference`` (model minus reference, of
        scores averaged over seeds), ``mean_of_seeds`` (the mean difference of the seeds' own
        metrics, as a table of means shows it), ``percentile``, ``bca``, ``p``, ``holm_p``,
        ``sign_flip_p`` (or ``not possible``), ``tracks``, ``seeds``, ``resamples`` (those in which
        the metric exists) and ``seed``. Intervals and p-values are ``None`` where fewer than two
        resamples can be scored.

    Raises
    ------
    InputError
        A model has no scores of a task, shapes do not fit, scores are of half precision or not
        finite, or a name is unknown.
    """
    chosen = _pairs(models, reference, pairs)
    used = list(dict.fromkeys(name for pair in chosen for name in pair))
    _require_scores(tasks, used)
    measured: dict[tuple[str, str], _Measured] = {}
    for task in tasks:
        for name in used:
            measured[task.name, name] = _measure(task, name, resamples, seed)
            event = ProgressEvent("compare", len(measured), len(tasks) * len(used))
            progress(event)
    columns = _columns(tasks)
    entries = [
        _entry(pair, column, measured, seed, confidence) for pair in chosen for column in columns
    ]
    known = [entry for entry in entries if entry["p"] is not None]
    corrected = holm([entry["p"] for entry in known])
    for entry, p_value in zip(known, corrected, strict=True):
        entry["holm_p"] = p_value
    return {
        "reference": chosen[0][1] if pairs is None and chosen else None,
        "confidence": confidence,
        "resamples": resamples,
        "seed": seed,
        "seeds": len(next(iter(tasks[0].scores.values()))) if tasks else 0,
        "smallest_holm_p": min(1.0, 2.0 * len(known) / (resamples + 1)),
        "entries": entries,
    }


@dataclass(frozen=True)
class _Measured:
    """The metrics of one model on one task.

    ``value [metrics]`` of the scores averaged over seeds, ``of_seeds [metrics, seeds]``,
    ``resampled [metrics, resamples]``, ``without_each [metrics, tracks]``.
    """

    value: NDArray[np.float64]
    of_seeds: NDArray[np.float64]
    resampled: NDArray[np.float64]
    without_each: NDArray[np.float64]


@dataclass(frozen=True)
class _Column:
    """One column of a table: the tasks that it averages and which of their metrics."""

    task: str | None
    average: str | None
    metric: str
    parts: tuple[tuple[str, tuple[int, ...]], ...]


def _measure(task: TaskScores, model: str, resamples: int, seed: int) -> _Measured:
    of_seeds = [values.astype(np.float64) for values in task.scores[model]]
    mean = np.mean(of_seeds, axis=0)
    metrics = METRICS_OF_KIND[task.kind]
    known = statistic(task.kind, mean, task.targets, task.labels)
    blocks = resampling_weights(len(mean), resamples, seed=seed, name=task.name)

    def metrics_of(scores: NDArray[np.float64]) -> list[float]:
        found = score_task(task.kind, scores, task.targets, task.labels, split=f"{task.name} test")
        return [found.macro(metric) for metric in metrics]

    return _Measured(
        value=np.array(metrics_of(mean)),
        of_seeds=np.array([metrics_of(scores) for scores in of_seeds]).T,
        resampled=np.concatenate([known.resampled(weights) for weights in blocks], axis=1),
        without_each=known.without_each(),
    )


def _columns(tasks: Sequence[TaskScores]) -> list[_Column]:
    columns = []
    for task in tasks:
        for place, metric in enumerate(METRICS_OF_KIND[task.kind]):
            columns.append(_Column(task.name, None, metric, ((task.name, (place,)),)))
    groups = {
        "all": list(tasks),
        "non_western": [task for task in tasks if not task.western],
        "western": [task for task in tasks if task.western],
    }
    if not groups["western"] or not groups["non_western"]:
        groups = {"all": list(tasks)}
    for group, members in groups.items():
        parts = tuple(
            (task.name, tuple(range(len(METRICS_OF_KIND[task.kind])))) for task in members
        )
        columns.append(_Column(None, group, MEAN, parts))
    return columns


def _entry(
    pair: tuple[str, str],
    column: _Column,
    measured: Mapping[tuple[str, str], _Measured],
    seed: int,
    confidence: float,
) -> dict[str, Any]:
    width = sum(len(places) for _, places in column.parts)

    def differences(name: str) -> list[NDArray[np.float64]]:
        """Return each task's part of the column's difference: of a mean over the column's width."""
        return [
            (getattr(measured[task, pair[0]], name) - getattr(measured[task, pair[1]], name))[
                list(places)
            ].sum(axis=0)
            / width
            for task, places in column.parts
        ]

    value = float(np.sum(differences("value")))
    of_seeds = [float(each) for each in np.sum(differences("of_seeds"), axis=0)]
    without_each = differences("without_each")
    resampled = np.sum(differences("resampled"), axis=0)
    resampled = resampled[~np.isnan(resampled)]
    enough = len(resampled) >= FEWEST_RESAMPLES
    bca = bca_interval(value, resampled, without_each, confidence) if enough else None
    return {
        "models": list(pair),
        "task": column.task,
        "average": column.average,
        "metric": column.metric,
        "difference": value,
        "mean_of_seeds": statistics.fmean(of_seeds),
        "percentile": list(percentile_interval(resampled, confidence)) if enough else None,
        "bca": None if bca is None else list(bca),
        "p": bootstrap_p_value(resampled) if enough else None,
        "holm_p": None,
        "sign_flip_p": sign_flip_p_value(of_seeds, 1.0 - confidence),
        "tracks": sum(len(each) for each in without_each),
        "seeds": len(of_seeds),
        "resamples": len(resampled),
        "seed": seed,
    }


def _pairs(
    models: Sequence[str], reference: str | None, pairs: Sequence[tuple[str, str]] | None
) -> list[tuple[str, str]]:
    wanted = reference if reference is not None else (models[0] if models else "")
    asked = [(wanted, wanted)] if pairs is None else list(pairs)
    unknown = sorted({name for pair in asked for name in pair} - set(models))
    if unknown:
        raise InputError(
            f"can't compare with {', '.join(map(repr, unknown))}: there is no such model among "
            f"{', '.join(map(repr, models)) or 'none'}",
            "name one of them as `reference`",
        )
    if pairs is not None:
        return asked
    return [(name, wanted) for name in models if name != wanted]


def _require_scores(tasks: Sequence[TaskScores], models: Sequence[str]) -> None:
    faults = []
    for task in tasks:
        shapes = {}
        for name in models:
            if name not in task.scores:
                faults.append(f"task {task.name!r}: model {name!r} has no scores")
                continue
            shape = shapes[name] = task.scores[name].shape
            if len(shape) != 3 or shape[1] != len(task.targets):
                faults.append(
                    f"task {task.name!r}: the scores of {name!r} are {list(shape)}, expected "
                    f"[seeds, {len(task.targets)} tracks, {len(task.labels)} labels]"
                )
        if len(set(shapes.values())) > 1:
            listed = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
            faults.append(f"task {task.name!r}: models have scores of different shapes: {listed}")
    if faults:
        raise InputError(
            "\n".join(faults), "score every model on the same tracks with the same seeds"
        )
    for task in tasks:
        for name in models:
            require_scores(task.scores[name], what=f"task {task.name!r}: the scores of {name!r}")
