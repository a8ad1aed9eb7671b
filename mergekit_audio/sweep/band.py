"""The λ that can't be told apart from the best one: a paired bootstrap of the validation tracks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mergekit_audio.probe.intervals import percentile_interval
from mergekit_audio.probe.resampling import resampling_weights, statistic
from mergekit_audio.probe.task_metrics import METRICS_OF_KIND
from mergekit_audio.probe.tasks import PreparedTask
from mergekit_audio.probe.track_scores import TrackScores
from mergekit_audio.recipe.objective import Term

_VECTORS: Mapping[str, Callable[..., NDArray[np.float64]]] = {
    "mean": np.mean,
    "min": np.min,
    "max": np.max,
}
SPLIT = "valid"


def indistinguishable(
    goals: Mapping[str, NDArray[np.float64]], best: str, confidence: float
) -> dict[str, dict[str, Any]]:
    """Return for each row how far it is below the best, and whether that may be nothing.

    On the same resamples of the tracks the goal of the best row minus that of another gives an
    interval; a row whose interval reaches 0 can't be told apart. The best one was chosen on these
    tracks, so that the band is rather too narrow than too wide.

    Parameters
    ----------
    goals
        The goal of each row on all resamples, shape ``[resamples]``; NaN where it does not exist.
    best
        The chosen row.
    confidence
        Of the interval, two-sided.
    """
    found = {}
    for name, values in goals.items():
        differences = goals[best] - values
        known = differences[~np.isnan(differences)]
        if name == best or len(known) < 2:
            low = high = 0.0 if name == best else None
        else:
            low, high = percentile_interval(known, confidence)
        found[name] = {"low": low, "high": high, "in_band": low is None or low <= 0}
    return found


def resampled_goals(
    scores: TrackScores,
    lines: Sequence[Mapping[str, Any]],
    tasks: Sequence[PreparedTask],
    goal: Term,
    groups: Mapping[str, Sequence[str]],
    *,
    metric: str,
    resamples: int,
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    """Return the goal of each row on resamples of the validation tracks, by the row's name.

    Scores are averaged over the probes' seeds track by track; a task's score is one metric or the
    mean of its metrics; resample r draws the same tracks for every row.

    Parameters
    ----------
    scores
        What each probe said of each track.
    lines
        The finished points of the rows.
    tasks
        Those that the goal looks at.
    goal, groups
        What is maximised, and the tasks of its groups.
    metric
        ``roc_auc``, ``average_precision`` or ``mean``.
    resamples, seed
        How many, and the stream.
    """
    keys: dict[tuple[str, str], list[tuple[str, str, int]]] = {}
    for line in lines:
        key = (line["model_key"], line["task_digest"], line["seed"])
        keys.setdefault((line["model"], line["task"]), []).append(key)
    names = list(dict.fromkeys(line["model"] for line in lines))
    found: dict[str, dict[str, NDArray[np.float64]]] = {name: {} for name in names}
    for task in tasks:
        targets = task.targets[task.splits == SPLIT]
        blocks = list(resampling_weights(len(targets), resamples, seed=seed, name=task.task.name))
        metrics = METRICS_OF_KIND[task.task.kind]
        places = [metrics.index(metric)] if metric in metrics else list(range(len(metrics)))
        for name in names:
            of_seeds = [scores.load(key, SPLIT) for key in keys[name, task.task.name]]
            known = statistic(task.task.kind, np.mean(of_seeds, axis=0), targets, task.labels)
            values = np.concatenate([known.resampled(block) for block in blocks], axis=1)
            found[name][task.task.name] = values[places].mean(axis=0)
    members = dict.fromkeys(task for name in goal.names for task in groups.get(name, (name,)))
    combine = _VECTORS[goal.function]
    return {
        name: np.asarray(combine([of_tasks[task] for task in members], axis=0))
        for name, of_tasks in found.items()
    }


def runs_of(curve: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """Return the ends of each run of neighbouring λ in the band, of a curve in rising order."""
    runs: list[list[float]] = []
    inside = False
    for point in curve:
        if point["in_band"] and inside:
            runs[-1][1] = point["scale"]
        elif point["in_band"]:
            runs.append([point["scale"], point["scale"]])
        inside = point["in_band"]
    return runs
