"""Read a summary: rows, scores in points, and how surely a model differs from the reference."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mergekit_audio.report.differences import AVERAGE_NAMES, significant_columns
from mergekit_audio.report.page.svg import number
from mergekit_audio.report.tables import METRIC_TITLES, table_rows, task_metrics

POINTS = 100.0
Level = Literal["better", "worse", "unsure"]
Summary = Mapping[str, Any]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Effect:
    """One difference from the reference on the test split, in points.

    Parameters
    ----------
    task
        The task, or ``None`` of an average.
    average
        ``all``, ``non_western`` or ``western`` of an average.
    metric
        The metric's name.
    points
        The difference of the scores averaged over seeds, 100 points from 0 to 1.
    low, high
        Its interval; ``None`` where there is none.
    level
        ``better`` or ``worse`` where the interval leaves 0 out and single seeds agree.
    is_sure
        It stays so after Holm's correction for all comparisons of the report.
    """

    task: str | None
    average: str | None
    metric: str
    points: float
    low: float | None
    high: float | None
    level: Level
    is_sure: bool

    @property
    def what(self) -> str:
        """The task's name or the average's."""
        if self.task is not None:
            return self.task
        return AVERAGE_NAMES.get(self.average or "all", "average")

    @property
    def interval(self) -> str:
        """The interval in words."""
        if self.low is None or self.high is None:
            return "no interval"
        return f"{signed(self.low)} to {signed(self.high)}"

    @property
    def reading(self) -> str:
        """What the interval says, in words that need no colour."""
        if self.level == "unsure":
            return "≈ can't tell"
        sign = "▲" if self.level == "better" else "▼"
        return f"{sign} {self.level}, sure" if self.is_sure else f"{sign} probably {self.level}"


def effects(summary: Summary, name: str) -> list[Effect]:
    """Return how a row differs from the reference: by task and metric, then by average.

    With the BCa interval of the paired bootstrap, or the percentile interval where that is not
    possible; without a bootstrap the differences of means alone.
    """
    found = summary.get("differences")
    if found is None:
        return _bare_effects(summary, name)
    sure = significant_columns(summary)
    held = []
    for entry in found["entries"]:
        if entry["models"] != [name, found["reference"]]:
            continue
        low, high = entry["bca"] or entry["percentile"] or (None, None)
        agree = entry["difference"] * entry["mean_of_seeds"] > 0
        level: Level = "unsure"
        if low is not None and high is not None and agree and (low > 0 or high < 0):
            level = "better" if low > 0 else "worse"
        path = (
            ("averages", "test", entry["average"])
            if entry["task"] is None
            else ("scores", entry["task"], "test", entry["metric"])
        )
        held.append(
            Effect(
                entry["task"],
                entry["average"],
                entry["metric"],
                entry["difference"] * POINTS,
                None if low is None else low * POINTS,
                None if high is None else high * POINTS,
                level,
                level != "unsure" and (name, path) in sure,
            )
        )
    return held


def average_effect(found: Sequence[Effect]) -> Effect | None:
    """Return the difference of the average over all tasks, else of the only task there is."""
    averages = [effect for effect in found if effect.task is None]
    whole = [effect for effect in averages if effect.average == "all"]
    return next(iter(whole or averages or found), None)


def verdict(found: Sequence[Effect]) -> tuple[str, bool]:
    """Return what the metrics of one task say together, and whether that is sure.

    ``better`` or ``worse`` where one metric at least says so and none the opposite, ``mixed`` where
    they contradict each other, ``unsure`` else.
    """
    levels = {effect.level for effect in found} - {"unsure"}
    if not levels:
        return "unsure", False
    if len(levels) > 1:
        return "mixed", False
    return next(iter(levels)), any(effect.is_sure for effect in found)


def verdicts(summary: Summary, name: str) -> dict[str, tuple[str, bool]]:
    """Return the verdict of each task on a row."""
    found = effects(summary, name)
    return {
        task: verdict([effect for effect in found if effect.task == task])
        for task in task_names(summary)
    }


def reference_row(summary: Summary) -> Row:
    """Return the row that others are compared with."""
    rows: Sequence[Row] = summary["rows"]
    name = summary.get("reference") or rows[0]["name"]
    return next(row for row in rows if row["name"] == name)


def chosen_row(summary: Summary) -> Row | None:
    """Return the chosen row of a sweep; ``None`` of an evaluation."""
    selection = summary.get("selection")
    if not selection:
        return None
    found: Row = next(row for row in summary["rows"] if row["name"] == selection["row"])
    return found


def told_row(summary: Summary) -> tuple[str, Row] | None:
    """Return title and row whose effects a sweep's report tells: the choice, else an average."""
    reference = reference_row(summary)["name"]
    shown = [each for each in table_rows(summary) if each[1]["name"] != reference]
    chosen = chosen_row(summary)
    for title, row in reversed(shown):
        if chosen is not None and row["name"] == chosen["name"]:
            return title, row
    averages = [each for each in shown if each[1]["weight_average"]]
    return averages[0] if averages else None


def is_tested(row: Row) -> bool:
    """Tell whether a row has test scores."""
    return all("test" in held for held in row["scores"].values())


def task_names(summary: Summary) -> list[str]:
    """Return the tasks in the recipe's order."""
    return [task["name"] for task in summary["tasks"]]


def task_score(summary: Summary, row: Row, task: str, split: str) -> float | None:
    """Return the mean of a task's metrics in points; ``None`` where the split is not scored."""
    held = row["scores"][task].get(split)
    if held is None:
        return None
    return statistics.fmean(held[m]["mean"] for m in task_metrics(summary, task)) * POINTS


def place_words(scales: Mapping[str, float]) -> str:
    """Return λ of several directions as words."""
    return ", ".join(f"{name} {value:.3g}" for name, value in scales.items())


def metric_words(metric: str) -> str:
    """Return a metric's short name."""
    return {"roc_auc": "ROC-AUC", "mean": "mean"}.get(metric, METRIC_TITLES.get(metric, metric))


def signed(value: float, digits: int = 1) -> str:
    """Return points with their sign."""
    shown = number(value, digits)
    return shown if shown.startswith("−") or not float(shown) else f"+{shown}"


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence holds them."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _bare_effects(summary: Summary, name: str) -> list[Effect]:
    row = next(row for row in summary["rows"] if row["name"] == name)
    reference = reference_row(summary)
    if row is reference or not is_tested(row) or not is_tested(reference):
        return []
    found = [
        _bare(row["scores"][task]["test"], reference["scores"][task]["test"], metric, task)
        for task in task_names(summary)
        for metric in task_metrics(summary, task)
    ]
    averages = row["averages"]["test"], reference["averages"]["test"]
    return [
        *found,
        *(_bare(*averages, group, None) for group in AVERAGE_NAMES if group in averages[0]),
    ]


def _bare(ours: Mapping[str, Any], theirs: Mapping[str, Any], key: str, task: str | None) -> Effect:
    points = (ours[key]["mean"] - theirs[key]["mean"]) * POINTS
    average, metric = (key, "mean") if task is None else (None, key)
    return Effect(task, average, metric, points, None, None, "unsure", is_sure=False)
