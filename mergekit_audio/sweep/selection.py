"""Choose λ on validation and say by how much it is better, paired over the probes' seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from mergekit_audio.recipe.objective import Constraint, Objective
from mergekit_audio.recipe.sweep import Select
from mergekit_audio.sweep.band import runs_of
from mergekit_audio.sweep.goals import Row, excesses, goal, task_means

CONFIDENCE = 0.95
SPLITS = ("valid", "test")


def choose(
    rows: Sequence[Row],
    select: Select,
    tasks: Sequence[str],
    groups: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Return the name of the row that the rule chooses on validation.

    Of the rows that keep all constraints the one with the highest goal, in the mean over seeds; of
    equals the one nearest to the base (smallest Σ|λ|). Where none keeps them, the one that breaks
    them least. A task's score is one metric, or the mean of its metrics.

    Parameters
    ----------
    rows
        Rows of the summary; those with ``in_grid`` are chosen from.
    select
        The recipe's rule.
    tasks
        All tasks' names.
    groups
        The tasks of ``all``, ``western``, ``non_western``.
    """
    rule, known = select.rule(), {"all": list(tasks), **(groups or {})}
    candidates = [row for row in rows if row["in_grid"]]
    base = task_means(next(row for row in candidates if _is_base(row)), select)

    def worst_to_best(row: Row) -> tuple[Any, ...]:
        scores = task_means(row, select)
        broken = math.fsum(max(0.0, -each) for each in excesses(rule, scores, base, known))
        scales = _scales(row)
        away = math.fsum(abs(scale) for scale in scales)
        return broken, -goal(rule, row, select, known, "valid")["mean"], away, scales

    return str(min(candidates, key=worst_to_best)["name"])


def select_scale(
    rows: Sequence[Row],
    select: Select,
    tasks: Sequence[str],
    groups: Mapping[str, Sequence[str]] | None = None,
    *,
    chosen: str | None = None,
    band: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the chosen λ, the λ curve, and the margins over base, ends, neighbours and average.

    With one λ, ``inside_maximum`` says whether the chosen one is neither the smallest nor the
    largest of its curve; with several it is null. A margin is the paired difference, seed by seed,
    of the chosen λ's goal minus the other's, on the splits that both were scored on.

    Parameters
    ----------
    rows
        Rows of the summary; those with ``in_grid`` are the curve.
    select
        The recipe's rule.
    tasks
        All tasks' names.
    groups
        The tasks of ``all``, ``western``, ``non_western``.
    chosen
        The row that was chosen; ``None`` chooses one.
    band
        What ``indistinguishable`` returned, by the row's name.
    """
    rule, known = select.rule(), {"all": list(tasks), **(groups or {})}
    name = choose(rows, select, tasks, groups) if chosen is None else chosen
    best = next(row for row in rows if row["name"] == name and row["in_grid"])
    points = sorted((row for row in rows if row["in_grid"]), key=_place)
    base = next(row for row in points if _is_base(row))
    base_scores = task_means(base, select)
    curve = [_point(row, rule, select, known, base_scores) for row in points]
    for point in curve:
        if band is not None and point["row"] in band:
            point |= band[point["row"]]
    own = [row for row in points if _is_base(row) or _parameters(row) == _parameters(best)]
    if _is_base(best):
        first = next((row for row in points if not _is_base(row)), best)
        own = [row for row in points if _is_base(row) or _parameters(row) == _parameters(first)]
    names = [row["name"] for row in own]
    place = names.index(name)
    one = best["scale"] is not None
    found = {
        "scale": best["scale"],
        "scales": best.get("scales"),
        "parameters": _parameters(best),
        "row": name,
        "metric": select.metric,
        "objective": select.objective,
        "split": "valid",
        "tasks": list(dict.fromkeys(t for n in rule.names() for t in known.get(n, [n]))),
        "inside_maximum": 0 < place < len(own) - 1 if one else None,
        "broken": next(point for point in curve if point["row"] == name)["broken"],
        "curve": curve,
        "margins": {
            other: {
                "row": row["name"],
                "scale": row["scale"],
                **{
                    split: paired_difference(
                        goal(rule, best, select, known, split)["seeds"],
                        goal(rule, row, select, known, split)["seeds"],
                    )
                    for split in SPLITS
                    if _has(row, split) and _has(best, split)
                },
            }
            for other, row in sorted(_others(rows, own, place, base, one=one).items())
        },
    }
    if band is not None:
        found["band"] = _band(curve, names, select, one=one)
    return found


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


def _point(
    row: Row,
    rule: Objective,
    select: Select,
    groups: Mapping[str, Sequence[str]],
    base: Mapping[str, float],
) -> dict[str, Any]:
    kept = excesses(rule, task_means(row, select), base, groups)
    return {
        "scale": row["scale"],
        "scales": row.get("scales"),
        "parameters": _parameters(row),
        "row": row["name"],
        "interpolated": bool(row.get("interpolated")),
        "broken": [
            {"constraint": _text(each), "points": -excess}
            for each, excess in zip(rule.constraints, kept, strict=True)
            if excess < 0
        ],
        **{split: goal(rule, row, select, groups, split) for split in SPLITS if _has(row, split)},
    }


def _others(
    rows: Sequence[Row], curve: Sequence[Row], place: int, base: Row, *, one: bool
) -> dict[str, Row]:
    others = {"base": base}
    if one:
        others |= {"lowest": curve[0], "highest": curve[-1]}
        if place > 0:
            others["lower_neighbour"] = curve[place - 1]
        if place < len(curve) - 1:
            others["upper_neighbour"] = curve[place + 1]
    averages = [row for row in rows if row["weight_average"]]
    if averages:
        same = [row for row in averages if _parameters(row) == _parameters(curve[place])]
        others["weight_average"] = (same or averages)[0]
    return others


def _band(
    curve: Sequence[dict[str, Any]], names: Sequence[str], select: Select, *, one: bool
) -> dict[str, Any]:
    own = [point for point in curve if point["row"] in names and "in_band" in point]
    members = [point for point in curve if point.get("in_band")]
    return {
        "confidence": select.confidence,
        "resamples": select.resamples,
        "members": [point["row"] for point in members],
        "of": len(curve),
        "runs": runs_of(own) if one else None,
    }


def _has(row: Row, split: str) -> bool:
    return all(split in held for held in row["scores"].values())


def _scales(row: Row) -> tuple[float, ...]:
    named = row.get("scales")
    return tuple(named.values()) if named else (row["scale"],)


def _parameters(row: Row) -> dict[str, Any]:
    return dict(row.get("parameters") or {})


def _is_base(row: Row) -> bool:
    return bool(row["kind"] == "base")


def _place(row: Row) -> tuple[Any, ...]:
    """Rising λ, one variant of the method after the other; the base first of all at 0."""
    return (*_scales(row), str(sorted(_parameters(row).items())))


def _text(constraint: Constraint) -> str:
    term = constraint.term
    shown = f"{term.function}({', '.join(term.names)})"
    bound = f"{constraint.points:g}"
    if constraint.of_base:
        bound = f"base {'-' if constraint.points < 0 else '+'} {abs(constraint.points):g}"
    return f"{shown} {'>=' if constraint.at_least else '<='} {bound}"
