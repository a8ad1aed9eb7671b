"""Say first what a reader came for: which λ, whom it helps, how sure that is, what comes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mergekit_audio.report.page.markup import Markup, Section, bullets, element, joined, paragraph
from mergekit_audio.report.page.reading import (
    POINTS,
    Effect,
    Summary,
    average_effect,
    chosen_row,
    effects,
    is_tested,
    listed,
    place_words,
    reference_row,
    signed,
    verdicts,
)
from mergekit_audio.report.statement import METRIC_WORDS, selection_sentences
from mergekit_audio.report.table import PERCENT
from mergekit_audio.report.tables import table_rows

MOST_TIMES_TRACKS = 200


def headline_section(summary: Summary, landscape: Summary | None = None) -> Section:
    """Return the answer: of a sweep which λ, of an evaluation which model.

    Parameters
    ----------
    landscape
        A second sweep of the same cultures with one λ each, or ``None``.
    """
    if summary.get("selection"):
        return Section("answer", "Which λ, and how sure", _sweep_answer(summary, landscape))
    return Section("answer", "Which model, and how sure", _evaluation_answer(summary))


def use_words(summary: Summary) -> str:
    """Return what to use: a λ, one λ each, a model as it is, or the base."""
    selection, chosen = summary["selection"], chosen_row(summary)
    assert chosen is not None
    if chosen["kind"] == "base":
        return "Keep the base model (λ = 0)"
    if chosen["kind"] == "culture":
        return f"Use the model {chosen['name']} as it is"
    more = "".join(f", {k} = {v}" for k, v in (selection.get("parameters") or {}).items())
    if selection["scale"] is not None:
        return f"Use λ = {selection['scale']:g}{more}"
    return f"Use λ: {place_words(selection['scales'])}{more}"


def _sweep_answer(summary: Summary, landscape: Summary | None) -> Markup:
    chosen, base = chosen_row(summary), reference_row(summary)
    assert chosen is not None
    is_base = chosen["name"] == base["name"]
    effect = None if is_base else average_effect(effects(summary, str(chosen["name"])))
    kind, badge = _badge(effect, is_base)
    card = [
        paragraph(use_words(summary), class_="use"),
        Markup(f'<p><span class="badge {kind}">{badge}</span></p>'),
        *(paragraph(sentence) for sentence in _sure_sentences(summary, effect, is_base)),
        *_second(landscape),
        _tiles(summary, str(chosen["name"]), effect, is_base),
    ]
    told = element("div", joined(card), class_="answer")
    return joined(
        [
            told,
            element("h3", "How it was chosen, and what can't be told"),
            bullets([*_limits(summary), *selection_sentences(summary)]),
        ]
    )


def _second(landscape: Summary | None) -> list[Markup]:
    """Return what one λ a culture comes to beside the one λ of all."""
    if landscape is None or not landscape.get("selection"):
        return []
    chosen, base = chosen_row(landscape), reference_row(landscape)
    assert chosen is not None
    words = use_words(landscape)
    start = f"With one λ a culture the answer is: {words[0].lower()}{words[1:]}"
    effect = average_effect(effects(landscape, str(chosen["name"])))
    if chosen["name"] == base["name"] or effect is None:
        return [paragraph(f"{start}.")]
    sure = {
        "better": "better than the base" + (", sure" if effect.is_sure else ", fairly sure"),
        "worse": "worse than the base" + (", sure" if effect.is_sure else ", fairly sure"),
        "unsure": "not told apart from the base",
    }[effect.level]
    return [
        paragraph(
            f"{start}. On test that is {signed(effect.points)} points beside the base "
            f"({effect.interval}): {sure}."
        )
    ]


def _badge(effect: Effect | None, is_base: bool) -> tuple[str, str]:
    if is_base:
        return "unsure", "no merge was better on validation"
    if effect is None or effect.low is None:
        return "unsure", "how sure: not known"
    if effect.level == "unsure":
        return "unsure", "≈ not sure: can't be told apart from the base on test"
    better = effect.level == "better"
    sign, word = ("▲", "better") if better else ("▼", "worse")
    if effect.is_sure:
        return effect.level, f"{sign} sure: {word} than the base on test"
    return effect.level, f"{sign} fairly sure: {word} than the base on test"


def _sure_sentences(summary: Summary, effect: Effect | None, is_base: bool) -> list[str]:
    """Return what test and validation say of the choice beside the base."""
    sentences = []
    if is_base:
        sentences.append(
            "Of all points that were tried none scored higher than the base on the validation "
            "tracks (of equals the smaller λ is taken)."
        )
    elif effect is not None and effect.low is not None and effect.high is not None:
        level = POINTS * summary["differences"]["confidence"]
        start = (
            f"On the test tracks, which had no part in the choice, it is {signed(effect.points)} "
            f"points beside the base on average ({level:g} % interval {effect.interval})"
        )
        if effect.level == "unsure":
            why = (
                "the interval holds 0"
                if effect.low <= 0 <= effect.high
                else "single seeds point the other way"
            )
            sentences.append(f"{start}: {why}, so a gain is not shown.{_more_tracks(effect)}")
        elif effect.is_sure:
            sentences.append(f"{start}, and that holds after correction for all comparisons.")
        else:
            sentences.append(
                f"{start}. The interval leaves 0 out, but not after correction for all "
                "comparisons of this report."
            )
    elif effect is not None:
        sentences.append(
            f"On the test tracks it is {signed(effect.points)} points beside the base on average; "
            "without a bootstrap (`resamples`) nothing can be said about how sure that is."
        )
    return [*sentences, *_band_words(summary)]


def _more_tracks(effect: Effect) -> str:
    """Return how many more tracks would show a gain of this size: intervals shrink as 1/√tracks."""
    if effect.low is None or effect.high is None or effect.points <= 0:
        return ""
    times = ((effect.points - effect.low) / effect.points) ** 2
    if not 1 < times <= MOST_TIMES_TRACKS:
        return ""
    return f" If the gain is real, about {times:.0f} times as many test tracks would show it."


def _band_words(summary: Summary) -> list[str]:
    """Return which other points validation can't tell from the choice, and what follows."""
    selection = summary["selection"]
    band = selection.get("band")
    if band is None:
        return ["Which other λ would do as well was not tested (`select.resamples` is 0)."]
    members = [name for name in band["members"] if name != selection["row"]]
    if not members:
        return ["On the validation tracks every other point is surely below it."]
    base = reference_row(summary)["name"]
    with_base = base in members
    if band.get("runs"):
        ends = [f"{low:g}" if low == high else f"{low:g} to {high:g}" for low, high in band["runs"]]
        where = f"any λ of {listed(ends)}"
    else:
        count = len(members)
        where = f"{count} of {band['of'] - 1} other points"
    follows = (
        " The base is among them, so the careful choice is to keep the base."
        if with_base
        else " The base is not among them."
    )
    return [f"On the validation tracks {where} may be as good.{follows}"]


