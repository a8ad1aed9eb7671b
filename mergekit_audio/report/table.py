"""Tables of scores and of anything else, as text, Markdown, CSV, LaTeX and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PERCENT = 100.0
LATEX_MARKS = {"λ": "$\\lambda$", "²": "$^2$", "±": "$\\pm$", "−": "--"}


@dataclass(frozen=True)
class Column:
    """One column: the task or average above, the metric below, and where its value is in a row."""

    group: str
    title: str
    path: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """A score in percent; ``std`` is ``None`` with one seed, ``mark`` says what is sure of it."""

    mean: float
    std: float | None
    mark: str = ""

    @classmethod
    def of(cls, spread: Mapping[str, Any], mark: str = "") -> Cell:
        """Return a summary's ``{mean, std}`` (0 to 1) in percent."""
        std = spread["std"]
        return cls(spread["mean"] * PERCENT, None if std is None else std * PERCENT, mark)

    def text(self) -> str:
        """Return ``mean ± std`` with one decimal, and the mark."""
        return self.number() + self.mark

    def number(self) -> str:
        """Return ``mean ± std`` with one decimal."""
        mean = f"{self.mean:.1f}"
        return mean if self.std is None else f"{mean} ± {self.std:.1f}"


@dataclass(frozen=True)
class TableRow:
    """A title and one cell for each column."""

    title: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Columns and rows of scores."""

    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]

    def best(self, column: int) -> float:
        """Return the highest mean of a column as it is printed."""
        return max(round(row.cells[column].mean, 1) for row in self.rows)

    def is_best(self, row: TableRow, column: int) -> bool:
        """Tell whether a cell prints the column's highest mean."""
        return len(self.rows) > 1 and round(row.cells[column].mean, 1) == self.best(column)

    def text(self) -> str:
        """Return aligned plain text, with the groups of columns above."""
        heads = ["model", *(column.title for column in self.columns)]
        lines = [[row.title, *(cell.text() for cell in row.cells)] for row in self.rows]
        widths = [max(map(len, each)) for each in zip(heads, *lines, strict=True)]
        groups, first = [" " * widths[0]], 1
        for name, count in self.groups():
            room = sum(widths[first : first + count]) + 2 * (count - 1)
            widths[first] += max(0, len(name) - room)
            groups.append(name.center(max(room, len(name))))
            first += count
        aligned = [_aligned(line, widths) for line in [heads, *lines]]
        return "\n".join(["  ".join(groups).rstrip(), *aligned]) + "\n"

    def markdown(self) -> str:
        """Return a GitHub-flavoured Markdown table; the best of a column is bold."""
        heads = ["model", *(one_line(column) for column in self.columns)]
        rows = []
        for row in self.rows:
            cells = []
            for index, cell in enumerate(row.cells):
                bold = f"**{cell.number()}**" if self.is_best(row, index) else cell.number()
                cells.append(bold + cell.mark.replace("*", "\\*"))
            rows.append([row.title, *cells])
        return piped(heads, rows)

    def csv(self) -> str:
        """Return CSV with mean and standard deviation in columns of their own, unrounded."""
        heads = [one_line(column) for column in self.columns]
        rows: list[list[Any]] = []
        for row in self.rows:
            numbers: list[Any] = []
            for cell in row.cells:
                numbers += [cell.mean, cell.std]
            rows.append([row.title, *numbers])
        return comma_separated(
            ["model", *(f"{head}{end}" for head in heads for end in (" mean", " std"))], rows
        )

    def latex(self) -> str:
        """Return a ``booktabs`` tabular."""
        spans = [
            f"\\multicolumn{{{width}}}{{c}}{{{escaped(name)}}}" for name, width in self.groups()
        ]
        above = " & ".join(["", *spans]) + " \\\\"
        rows = []
        for row in self.rows:
            cells = []
            for index, cell in enumerate(row.cells):
                mean = f"{cell.mean:.1f}"
                bold = f"\\textbf{{{mean}}}" if self.is_best(row, index) else mean
                number = bold if cell.std is None else f"{bold} $\\pm$ {cell.std:.1f}"
                cells.append(number + (f"$^{{{cell.mark}}}$" if cell.mark else ""))
            rows.append([escaped(row.title), *cells])
        heads = ["model", *(escaped(column.title) for column in self.columns)]
        return tabular(heads, rows, above=above)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values in percent, unrounded, for JSON."""
        return {
            "columns": [{"group": column.group, "title": column.title} for column in self.columns],
            "rows": [
                {
                    "title": row.title,
                    "cells": [
                        {"mean": cell.mean, "std": cell.std, "mark": cell.mark}
                        for cell in row.cells
                    ],
                }
                for row in self.rows
            ],
        }

    def groups(self) -> list[tuple[str, int]]:
        """Return the names above the columns and how many columns each spans."""
        groups: list[tuple[str, int]] = []
        for column in self.columns:
            if groups and groups[-1][0] == column.group:
                groups[-1] = (column.group, groups[-1][1] + 1)
            else:
                groups.append((column.group, 1))
        return groups


@dataclass(frozen=True)
class Grid:
    """A table of words and numbers.

    Parameters
    ----------
    heads
        The columns' names.
    shown
        The rows as people read them.
    values
        The rows as programs read them, unrounded, with ``value_heads`` above.
    value_heads
        The columns of ``values``.
    """

    heads: tuple[str, ...]
    shown: tuple[tuple[str, ...], ...]
    values: tuple[tuple[Any, ...], ...]
    value_heads: tuple[str, ...]

    def text(self) -> str:
        """Return aligned plain text."""
        widths = [max(map(len, each)) for each in zip(self.heads, *self.shown, strict=True)]
        return "\n".join(_aligned(row, widths) for row in (self.heads, *self.shown)) + "\n"

    def markdown(self) -> str:
        """Return a GitHub-flavoured Markdown table."""
        return piped(self.heads, self.shown)

    def csv(self) -> str:
        """Return CSV of the unrounded values; what is not known is empty."""
        return comma_separated(self.value_heads, self.values)

    def latex(self) -> str:
        """Return a ``booktabs`` tabular."""
        rows = [[escaped(cell) for cell in row] for row in self.shown]
        return tabular([escaped(head) for head in self.heads], rows)

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return the unrounded rows by column, for JSON."""
        return [dict(zip(self.value_heads, row, strict=True)) for row in self.values]


def one_line(column: Column) -> str:
    """Return a column's two heads as one."""
    return f"{column.group} {column.title}" if column.title != "Avg." else column.group


def piped(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, its first column to the left, the others to the right."""
    lines = [list(heads), ["---", *("---:" for _ in heads[1:])]]
    lines += [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def comma_separated(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return CSV; floats are written so that they read back as they are."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(heads)
    for row in rows:
        writer.writerow([repr(cell) if isinstance(cell, float) else cell for cell in row])
    return stream.getvalue()


def tabular(heads: Sequence[str], rows: Sequence[Sequence[str]], above: str | None = None) -> str:
    """Return a ``booktabs`` tabular of cells that are LaTeX already."""
    lines = [f"\\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}", "\\toprule"]
    lines += [above] if above is not None else []
    lines += [" & ".join(heads) + " \\\\", "\\midrule"]
    lines += [" & ".join(row) + " \\\\" for row in rows]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def escaped(text: str) -> str:
    """Return text as LaTeX."""
    for mark in "&%$#_{}":
        text = text.replace(mark, f"\\{mark}")
    for mark, written in LATEX_MARKS.items():
        text = text.replace(mark, written)
    return text


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.ljust(width) if place == 0 else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()
