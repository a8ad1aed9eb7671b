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
MOST_LISTED = 15


def selection_sentences(summary: Mapping[str, Any]) -> list[str]:
    """Return the choice of λ, whether it is an inside maximum, and how sure that is.

    An inside maximum is called clear only where the 95 % intervals of the paired differences over
    seeds, chosen λ minus smallest λ and chosen λ minus largest λ, lie above 0: on the test split
    where both were scored on it, else on validation. Evaluations have no selection: no sentences.

    Parameters
    ----------
    summary
        The content of ``summary.json``.
    """
    selection = summary.get("selection")
    if selection is None:
        return []
    tasks = ", ".join(selection["tasks"])
    rule = selection.get("objective")
    over = f"over {tasks}" if rule is None else f"({rule})"
    sentences = [
        f"{_chosen(selection)} was chosen from {_numbers(selection)} by "
        f"{METRIC_WORDS[selection['metric']]} {over} on the validation split; scores are "
        "those of the test split, which had no part in the choice."
    ]
    if broken := [each["constraint"] for each in selection.get("broken") or []]:
        sentences.append(
            f"No λ keeps {' and '.join(broken)}; the chosen one breaks the constraints least."
        )
    if selection["inside_maximum"] is not None:
        sentences.append(inside_maximum_sentence(selection))
    sentences += _band_sentences(selection)
    if "reevaluated" in selection:
        before, after = (selection["reevaluated"][key] for key in ("interpolated", "direct"))
        sentences.append(
            f"On interpolated features its validation score was {before * POINTS:.2f}, evaluated "
            f"directly it is {after * POINTS:.2f}."
        )
    margins = selection["margins"]
    told = [selection["row"]]
    for other in ("base", "weight_average", "lower_neighbour", "upper_neighbour"):
        if other in margins and margins[other]["row"] not in told:
            sentences.append(margin_sentence(other, margins[other]))
            told.append(margins[other]["row"])
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
    found = [selection["margins"][end] for end in ("lowest", "highest")]
    split = "test" if all("test" in end for end in found) else "valid"
    ends = [end[split] for end in found]
    where = "on test it" if split == "test" else "it"
    start = (
        f"On validation the curve has an inside maximum at λ = {scale:g}, between {lowest:g} and "
        f"{highest:g}"
    )
    if any(end["low"] is None for end in ends):
        return f"{start}; with one seed nothing can be said about how sure that is."
    if all(end["low"] > 0 for end in ends):
        return (
            f"{start}; {where} is above both ends of the grid in 95 % intervals over seeds "
            f"({_difference(ends[0])} over λ = {lowest:g}, {_difference(ends[1])} over "
            f"λ = {highest:g})."
        )
    if all(end["mean"] > 0 for end in ends):
        return (
            f"{start}; {where} is above both ends in the mean, but not surely "
            f"({_difference(ends[0])} over λ = {lowest:g}, {_difference(ends[1])} over "
            f"λ = {highest:g})."
        )
    return (
        f"{start}, but {'the test split does' if split == 'test' else 'its ends do'} not confirm "
        f"it ({_difference(ends[0])} over λ = {lowest:g}, {_difference(ends[1])} over "
        f"λ = {highest:g})."
    )


def margin_sentence(other: str, margin: Mapping[str, Any]) -> str:
    """Return how far the chosen λ is above another one, on test and on validation."""
    name = OTHERS[other]
    scale = margin["scale"]
    at = f" (λ = {scale:g})" if scale is not None and other != "base" else ""
    on_test = f"{_difference(margin['test'])} on test, " if "test" in margin else ""
    return f"Chosen λ minus {name}{at}: {on_test}{_difference(margin['valid'])} on validation."


def _difference(paired: Mapping[str, Any]) -> str:
    mean = f"{paired['mean'] * POINTS:+.2f}"
    if paired["std"] is None:
        return f"{mean} points"
    return (
        f"{mean} ± {paired['std'] * POINTS:.2f} points "
        f"(95 % interval {paired['low'] * POINTS:+.2f} to {paired['high'] * POINTS:+.2f}, "
        f"{paired['above']} of {paired['seeds']} seeds above 0)"
    )


def _chosen(selection: Mapping[str, Any]) -> str:
    """Return the chosen λ, with the method's parameters that were swept."""
    if selection["scale"] is None:
        return str(selection["row"]) if selection["row"] != "base" else "The base (λ = 0)"
    values = (selection.get("parameters") or {}).items()
    return f"λ = {selection['scale']:g}" + "".join(f", {key} = {value}" for key, value in values)


def _band_sentences(selection: Mapping[str, Any]) -> list[str]:
    band = selection.get("band")
    if band is None:
        return []
    count = len(band["members"])
    level = (
        f"{POINTS * band['confidence']:g} % intervals, {band['resamples']} resamples of the tracks"
    )
    if count == 1:
        return [f"All other λ are below it on the validation tracks ({level})."]
    if band["runs"]:
        ends = [f"{low:g}" if low == high else f"{low:g} to {high:g}" for low, high in band["runs"]]
        where = f"λ {', '.join(ends)}"
    else:
        where = f"{count} of {band['of']} points"
    return [
        f"On the validation tracks {where} can't be told apart from it ({level}); it was chosen on "
        "these tracks, so the set may be larger."
    ]


def _numbers(selection: Mapping[str, Any]) -> str:
    curve = selection["curve"]
    between = sum(bool(point.get("interpolated")) for point in curve)
    on = f", {between} of them on interpolated features" if between else ""
    scales = list(dict.fromkeys(point["scale"] for point in curve))
    if None in scales:
        return f"{len(curve)} points{on}"
    if len(curve) <= MOST_LISTED:
        return ", ".join(f"{scale:g}" for scale in scales)
    return f"{len(curve)} points from λ = {scales[0]:g} to {scales[-1]:g}{on}"
