"""Write HTML: text that is escaped, tables with captions and scopes, figures with their data."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


class Markup(str):
    """Text that is HTML already, so that it is not escaped again."""

    __slots__ = ()


@dataclass(frozen=True)
class Section:
    """One part of the page.

    Parameters
    ----------
    key
        Its id, for links.
    title
        Its heading.
    body
        What stands below.
    """

    key: str
    title: str
    body: Markup


def text(value: object) -> Markup:
    """Return a value as HTML text; markup stays as it is."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def joined(parts: Iterable[object]) -> Markup:
    """Return parts one below the other, each escaped unless it is markup."""
    return Markup("\n".join(text(part) for part in parts))


def element(tag: str, content: object, **attributes: str) -> Markup:
    """Return one element; a trailing underscore of an attribute's name is dropped."""
    held = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for name, value in attributes.items()
    )
    return Markup(f"<{tag}{held}>{text(content)}</{tag}>")


def paragraph(content: object, **attributes: str) -> Markup:
    """Return a paragraph."""
    return element("p", content, **attributes)


def bullets(items: Sequence[object]) -> Markup:
    """Return a list, or nothing without items."""
    if not items:
        return Markup("")
    return element("ul", Markup("".join(element("li", item) for item in items)))


def steps(items: Sequence[object]) -> Markup:
    """Return a numbered list, or nothing without items."""
    if not items:
        return Markup("")
    return element("ol", Markup("".join(element("li", item) for item in items)))


def pairs(facts: Mapping[str, object]) -> Markup:
    """Return names and values as a description list."""
    lines = (element("dt", key) + element("dd", value) for key, value in facts.items())
    return element("dl", Markup("".join(lines)))


def details(summary: object, content: object) -> Markup:
    """Return what opens on a click, or on Enter."""
    return Markup(f"<details><summary>{text(summary)}</summary>{text(content)}</details>")


def table(
    caption: object,
    heads: Sequence[object],
    rows: Sequence[Sequence[object]],
    *,
    groups: Sequence[tuple[str, int]] = (),
    class_: str = "",
) -> Markup:
    """Return a table that scrolls where it is too wide; the first cell of a row names the row.

    Parameters
    ----------
    caption
        What the table shows.
    heads
        The columns' names.
    rows
        Cells are values, markup, or whole ``<td>`` elements.
    groups
        Names above the columns and how many columns each spans.
    class_
        Of the table.
    """
    lines = []
    if groups:
        spans = (
            f'<th scope="colgroup" colspan="{width}">{text(name)}</th>' if name else "<td></td>"
            for name, width in groups
        )
        lines.append(f'<tr class="groups">{"".join(spans)}</tr>')
    named = "".join(
        text(head)
        if isinstance(head, Markup) and head.startswith("<th")
        else element("th", head, scope="col")
        if str(head)
        else Markup("<td></td>")
        for head in heads
    )
    lines.append(f"<tr>{named}</tr>")
    body = "".join(
        f'<tr><th scope="row">{text(row[0])}</th>{"".join(map(_cell, row[1:]))}</tr>'
        for row in rows
    )
    kind = f' class="{class_}"' if class_ else ""
    named = html.escape(_plain(caption))
    return Markup(
        f'<div class="scroll" tabindex="0" role="group" aria-label="{named}">'
        f"<table{kind}><caption>{text(caption)}</caption>"
        f"<thead>{''.join(lines)}</thead><tbody>{body}</tbody></table></div>"
    )


def words_head(name: str) -> Markup:
    """Return the head of a column of words."""
    return element("th", name, scope="col", class_="words")


def figure(content: object, caption: object, data: object = "", legend: object = "") -> Markup:
    """Return a drawing with its legend, its caption, and its numbers below."""
    told = element("figcaption", caption)
    return element("figure", joined(part for part in (content, legend, told, data) if part))


def _cell(cell: object) -> Markup:
    is_whole = isinstance(cell, Markup) and cell.startswith("<td")
    return text(cell) if is_whole else element("td", cell)


def _plain(caption: object) -> str:
    return f"Table: {caption}" if not isinstance(caption, Markup) else "Table"
