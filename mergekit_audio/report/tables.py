"""The main table of an evaluation or a sweep: one row a model, ROC-AUC and AP a task, averages."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mergekit_audio.report.statement import selection_sentences

METRIC_TITLES = {"roc_auc": "ROC", "average_precision": "AP"}
GROUP_TITLES = {"all": "Avg.", "non_western": "non-Western", "western": "Western"}
PERCENT = 100.0


def main_table(summary: Mapping[str, Any], split: str = "test") -> Table:
    """Return the paper's Table 2 of a summary.

    Rows: base, single-culture models, further models, weight average, best merge; of an evaluation,
    its models in the recipe's order. Columns: ROC-AUC and average precision of each task, then the
    averages over tasks and both metrics, all in percent.

    Parameters
    ----------
    summary
        The content of ``summary.json``.
    split
        ``test``, or ``valid``.

    References
    ----------
    arXiv 2506.17818, Table 2.
    """
    columns = [
        Column(task["name"], title, ("scores", task["name"], split, metric))
        for task in summary["tasks"]
        for metric, title in METRIC_TITLES.items()
    ]
    groups = [group for group in GROUP_TITLES if group in summary["rows"][0]["averages"][split]]
    if len(groups) == 2:
        groups = ["all"]
    columns += [
        Column(
            "Average" if group == "all" else GROUP_TITLES[group], "Avg.", ("averages", split, group)
        )
        for group in groups
    ]
    rows = [
        TableRow(title, tuple(Cell.of(_at(row, column.path)) for column in columns))
        for title, row in table_rows(summary)
    ]
    return Table(tuple(columns), tuple(rows))


def table_rows(summary: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the titles and summary rows that the main table shows, in its order."""
    rows: Sequence[Mapping[str, Any]] = summary["rows"]
    shown = [(str(row["name"]), row) for row in rows if row["kind"] != "merge"]
    for row in rows:
        if row["weight_average"]:
            at = "" if row["scale"] is None else f" (λ = {row['scale']:g})"
            shown.append((f"weight average{at}", row))
    selection = summary.get("selection")
    if selection is not None:
        method = summary["method"]["name"].replace("_", " ")
        best = next(row for row in rows if row["name"] == selection["row"])
        shown.append((f"{method} (λ = {selection['scale']:g})", best))
    return shown


def table_notes(summary: Mapping[str, Any]) -> list[str]:
    """Return what a reader must know beside the table: seeds, selection, labels without scores."""
    seeds = summary["seeds"]
    spread = (
        f", mean ± standard deviation over {len(seeds)} probe seeds"
        if len(seeds) > 1
        else " with one probe seed"
    )
    notes = [
        f"Scores of the test split in percent{spread}; averages are taken over tasks and both "
        "metrics. The best of a column is bold."
    ]
    notes += [*summary.get("notes", []), *selection_sentences(summary)]
    for task in summary["tasks"]:
        notes += _task_notes(task)
    return notes


@dataclass(frozen=True)
class Column:
    """One column: the task or average above, the metric below, and where its value is in a row."""

    group: str
    title: str
    path: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """A score in percent; ``std`` is ``None`` with one seed."""

    mean: float
    std: float | None

    @classmethod
    def of(cls, spread: Mapping[str, Any]) -> Cell:
        """Return a summary's ``{mean, std}`` (0 to 1) in percent."""
        std = spread["std"]
        return cls(spread["mean"] * PERCENT, None if std is None else std * PERCENT)

    def text(self, plus_minus: str = " ± ") -> str:
        """Return ``mean ± std`` with one decimal."""
        mean = f"{self.mean:.1f}"
        return mean if self.std is None else f"{mean}{plus_minus}{self.std:.1f}"


@dataclass(frozen=True)
class TableRow:
    """A title and one cell for each column."""

    title: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Columns and rows, to be written as Markdown, CSV or LaTeX."""

    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]

    def best(self, column: int) -> float:
        """Return the highest mean of a column as it is printed."""
        return max(round(row.cells[column].mean, 1) for row in self.rows)

    def is_best(self, row: TableRow, column: int) -> bool:
        """Tell whether a cell prints the column's highest mean."""
        return len(self.rows) > 1 and round(row.cells[column].mean, 1) == self.best(column)

    def markdown(self) -> str:
        """Return a GitHub-flavoured Markdown table; the best of a column is bold."""
        heads = ["model", *(_one_line(column) for column in self.columns)]
        lines = [_piped(heads), _piped(["---", *("---:" for _ in self.columns)])]
        for row in self.rows:
            cells = [
                f"**{cell.text()}**" if self.is_best(row, index) else cell.text()
                for index, cell in enumerate(row.cells)
            ]
            lines.append(_piped([row.title.replace("|", "\\|"), *cells]))
        return "\n".join(lines) + "\n"

    def csv(self) -> str:
        """Return CSV with mean and standard deviation in columns of their own, unrounded."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        heads = [_one_line(column) for column in self.columns]
        writer.writerow(["model", *(f"{head}{end}" for head in heads for end in (" mean", " std"))])
        for row in self.rows:
            numbers: list[str] = []
            for cell in row.cells:
                numbers += [repr(cell.mean), "" if cell.std is None else repr(cell.std)]
            writer.writerow([row.title, *numbers])
        return stream.getvalue()

    def latex(self) -> str:
        """Return a ``booktabs`` tabular."""
        lines = [f"\\begin{{tabular}}{{l{'r' * len(self.columns)}}}", "\\toprule"]
        groups = self.groups()
        spans = [f"\\multicolumn{{{width}}}{{c}}{{{_escaped(name)}}}" for name, width in groups]
        lines.append(" & ".join(["", *spans]) + " \\\\")
        heads = [_escaped(column.title) for column in self.columns]
        lines += [" & ".join(["model", *heads]) + " \\\\", "\\midrule"]
        for row in self.rows:
            cells = []
            for index, cell in enumerate(row.cells):
                mean = f"{cell.mean:.1f}"
                bold = f"\\textbf{{{mean}}}" if self.is_best(row, index) else mean
                cells.append(bold if cell.std is None else f"{bold} $\\pm$ {cell.std:.1f}")
            lines.append(" & ".join([_escaped(row.title), *cells]) + " \\\\")
        return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"

    def groups(self) -> list[tuple[str, int]]:
        """Return the names above the columns and how many columns each spans."""
        groups: list[tuple[str, int]] = []
        for column in self.columns:
            if groups and groups[-1][0] == column.group:
                groups[-1] = (column.group, groups[-1][1] + 1)
            else:
                groups.append((column.group, 1))
        return groups


def _task_notes(task: Mapping[str, Any]) -> list[str]:
    notes = []
    for split, reasons in task["unscored"].items():
        for reason, labels in reasons.items():
            if labels and split != "train":
                lacking = reason.replace("_", " ")
                notes.append(
                    f"{task['name']}, {split} split: {len(labels)} of {len(task['labels'])} labels "
                    f"{lacking} are left out of the macro means: {', '.join(labels)}."
                )
    if task["without_split"]:
        notes.append(
            f"{task['name']}: {task['without_split']} tracks without a split are not used."
        )
    return notes


def _at(row: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    value: Any = row
    for step in path:
        value = value[step]
    found: Mapping[str, Any] = value
    return found


def _one_line(column: Column) -> str:
    return f"{column.group} {column.title}" if column.title != "Avg." else column.group


def _piped(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escaped(text: str) -> str:
    for mark in "&%$#_{}":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("λ", "$\\lambda$")
