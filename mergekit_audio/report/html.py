"""Write the report: one HTML file with table, figure, choice of λ and scores of each label."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mergekit_audio.files import write_text
from mergekit_audio.report.differences import difference_table
from mergekit_audio.report.figures import score_svg
from mergekit_audio.report.similarity import TITLES
from mergekit_audio.report.statement import selection_sentences
from mergekit_audio.report.table import Table
from mergekit_audio.report.tables import METRIC_TITLES, main_table, table_notes, table_rows

PERCENT = 100.0
SYNTHETIC_NOTE = (
    "The recordings behind these scores are synthetic: a seeded program wrote them. They imitate "
    "scales, metres and ornaments of five traditions, and say nothing about real music or real "
    "listeners."
)
STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.6rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid #333; }
thead tr.groups th { border-bottom: 0; text-align: center; }
tbody tr { border-bottom: 1px solid #e5e5e5; }
td.best { font-weight: 700; }
.caution { background: #fff6e0; border-left: 4px solid #d98e00; padding: 0.6rem 1rem; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; }
details { margin: 0.5rem 0; } summary { cursor: pointer; }
dl { display: grid; grid-template-columns: max-content auto; gap: 0.2rem 1rem; }
dt { color: #555; } dd { margin: 0; }
"""


def write_report(
    path: Path,
    summary: Mapping[str, Any],
    *,
    title: str = "Merging music models",
    synthetic: bool = False,
    facts: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    landscape: Mapping[str, Any] | None = None,
    similarity: Mapping[str, Any] | None = None,
    geometry: Mapping[str, Any] | None = None,
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
        The heading.
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
        What ``weights.inspect.inspect_geometry`` returned.
    """
    heading = f"{title} (synthetic recordings)" if synthetic else title
    parts = [f"<h1>{_text(heading)}</h1>"]
    if synthetic:
        parts.append(f'<p class="caution">{_text(SYNTHETIC_NOTE)}</p>')
    parts += [f"<p>{_text(note)}</p>" for note in notes]
    sentences = selection_sentences(summary)
    if sentences:
        parts += ["<h2>Which λ, and how sure</h2>", _list(sentences)]
    caption = (
        "Score against λ for each task; the base is the dashed line"
        if summary.get("selection")
        else "Scores of each model on each task, with one standard deviation over seeds"
    )
    parts += [
        "<h2>Table</h2>",
        _table(main_table(summary)),
        _list([note for note in table_notes(summary) if note not in sentences]),
        *_differences(summary),
        "<h2>Figure</h2>",
        f"<figure>{_figure(summary)}<figcaption>{_text(_labelled(caption, synthetic))}"
        "</figcaption></figure>",
        *_landscape(landscape),
        *_similarity(similarity),
        *_geometry(geometry or summary.get("geometry")),
        "<h2>Each label</h2>",
        *(_labels(summary, task) for task in summary["tasks"]),
        "<h2>Tasks</h2>",
        *(_task(task) for task in summary["tasks"]),
    ]
    if facts:
        parts += ["<h2>This run</h2>", _pairs(facts)]
    write_text(path, _page(heading, parts))
    return path


def _page(title: str, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n"
        "</body>\n</html>\n"
    )


def _labelled(caption: str, synthetic: bool) -> str:
    return f"{caption} (synthetic recordings)." if synthetic else f"{caption}."


def _figure(summary: Mapping[str, Any]) -> str:
    svg = score_svg(summary)
    return svg[svg.index("<svg") :]


def _table(table: Table) -> str:
    groups = "".join(f'<th colspan="{width}">{_text(name)}</th>' for name, width in table.groups())
    heads = "".join(f"<th>{_text(column.title)}</th>" for column in table.columns)
    rows = []
    for row in table.rows:
        cells = "".join(
            f"<td{' class=best' if table.is_best(row, index) else ''}>{_text(cell.text())}</td>"
            for index, cell in enumerate(row.cells)
        )
        rows.append(f"<tr><td>{_text(row.title)}</td>{cells}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr class="groups"><th></th>{groups}</tr>'
        f"<tr><th>model</th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _differences(summary: Mapping[str, Any]) -> list[str]:
    table = difference_table(summary)
    if table is None:
        return []
    heads = "".join(f"<th>{_text(head)}</th>" for head in table.heads)
    rows = "".join(
        f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in table.shown
    )
    return [
        "<h2>Differences</h2>",
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
        "</div>",
    ]


def _landscape(summary: Mapping[str, Any] | None) -> list[str]:
    if summary is None:
        return []
    return ["<h2>One λ a culture</h2>", _list(selection_sentences(summary))]


def _similarity(summary: Mapping[str, Any] | None) -> list[str]:
    if summary is None:
        return []
    names = [each["name"] for each in summary["corpora"]]
    parts = ["<h2>How alike the corpora sound</h2>"]
    for measure, title in TITLES.items():
        lines = [
            [name, *(f"{value:.3f}" for value in row)]
            for name, row in zip(names, summary["measures"][measure]["values"], strict=True)
        ]
        parts.append(_plain(title, ["", *names], lines))
    return parts


def _geometry(value: Mapping[str, Any] | None) -> list[str]:
    if value is None:
        return []
    relations = value["relations"]
    rows = [
        [name, f"{norm:.3g}", f"{pair['total']['relative_norm'] or 0.0:.3g}"]
        for name, norm, pair in zip(
            relations["models"], relations["norms"], value["pairs"], strict=True
        )
    ]
    return ["<h2>Task vectors</h2>", _plain("Size", ["model", "‖τ‖", "‖τ‖ / ‖θ‖"], rows)]


def _plain(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{_text(each)}</th>" for each in heads)
    lines = "".join(f"<tr>{''.join(f'<td>{_text(c)}</td>' for c in row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><caption>{_text(caption)}</caption><thead><tr>{head}</tr>'
        f"</thead><tbody>{lines}</tbody></table></div>"
    )


def _labels(summary: Mapping[str, Any], task: Mapping[str, Any]) -> str:
    """One table for each metric: labels down, models across, means over seeds in percent."""
    shown = table_rows(summary)
    name = task["name"]
    tables = []
    held: Mapping[str, Any] = next(iter(shown[0][1]["labels"][name].values()), {})
    for metric, metric_title in METRIC_TITLES.items():
        if metric not in held:
            continue
        heads = "".join(f"<th>{_text(title)}</th>" for title, _ in shown)
        lines = []
        for label in sorted(shown[0][1]["labels"][name]):
            cells = "".join(
                f"<td>{row['labels'][name][label][metric]['mean'] * PERCENT:.1f}</td>"
                for _, row in shown
            )
            lines.append(f"<tr><td>{_text(label)}</td>{cells}</tr>")
        tables.append(
            f"<h4>{metric_title}</h4><div class=scroll><table><thead><tr><th>label</th>{heads}</tr>"
            f"</thead><tbody>{''.join(lines)}</tbody></table></div>"
        )
    scored = len(shown[0][1]["labels"][name])
    return (
        f"<details><summary>{_text(name)}: {scored} labels scored on the test split"
        f"</summary>{''.join(tables)}</details>"
    )


def _task(task: Mapping[str, Any]) -> str:
    tracks = ", ".join(f"{count} {split}" for split, count in task["tracks"].items())
    protocol = ", ".join(f"{key} {value}" for key, value in task["protocol"].items())
    facts = {
        "tracks": tracks,
        "labels": ", ".join(task["labels"]),
        "protocol": protocol,
        "recordings left out": _left_out(task["left_out"]),
    }
    return f"<details><summary>{_text(task['name'])}</summary>{_pairs(facts)}</details>"


def _left_out(report: Mapping[str, Any]) -> str:
    counts = [
        f"{len(entries)} {reason.replace('_', ' ')}"
        for reason, entries in report.items()
        if isinstance(entries, list) and entries
    ]
    return ", ".join(counts) or "none"


def _pairs(facts: Mapping[str, str]) -> str:
    lines = "".join(f"<dt>{_text(key)}</dt><dd>{_text(value)}</dd>" for key, value in facts.items())
    return f"<dl>{lines}</dl>"


def _list(sentences: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{_text(sentence)}</li>' for sentence in sentences)}</ul>"


def _text(value: str) -> str:
    return html.escape(value)
