"""Choose λ on validation and say by how much it is better, paired over the probes' seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from mergekit_audio.probe.summary import average
from mergekit_audio.recipe.sweep import Select

CONFIDENCE = 0.95
SPLITS = ("valid", "test")


def select_scale(
    rows: Sequence[Mapping[str, Any]], select: Select, tasks: Sequence[str]
) -> dict[str, Any]:
    """Return the chosen λ, the λ curve, and the margins over base, ends, neighbours and average.

    The λ with the highest validation mean over seeds is chosen (of equals the one nearest to 0).
    ``inside_maximum`` says whether it is neither the smallest nor the largest of the grid. A margin
    is the paired difference, seed by seed, of the chosen λ's score minus the other's.

    Parameters
    ----------
    rows
        Rows of the summary; those with ``in_grid`` are the curve.
    select
        The recipe's rule.
    tasks
        All tasks' names; the rule's own tasks count where it names some.
    """
    names = list(select.tasks or tasks)
    metrics = None if select.metric == "mean" else [select.metric]

    def scores(row: Mapping[str, Any]) -> dict[str, Any]:
        return {split: average(row["scores"], names, metrics, split) for split in SPLITS}

    curve = sorted((row for row in rows if row["in_grid"]), key=lambda row: row["scale"])
    values = [scores(row) for row in curve]
    chosen = min(
        range(len(curve)),
        key=lambda i: (-values[i]["valid"]["mean"], abs(curve[i]["scale"]), curve[i]["scale"]),
    )
    others: dict[str, Mapping[str, Any]] = {
        "base": next(row for row in curve if row["scale"] == 0),
        "lowest": curve[0],
        "highest": curve[-1],
    }
    if chosen > 0:
        others["lower_neighbour"] = curve[chosen - 1]
    if chosen < len(curve) - 1:
        others["upper_neighbour"] = curve[chosen + 1]
    averages = [row for row in rows if row["weight_average"]]
    if averages:
        others["weight_average"] = averages[0]
    return {
        "scale": curve[chosen]["scale"],
        "row": curve[chosen]["name"],
        "metric": select.metric,
        "split": "valid",
        "tasks": names,
        "inside_maximum": 0 < chosen < len(curve) - 1,
        "curve": [
            {"scale": row["scale"], **value} for row, value in zip(curve, values, strict=True)
        ],
        "margins": {
            name: {
                "scale": row["scale"],
                **{
                    split: paired_difference(
                        values[chosen][split]["seeds"], scores(row)[split]["seeds"]
                    )
                    for split in SPLITS
                },
            }
            for name, row in sorted(others.items())
        },
    }


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Return mean, standard deviation and 95 % t interval of ``ours - theirs``, seed by seed.

    ``mean ± t₀.₉₇₅(n - 1) · std / √n``; with one seed, std and interval are null.

    Parameters
    ----------
    ours, theirs
        Scores of the same seeds in the same order.
    """
    differences = [here - there for here, there in zip(ours, theirs, strict=True)]
    mean, count = statistics.fmean(differences), len(differences)
    found: dict[str, Any] = {
        "mean": mean,
        "std": None,
        "low": None,
        "high": None,
        "above": sum(difference > 0 for difference in differences),
        "seeds": count,
    }
    if count > 1:
        from scipy.stats import t

        std = statistics.stdev(differences)
        half = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * std / math.sqrt(count)
        found |= {"std": std, "low": mean - half, "high": mean + half}
    return found
