"""The table of an ablation in the layout of the paper's Table 1: strategies by tasks."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mergekit_audio.report.table import PERCENT, Cell

METRICS = {"roc_auc": "ROC-AUC", "average_precision": "AP", "mean": "mean of ROC-AUC and AP"}
NOTHING = "-"


@dataclass(frozen=True)
class StrategyRow:
    """A strategy, its Western replay, its cells in percent, and the same numbers over seeds."""

    title: str
    replay: str
    cells: tuple[Cell, ...]
    seeds: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class AblationTable:
    """Rows are strategies; columns are the tasks and, of two tasks or more, their average."""

    columns: tuple[str, ...]
    rows: tuple[StrategyRow, ...]

    def markdown(self) -> str:
        """Return a GitHub-flavoured Markdown table; the best of a column is bold."""
        heads = ["CPT strategy", "replay", *self.columns]
        lines = [_piped(heads), _piped(["---", "---", *("---:" for _ in self.columns)])]
        best = [
            max(round(row.cells[index].mean, 1) for row in self.rows)
            for index in range(len(self.columns))
        ]
        for row in self.rows:
            cells = [
                f"**{cell.text()}**" if round(cell.mean, 1) == highest else cell.text()
                for cell, highest in zip(row.cells, best, strict=True)
            ]
            lines.append(_piped([row.title, row.replay, *cells]))
        return "\n".join(lines) + "\n"

    def csv(self) -> str:
        """Return CSV with mean and standard deviation in columns of their own, unrounded."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        heads = [f"{column}{end}" for column in self.columns for end in (" mean", " std")]
        writer.writerow(["CPT strategy", "replay", *heads])
        for row in self.rows:
            numbers: list[str] = []
            for cell in row.cells:
                numbers += [repr(cell.mean), "" if cell.std is None else repr(cell.std)]
            writer.writerow([row.title, row.replay, *numbers])
        return stream.getvalue()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values in percent, unrounded."""
        return {
            "unit": "percent",
            "columns": list(self.columns),
            "rows": [
                {
                    "strategy": row.title,
                    "replay": row.replay,
                    "cells": {
                        column: {"mean": cell.mean, "std": cell.std, "seeds": list(seeds)}
                        for column, cell, seeds in zip(
                            self.columns, row.cells, row.seeds, strict=True
                        )
                    },
                }
                for row in self.rows
            ],
        }


def ablation_table(summary: Mapping[str, Any]) -> AblationTable:
    """Return the paper's Table 1 of a summary: the base, then the strategies, in percent.

    Parameters
    ----------
    summary
        The content of an ablation's ``summary.json``.

    References
    ----------
    arXiv 2506.17818, Table 1.
    """
    columns = list(summary["table"][0]["cells"])
    replays = {each["name"]: replay_text(each["stages"]) for each in summary["strategies"]}
    titles = {each["name"]: each["title"] for each in summary["strategies"]}
    rows = []
    for row in summary["table"]:
        spreads = [row["cells"][column] for column in columns]
        rows.append(
            StrategyRow(
                titles.get(row["name"], f"{row['name']} (baseline)"),
                replays.get(row["name"], NOTHING),
                tuple(Cell.of(each) for each in spreads),
                tuple(tuple(value * PERCENT for value in each["seeds"]) for each in spreads),
            )
        )
    return AblationTable(tuple(columns), tuple(rows))


def replay_text(stages: Sequence[Mapping[str, Any]]) -> str:
    """Return the replayed share of each stage: ``20 %``, ``20 % + 0 %`` or ``-``."""
    shares = [stage["replay_share"] for stage in stages]
    if not any(shares):
        return NOTHING
    return " + ".join(f"{share * PERCENT:g} %" for share in shares)


def table_notes(summary: Mapping[str, Any]) -> list[str]:
    """Return what a reader must know beside the table: metric, seeds, stages, stability gaps.

    Parameters
    ----------
    summary
        The content of ``summary.json``.
    """
    seeds = summary["seeds"]
    spread = (
        f"mean ± standard deviation over {len(seeds)} probe seeds"
        if len(seeds) > 1
        else "one probe seed"
    )
    notes = [
        f"{METRICS[summary['metric']]} of the test split in percent, {spread}; each model was "
        "trained once. The best of a column is bold.",
        "The single-stage runs take as many steps as both stages together. The paper gives neither "
        "their learning rates nor their share of replay; here they are:",
    ]
    notes += [
        f"{each['title']}: {'; then '.join(map(_stage_text, each['stages']))}."
        for each in summary["strategies"]
    ]
    for strategy in summary["strategies"]:
        for corpus, measures in summary["stability_gaps"].get(strategy["name"], {}).items():
            gaps = "; ".join(f"{name} {_gap_text(gap)}" for name, gap in measures.items())
            notes.append(f"Forgetting probe of {strategy['title']} on {corpus}: {gaps}.")
    return notes


def _stage_text(stage: Mapping[str, Any]) -> str:
    trains = ", ".join(f"`{glob}`" for glob in stage["train"])
    if stage["peak_lr"] == stage["min_lr"] and not stage["warmup_ratio"]:
        rate = f"constant learning rate {stage['peak_lr']:g}"
    else:
        rate = (
            f"warm-up of {stage['warmup_ratio']:.0%} up to {stage['peak_lr']:g}, cosine down to "
            f"{stage['min_lr']:g}"
        )
    return f"{trains} for {stage['steps']} steps, {rate}, {stage['replay_share']:.0%} replay"


def _gap_text(gap: Mapping[str, Any]) -> str:
    if not gap["gap"]:
        return f"never worse than its start of {gap['start']:.4g}, {gap['end']:.4g} at the end"
    return (
        f"{gap['worst']:.4g} at worst (step {gap['step']}), from {gap['start']:.4g} at the start "
        f"to {gap['end']:.4g} at the end"
    )


def _piped(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
