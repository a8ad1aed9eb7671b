"""Say in plain words whether the λ curve has an inside maximum, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METRIC_WORDS = {
    "roc_auc": "ROC-AUC",
    "average_precision": "average precision",
    "mean": "the mean of ROC-AUC and average precision",
}
OTHERS = {
    "base": "the base (λ = 0)",
    "weight_average": "weight averaging",
    "lower_neighbour": "the next smaller λ",
    "upper_neighbour": "the next larger λ",
    "lowest": "the smallest λ",
    "highest": "the largest λ",
}
POINTS = 100.0


def selection_sentences(summary: Mapping[str, Any]) -> list[str]:
    """Return the choice of λ, whether it is an inside maximum, and how sure that is.

    An inside maximum is called clear only where the 95 % intervals of the paired differences over
    seeds, chosen λ minus smallest λ and chosen λ minus largest λ, lie above 0 on the test split,
    which had no part in the choice. Evaluations have no selection: no sentences.

    Parameters
    ----------
    summary
        The content of ``summary.json``.
    """
    selection = summary.get("selection")
    if selection is None:
        return []
    tasks = ", ".join(selection["tasks"])
    sentences = [
        f"λ = {selection['scale']:g} was chosen from {_numbers(selection)} by "
        f"{METRIC_WORDS[selection['metric']]} over {tasks} on the validation split; scores are "
        "those of the test split, which had no part in the choice."
    ]
    sentences.append(inside_maximum_sentence(selection))
    margins = selection["margins"]
    told = [selection["scale"]]
    for other in ("base", "weight_average", "lower_neighbour", "upper_neighbour"):
        if other in margins and margins[other]["scale"] not in told:
            sentences.append(margin_sentence(other, margins[other]))
            told.append(margins[other]["scale"])
    if len(summary["seeds"]) > 1:
        sentences.append(
            "The differences are paired over probe seeds: they show the noise of the probe, not "
            "that of training the models again or of drawing other test tracks."
        )
    return sentences


def inside_maximum_sentence(selection: Mapping[str, Any]) -> str:
    """Return whether the best λ lies inside the grid, and how sure that is."""
    scale = selection["scale"]
    lowest, highest = selection["curve"][0]["scale"], selection["curve"][-1]["scale"]
    if not selection["inside_maximum"]:
        if lowest == highest:
            return "The grid has one λ, so there is no curve to look at."
        end = "smallest" if scale == lowest else "largest"
        return f"There is no inside maximum: on validation the {end} λ, {scale:g}, is best."
    ends = [selection["margins"][end]["test"] for end in ("lowest", "highest")]
    start = (
        f"On validation the curve has an inside maximum at λ = {scale:g}, between {lowest:g} and "
        f"{highest:g}"
    )
    if any(end["low"] is None for end in ends):
        return f"{start}; with one seed nothing can be said about how sure that is."
    if all(end["low"] > 0 for end in ends):
        return (
            f"{start}; on test it is above both ends of the grid in 95 % intervals over seeds "
            f"({_difference(ends[0])} over λ = {lowest:g}, {_difference(ends[1])} over "
            f"λ = {highest:g})."
        )
    if all(end["mean"] > 0 for end in ends):
        return (
            f"{start}; on test it is above both ends in the mean, but not surely "
            f"({_difference(ends[0])} over λ = {lowest:g}, {_difference(ends[1])} over "
            f"λ = {highest:g})."
        )
    return (
        f"{start}, but the test split does not confirm it ({_difference(ends[0])} over "
        f"λ = {lowest:g}, {_difference(ends[1])} over λ = {highest:g})."
    )


def margin_sentence(other: str, margin: Mapping[str, Any]) -> str:
    """Return how far the chosen λ is above another one, on test and on validation."""
    name = OTHERS[other]
    scale = margin["scale"]
    at = f" (λ = {scale:g})" if scale is not None and other != "base" else ""
    return (
        f"Chosen λ minus {name}{at}: {_difference(margin['test'])} on test, "
        f"{_difference(margin['valid'])} on validation."
    )


def _difference(paired: Mapping[str, Any]) -> str:
    mean = f"{paired['mean'] * POINTS:+.2f}"
    if paired["std"] is None:
        return f"{mean} points"
    return (
        f"{mean} ± {paired['std'] * POINTS:.2f} points "
        f"(95 % interval {paired['low'] * POINTS:+.2f} to {paired['high'] * POINTS:+.2f}, "
        f"{paired['above']} of {paired['seeds']} seeds above 0)"
    )


def _numbers(selection: Mapping[str, Any]) -> str:
    return ", ".join(f"{point['scale']:g}" for point in selection["curve"])
