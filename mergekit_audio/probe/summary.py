"""Sum up finished points: mean and standard deviation over seeds, for each model, task and split."""

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
    """Return ``scores[task][split][metric]`` and ``averages[split][group]`` of one model.

    Each is ``{mean, std, seeds}``; an average is taken over tasks and both metrics within each seed
    first, so that its standard deviation is also one over seeds.

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
    groups = {
        "all": [task.task.name for task in tasks],
        "non_western": [task.task.name for task in tasks if not task.task.western],
        "western": [task.task.name for task in tasks if task.task.western],
    }
    averages = {
        split: {group: _average(scores, names, split) for group, names in groups.items() if names}
        for split in SCORED_SPLITS
    }
    return {"scores": scores, "averages": averages}


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, standard deviation (n - 1; null for one seed) and the values themselves."""
    return {
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "seeds": list(values),
    }


def _average(scores: dict[str, Any], names: Sequence[str], split: str) -> dict[str, Any]:
    columns = [scores[name][split][metric]["seeds"] for name in names for metric in METRICS]
    return spread([statistics.fmean(of_one_seed) for of_one_seed in zip(*columns, strict=True)])