def _tiles(summary: Summary, name: str, effect: Effect | None, is_base: bool) -> Markup:
    if is_base or not is_tested(reference_row(summary)):
        return Markup("")
    found = verdicts(summary, name)
    of = {
        level: [
            f"{task}{' (sure)' if sure else ''}"
            for task, (own, sure) in found.items()
            if own == level
        ]
        for level in ("better", "worse", "mixed", "unsure")
    }
    average = "–" if effect is None else f"{signed(effect.points)} points ({effect.interval})"
    tiles = [
        ("", "Average beside the base, test", average),
        ("better", "▲ Helps", listed(of["better"]) or "no task that could be told"),
        ("worse", "▼ Hurts", listed(of["worse"]) or "no task that could be told"),
        ("unsure", "≈ Can't be told", listed([*of["unsure"], *of["mixed"]]) or "none"),
    ]
    items = "".join(
        f'<li class="{kind}"><b>{element("span", head, class_=kind)}</b>'
        f"{element('span', words)}</li>"
        for kind, head, words in tiles
    )
    return Markup(f'<ul class="tiles">{items}</ul>')


def _limits(summary: Summary) -> list[str]:
    """Return what this sweep can't tell, whatever it found."""
    selection, cultures = summary["selection"], summary.get("cultures") or []
    rule = selection.get("objective")
    counted = f"“{rule}”" if rule else f"{METRIC_WORDS[selection['metric']]} over the tasks"
    tracks = [task["tracks"].get("test", 0) for task in summary["tasks"]]
    words = [
        f"“Best” means {counted}, as probes on {len(summary['tasks'])} tasks measure it; nobody "
        f"listened. Test splits hold {min(tracks)} to {max(tracks)} tracks a task."
        if min(tracks) != max(tracks)
        else f"“Best” means {counted}, as probes on {len(summary['tasks'])} tasks measure it; "
        f"nobody listened. Test splits hold {max(tracks)} tracks a task."
    ]
    if cultures:
        words.append(
            f"Each of the {len(cultures)} models was trained once: how much another training run "
            "would change the best λ is not known."
        )
    return words


def _evaluation_answer(summary: Summary) -> Markup:
    rows = [(title, row) for title, row in table_rows(summary) if is_tested(row)]
    reference = reference_row(summary)
    best = max(rows, key=lambda each: _average(each[1]), default=None)
    if best is None:
        return paragraph("No model has test scores.")
    title, row = best
    parts: list[str] = [
        paragraph(f"Highest average: {title}", class_="use"),
    ]
    tested = summary.get("differences") is not None
    if len(rows) == 1:
        parts.append(paragraph(f"It is the only model: {_average(row):.1f} on average on test."))
    elif row["name"] == reference["name"]:
        parts.append(paragraph("It is the reference, so no other model is above it on average."))
        parts += [_compared(summary, each, name) for name, each in rows if each is not row]
    else:
        effect = average_effect(effects(summary, str(row["name"])))
        kind, badge = _badge_of_models(effect, str(reference["name"]))
        parts.append(Markup(f'<p><span class="badge {kind}">{badge}</span></p>'))
        parts.append(_compared(summary, row, title))
        if effect is not None and effect.level == "unsure" and tested:
            parts.append(paragraph(f"A gain is not shown.{_more_tracks(effect)}"))
        parts.append(_tiles(summary, str(row["name"]), effect, is_base=False))
    if len(rows) > 2:
        parts.append(
            paragraph(
                "It is the highest of several on the test split itself: chosen so, its score is "
                "rather too high than too low."
            )
        )
    return element("div", joined(parts), class_="answer")


def _badge_of_models(effect: Effect | None, reference: str) -> tuple[str, Markup]:
    kind, words = _badge(effect, is_base=False)
    return kind, element("span", words.replace("the base", reference).replace(" on test", ""))


def _compared(summary: Summary, row: Mapping[str, Any], title: str) -> Markup:
    effect = average_effect(effects(summary, str(row["name"])))
    if effect is None:
        return paragraph(f"{title}: {_average(row):.1f} on average on the test split.")
    return paragraph(
        f"{title}: {_average(row):.1f} on average on the test split, {signed(effect.points)} "
        f"points beside {reference_row(summary)['name']} ({effect.interval})."
    )


def _average(row: Mapping[str, Any]) -> float:
    return float(row["averages"]["test"]["all"]["mean"]) * PERCENT


def notes_list(notes: Sequence[str]) -> Markup:
    """Return sentences for the beginning."""
    return joined(paragraph(note) for note in notes)
