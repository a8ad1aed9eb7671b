"""Write the report: one HTML file that says which λ, whom it helps, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mergekit_audio.files import write_text
from mergekit_audio.report.page.advice import advice_section
from mergekit_audio.report.page.corpora import similarity_section, transfer_section
from mergekit_audio.report.page.curves import curves_section
from mergekit_audio.report.page.effects import effects_section
from mergekit_audio.report.page.front import front_section
from mergekit_audio.report.page.headline import headline_section
from mergekit_audio.report.page.made import made_section
from mergekit_audio.report.page.markup import Markup, Section, element, joined, paragraph, text
from mergekit_audio.report.page.scores import labels_section, table_section, tasks_section
from mergekit_audio.report.page.slices import slices_section
from mergekit_audio.report.page.style import STYLE
from mergekit_audio.report.page.vectors import vectors_section
from mergekit_audio.report.page.ways import ways_section

REPORT_NAME = "report.html"
SYNTHETIC_NOTE = (
    "The recordings behind these scores are synthetic: a seeded program wrote them. They imitate "
    "scales, metres and ornaments of five traditions, and say nothing about real music or real "
    "listeners."
)
TITLES = {"sweep": "How strongly to merge: a sweep of λ", "evaluate": "Models on music tasks"}


def write_report(
    path: Path,
    summary: Mapping[str, Any],
    *,
    title: str | None = None,
    synthetic: bool = False,
    facts: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    landscape: Mapping[str, Any] | None = None,
    similarity: Mapping[str, Any] | None = None,
    geometry: Mapping[str, Any] | None = None,
    made: Mapping[str, Any] | None = None,
) -> Path:
    """Write a self-contained HTML report of a sweep or an evaluation and return its path.

    The file holds no script and loads nothing; the same arguments give the same bytes.

    Parameters
    ----------
    path
        The file to write.
    summary
        The content of ``summary.json``.
    title
        The heading; ``None`` says what kind of results these are.
    synthetic
        Say in the title and above the scores that the recordings are synthetic.
    facts
        More lines for the end of the report, name to value (wall time, versions, folders).
    notes
        Sentences for the beginning.
    landscape
        The ``summary.json`` of a second sweep of the same cultures, with one λ a culture.
    similarity
        The ``summary.json`` of ``cmerge similarity``.
    geometry
        What ``weights.inspect.inspect_geometry`` returned; ``None`` takes the summary's own.
    made
        The content of the results' lock, or what ``report.page.made.made_of`` returned.
    """
    heading = title or TITLES.get(summary.get("kind", ""), TITLES["evaluate"])
    heading = f"{heading} (synthetic recordings)" if synthetic else heading
    found = [
        headline_section(summary, landscape),
        effects_section(summary),
        advice_section(summary, made),
        curves_section(summary),
        slices_section(summary),
        None if landscape is None else slices_section(landscape, key="cultures"),
        front_section(summary),
        None if landscape is None or front_section(summary) else front_section(landscape),
        ways_section(summary, landscape),
        transfer_section(summary),
        similarity_section(similarity),
        table_section(summary),
        labels_section(summary),
        vectors_section(geometry or summary.get("geometry")),
        tasks_section(summary),
        made_section(summary, made, facts),
    ]
    write_text(path, _page(heading, [each for each in found if each], synthetic, notes, summary))
    return path


def _page(
    heading: str,
    sections: Sequence[Section],
    synthetic: bool,
    notes: Sequence[str],
    summary: Mapping[str, Any],
) -> str:
    opening: list[str] = []
    if synthetic:
        opening.append(paragraph(SYNTHETIC_NOTE, class_="caution"))
    opening += [paragraph(note, class_="caution") for note in notes]
    links = "".join(
        f'<li><a href="#{section.key}">{text(section.title)}</a></li>' for section in sections
    )
    body = "\n".join(
        f'<section id="{section.key}" aria-labelledby="{section.key}-head">'
        f'<h2 id="{section.key}-head">{text(section.title)}</h2>\n{section.body}\n</section>'
        for section in sections
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{text(heading)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#main">Skip to the answer</a>\n<div class="page">\n'
        f"<header><h1>{text(heading)}</h1>\n{paragraph(_subtitle(summary))}</header>\n"
        f'{joined(opening)}\n<div class="columns">\n'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n<main id="main">\n{body}\n</main>\n'
        f"</div>\n{element('footer', _closing())}\n</div>\n</body>\n</html>\n"
    )


def _subtitle(summary: Mapping[str, Any]) -> str:
    tasks = ", ".join(task["name"] for task in summary["tasks"])
    seeds = len(summary["seeds"])
    probed = f"probed on {tasks} with {seeds} seed{'s' if seeds > 1 else ''}"
    cultures = ", ".join(culture["name"] for culture in summary.get("cultures") or [])
    if not cultures:
        return f"{len(summary['rows'])} models, {probed}."
    method = summary["method"]["name"].replace("_", " ")
    return f"{cultures}, merged by {method}, {probed}."


def _closing() -> Markup:
    return Markup(
        "Scores are those of probes on frozen features. “Western” and “non-Western” are names of "
        "groups of these tasks; they say little about music. All numbers of this page are beside "
        "it as CSV and JSON."
    )
