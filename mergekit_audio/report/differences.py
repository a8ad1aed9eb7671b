"""Differences between models: which are significant, as a table, and in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mergekit_audio.report.table import PERCENT, Grid

SIGNIFICANT = "*"
NOT_POSSIBLE = "not possible"
AVERAGE_NAMES = {"all": "average", "non_western": "non-Western", "western": "Western"}
HEADS = (
    "difference",
    "of",
    "metric",
    "of seeds",
    "points",
    "percentile interval",
    "BCa interval",
    "p",
    "Holm p",
    "sign-flip p",
)
VALUE_HEADS = (
    "model",
    "reference",
    "task",
    "average",
    "metric",
    "difference",
    "mean_of_seeds",
    "percentile_low",
    "percentile_high",
    "bca_low",
    "bca_high",
    "p",
    "holm_p",
    "sign_flip_p",
    "tracks",
    "seeds",
    "resamples",
    "seed",
)


def difference_table(summary: Mapping[str, Any]) -> Grid | None:
    """Return a row for each difference of the main table; ``None`` without any.

    ``of seeds`` is the difference of the means over seeds that the main table shows, ``points``
    that of the scores averaged over seeds, which intervals and p-values belong to. They are in
    percent for people and from -1 to 1 for programs.

    Parameters
    ----------
    summary
        The content of ``summary.json``.
    """
    entries = _entries(summary)
    if not entries:
        return None
    shown = [
        (
            " − ".join(entry["models"]),
            entry["task"] or AVERAGE_NAMES[entry["average"]],
            entry["metric"].replace("_", " "),
            f"{entry['mean_of_seeds'] * PERCENT:+.2f}",
            f"{entry['difference'] * PERCENT:+.2f}",
            _interval(entry["percentile"]),
            _interval(entry["bca"]),
            _p_value(entry["p"]),
            _p_value(entry["holm_p"]) + (SIGNIFICANT if _is_sure(summary, entry) else ""),
            _p_value(entry["sign_flip_p"]),
        )
        for entry in entries
    ]
    values = [
        (
            *entry["models"],
            entry["task"],
            entry["average"],
            entry["metric"],
            entry["difference"],
            entry["mean_of_seeds"],
            *(entry["percentile"] or (None, None)),
            *(entry["bca"] or (None, None)),
            *(entry[key] for key in VALUE_HEADS[-7:]),
        )
        for entry in entries
    ]
    return Grid(HEADS, tuple(shown), tuple(values), VALUE_HEADS)


def significant_columns(summary: Mapping[str, Any]) -> frozenset[tuple[str, tuple[str, ...]]]:
    """Return row name and path in the row of the scores that surely differ from the reference's.

    Surely: the corrected p-value is below the level, and the means over seeds, which the table
    shows, differ in the same direction as the scores averaged over seeds, which were tested.

    Parameters
    ----------
    summary
        The content of ``summary.json``.
    """
    return frozenset(
        (
            entry["models"][0],
            ("averages", "test", entry["average"])
            if entry["task"] is None
            else ("scores", entry["task"], "test", entry["metric"]),
        )
        for entry in _entries(summary)
        if entry["models"][1] == summary["differences"]["reference"] and _is_sure(summary, entry)
    )


def difference_sentences(summary: Mapping[str, Any]) -> list[str]:
    """Return how the differences were tested, what the mark means, and what could not be tested.

    Parameters
    ----------
    summary
        The content of ``summary.json``.
    """
    entries = _entries(summary)
    if not entries:
        return []
    found = summary["differences"]
    alpha = 1.0 - found["confidence"]
    count = sum(_is_sure(summary, entry) for entry in entries)
    reference = found["reference"] or "the reference"
    sentences = [
        f"The mark {SIGNIFICANT} tells of a difference from {reference} with a "
        f"Holm-corrected p below {alpha:.2g}: {count} of {len(entries)} differences, by a paired "
        f"bootstrap of {found['resamples']:,} resamples of the test tracks with scores averaged "
        "over seeds first."
    ]
    against = [entry for entry in entries if entry["difference"] * entry["mean_of_seeds"] < 0]
    if against:
        sentences.append(
            f"In {len(against)} of {len(entries)} differences the mean over seeds and the scores "
            "averaged over seeds point in opposite directions: single seeds went astray there, and "
            "no mark is set."
        )
    if found["smallest_holm_p"] >= alpha:
        sentences.append(
            f"With {found['resamples']:,} resamples no corrected p of {len(entries)} differences "
            f"can be below {found['smallest_holm_p']:.2g}, so none can be marked: take more "
            "resamples."
        )
    if any(entry["sign_flip_p"] == NOT_POSSIBLE for entry in entries):
        seeds = found["seeds"]
        sentences.append(
            f"A sign-flip test over {seeds} seed{'s'[: seeds > 1]} is not possible: its smallest p "
            f"is {min(1.0, 2.0 ** (1 - seeds)):.2g}."
        )
    return sentences


def _entries(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    differences = summary.get("differences")
    return [] if differences is None else list(differences["entries"])


def _is_sure(summary: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    p_value = entry["holm_p"]
    same_direction = entry["difference"] * entry["mean_of_seeds"] > 0
    level = 1.0 - summary["differences"]["confidence"]
    return p_value is not None and p_value < level and same_direction


def _interval(ends: list[float] | None) -> str:
    if ends is None:
        return NOT_POSSIBLE
    return f"{ends[0] * PERCENT:+.2f} to {ends[1] * PERCENT:+.2f}"


def _p_value(value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or NOT_POSSIBLE
    return f"{value:.2g}" if value < 0.01 else f"{value:.3f}"
