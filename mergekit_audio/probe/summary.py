"""Sum up finished points: mean and standard deviation over seeds for each model and task."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mergekit_audio.probe.targets import category_of
from mergekit_audio.probe.tasks import PreparedTask

SCORED_SPLITS = ("valid", "test")


def summarise_row(
    points: Callable[[PreparedTask, int], dict[str, Any]],
    tasks: Sequence[PreparedTask],
    seeds: Sequence[int],
    splits: Sequence[str] = SCORED_SPLITS,
) -> dict[str, Any]:
    """Return the scores of one model.

    ``scores[task][split][metric]``, ``averages[split][group]`` over tasks and all their metrics,
    ``task_averages[split][metric]`` over the tasks that have this metric,
    ``labels[task][label][metric]`` on test, and ``categories[task][category][metric]``, the mean of
    a category's labels (what stands before ``--``).
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
    splits
        What was scored; without ``test`` there are no labels and categories.
    """
    scores = {
        task.task.name: {
            split: {
                metric: spread([points(task, seed)[split][metric] for seed in seeds])
                for metric in task.metrics
            }
            for split in splits
        }
        for task in tasks
    }
    names = [task.task.name for task in tasks]
    groups = {
        "all": names,
        "non_western": [task.task.name for task in tasks if not task.task.western],
        "western": [task.task.name for task in tasks if task.task.western],
    }
    tested = tasks if "test" in splits else []
    return {
        "scores": scores,
        "averages": {
            split: {
                group: average(scores, members, None, split)
                for group, members in groups.items()
                if members
            }
            for split in splits
        },
        "task_averages": {
            split: {
                metric: average(scores, members, [metric], split)
                for metric, members in _tasks_by_metric(tasks).items()
            }
            for split in splits
        },
        "labels": {task.task.name: _labels(points, task, seeds) for task in tested},
        "categories": {task.task.name: _categories(points, task, seeds) for task in tested},
    }


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, standard deviation (n - 1; null for one seed) and the values themselves."""
    return {
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "seeds": list(values),
    }


def average(
    scores: Mapping[str, Any], names: Sequence[str], metrics: Sequence[str] | None, split: str
) -> dict[str, Any]:
    """Return the spread over seeds of the mean over tasks and metrics.

    Parameters
    ----------
    scores
        ``scores[task][split][metric]`` with the values of the seeds.
    names, split
        Tasks and split.
    metrics
        Of each task; ``None`` means all that it has.
    """
    columns = [
        scores[name][split][metric]["seeds"]
        for name in names
        for metric in (scores[name][split] if metrics is None else metrics)
    ]
    return spread([statistics.fmean(of_one_seed) for of_one_seed in zip(*columns, strict=True)])


def _tasks_by_metric(tasks: Sequence[PreparedTask]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for task in tasks:
        for metric in task.metrics:
            found.setdefault(metric, []).append(task.task.name)
    return found


def _labels(
    points: Callable[[PreparedTask, int], dict[str, Any]], task: PreparedTask, seeds: Sequence[int]
) -> dict[str, Any]:
    of_seeds = [points(task, seed)["test"]["labels"] for seed in seeds]
    return {
        label: {
            metric: spread([scores[label][metric] for scores in of_seeds])
            for metric in task.metrics
        }
        for label in _scored_labels(task, of_seeds)
    }


def _categories(
    points: Callable[[PreparedTask, int], dict[str, Any]], task: PreparedTask, seeds: Sequence[int]
) -> dict[str, Any]:
    """Return the mean over each category's labels, taken within each seed; categories sorted."""
    of_seeds = [points(task, seed)["test"]["labels"] for seed in seeds]
    members: dict[str, list[str]] = {}
    for label in _scored_labels(task, of_seeds):
        members.setdefault(category_of(label), []).append(label)
    return {
        category: {
            "labels": len(labels),
            **{
                metric: spread(
                    [statistics.fmean(each[label][metric] for label in labels) for each in of_seeds]
                )
                for metric in task.metrics
            },
        }
        for category, labels in sorted(members.items())
    }


def _scored_labels(task: PreparedTask, of_seeds: Sequence[dict[str, Any]]) -> list[str]:
    """Return the labels that have scores, in the task's order: a file's lines are sorted."""
    return [label for label in task.labels if label in of_seeds[0]]
