"""Sum up finished points: mean and standard deviation over seeds for each model and task."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from mergekit_audio.probe.metrics import METRICS
from mergekit_audio.probe.tasks import PreparedTask

SCORED_SPLITS = ("valid", "test")


def summarise_row(
    points: Callable[[PreparedTask, int], dict[str, Any]],
    tasks: Sequence[PreparedTask],
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Return the scores of one model.

    ``scores[task][split][metric]``, ``averages[split][group]`` over tasks and both metrics,
    ``task_averages[split][metric]`` over all tasks, and ``labels[task][label][metric]`` on test.
    Each is ``{mean, std, seeds}``; an average is taken within each seed first, so that its standard
    deviation is also one over seeds.

    Parameters
    ----------
    points
        The finished point of a task and seed.
    tasks
        The tasks, in the table's order.
    seeds
        The probes' seeds.
    """
    scores = {
        task.task.name: {
            split: {
                metric: spread([points(task, seed)[split][metric] for seed in seeds])
                for metric in METRICS
            }
            for split in SCORED_SPLITS
        }
        for task in tasks
    }
    names = [task.task.name for task in tasks]
    groups = {
        "all": names,
        "non_western": [task.task.name for task in tasks if not task.task.western],
        "western": [task.task.name for task in tasks if task.task.western],
    }
    return {
        "scores": scores,
        "averages": {
            split: {
                group: average(scores, members, METRICS, split)
                for group, members in groups.items()
                if members
            }
            for split in SCORED_SPLITS
        },
        "task_averages": {
            split: {metric: average(scores, names, [metric], split) for metric in METRICS}
            for split in SCORED_SPLITS
        },
        "labels": {task.task.name: _labels(points, task, seeds) for task in tasks},
    }


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, standard deviation (n - 1; null for one seed) and the values themselves."""
    return {
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "seeds": list(values),
    }


def average(
    scores: dict[str, Any], names: Sequence[str], metrics: Sequence[str], split: str
) -> dict[str, Any]:
    """Return the spread over seeds of the mean over tasks and metrics.

    Parameters
    ----------
    scores
        ``scores[task][split][metric]`` with the values of the seeds.
    names, metrics, split
        What is averaged.
    """
    columns = [scores[name][split][metric]["seeds"] for name in names for metric in metrics]
    return spread([statistics.fmean(of_one_seed) for of_one_seed in zip(*columns, strict=True)])


def _labels(
    points: Callable[[PreparedTask, int], dict[str, Any]], task: PreparedTask, seeds: Sequence[int]
) -> dict[str, Any]:
    of_seeds = [points(task, seed)["test"]["labels"] for seed in seeds]
    return {
        label: {
            metric: spread([scores[label][metric] for scores in of_seeds]) for metric in METRICS
        }
        for label in of_seeds[0]
    }
