"""What a comparison of corpora says, as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

TITLES = {"jensen_shannon": "Jensen-Shannon divergence, bits", "cosine": "cosine distance"}


def similarity_markdown(summary: Mapping[str, Any]) -> str:
    """Return matrices with intervals, suggested λ and correlations with gains.

    Parameters
    ----------
    summary
        The content of ``summary.json``.
    """
    lines = ["# Acoustic tokens of corpora", "", _described(summary), ""]
    for measure in summary["measures"]:
        lines += [f"## {TITLES[measure]}", "", *_matrix(summary, measure), ""]
    lines += _scales(summary)
    if summary["gains"] is not None:
        lines += ["", *_gains(summary["gains"])]
    return "\n".join(lines) + "\n"


def matrix_csv(summary: Mapping[str, Any], measure: str) -> str:
    """Return one row a pair of corpora: value, interval, and the two floors."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ["corpus", "other", measure, "corrected", "low", "high", "floor", "floor_of_other"]
    )
    names, found = _names(summary), summary["measures"][measure]
    for i, name in enumerate(names):
        for j in range(i + 1, len(names)):
            values = [found[kind][i][j] for kind in ("values", "corrected", "low", "high")]
            floors = [found["floors"][i], found["floors"][j]]
            writer.writerow([name, names[j], *(f"{value:.6f}" for value in (*values, *floors))])
    return stream.getvalue()


def _described(summary: Mapping[str, Any]) -> str:
    counted = ", ".join(
        f"{each['name']} {each['tracks']} tracks ({each['frames']:,} frames)"
        for each in summary["corpora"]
    )
    how = "as tuples" if summary["joint"] else "averaged"
    return (
        f"Tokens of {summary['teacher']['name']}, {summary['codebooks']} codebook"
        f"{'s' if summary['codebooks'] > 1 else ''} {how}: {counted}. Each value as it is, then "
        "without the bias of finite corpora and with its 95 % interval, over "
        f"{summary['resamples']} resamples of tracks: where that reaches 0, two corpora can't be "
        "told apart. On the diagonal, what random halves of one corpus are apart."
    )


def _names(summary: Mapping[str, Any]) -> list[str]:
    return [each["name"] for each in summary["corpora"]]


def _matrix(summary: Mapping[str, Any], measure: str) -> list[str]:
    names, found = _names(summary), summary["measures"][measure]
    rows = [["", *names], ["---", *["---:"] * len(names)]]
    for i, name in enumerate(names):
        cells = [
            f"{found['values'][i][j]:.3f}; {found['corrected'][i][j]:.3f} "
            f"[{found['low'][i][j]:.3f}, {found['high'][i][j]:.3f}]"
            for j in range(len(names))
        ]
        cells[i] = f"({found['floors'][i]:.3f})"
        rows.append([name, *cells])
    return _rows(rows)


def _scales(summary: Mapping[str, Any]) -> list[str]:
    suggested = summary["suggested_scales"]
    targets = suggested["targets"]
    cultures = list(next(iter(targets.values())))
    rows = [["for", *(f"λ {name}" for name in cultures)], ["---", *["---:"] * len(cultures)]]
    rows += [
        [target, *(f"{scales[name]:.3f}" for name in cultures)]
        for target, scales in targets.items()
    ]
    how = (
        f"softmax(-JSD / {suggested['temperature']:g}) times {suggested['scale']:g}: a guess from "
        "sound alone; `cmerge sweep-lambda` measures."
    )
    return ["## Suggested λ", "", how, "", *_rows(rows)]


def gain_sentences(gains: Mapping[str, Any]) -> list[str]:
    """Return how divergence and gain over the base go together, and how sure that is.

    Parameters
    ----------
    gains
        Of ``summary.json``, not ``None``.
    """
    sentences = []
    count = len(gains["pairs"])
    for measure, title in TITLES.items():
        found = gains[measure]
        if found is None:
            sentences.append(f"{title}: {count} pairs are too few, or all equal, to say.")
            continue
        sentences.append(
            f"{title} against the gain over the base, {count} pairs: Pearson "
            f"{found['pearson']:+.2f} (p = {found['pearson_p']:.2g}), Spearman "
            f"{found['spearman']:+.2f} (p = {found['spearman_p']:.2g})."
        )
    return [*sentences, "Pairs share corpora, so these p are too small."]


def _gains(gains: Mapping[str, Any]) -> list[str]:
    lines = [f"- {sentence}" for sentence in gain_sentences(gains)]
    return ["## Do cultures help what sounds like them?", "", *lines]


def _rows(rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in rows]
