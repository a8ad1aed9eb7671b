"""Write what is known of task vectors as one tidy CSV: a line a model or pair, at each level."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mergekit_audio.files import write_text

SIZES = (
    *("elements", "norm", "relative_norm", "max_abs", "changed_share"),
    *("matrices", "effective_rank", "effective_rank_share", "stable_rank"),
)
RELATIONS = ("cosine", "sign_conflict")
COLUMNS = ("level", "name", "model", "other", *SIZES, *RELATIONS)
LEVELS = (("group", "chosen"), ("part", "parts"), ("layer", "groups"))


def write_geometry_csv(value: Mapping[str, Any], path: Path, *, tensors: bool = False) -> None:
    """Write ``level, name, model, other`` and their numbers; a cell without a number is empty.

    ``level`` is ``total``, ``group``, ``part``, ``layer`` or ``tensor``. Lines without ``other``
    hold the size of one model's τ, lines with it cosine and share of opposite signs of two.

    Parameters
    ----------
    value
        What ``weights.inspect.inspect_geometry`` returned.
    path
        Where it goes.
    tensors
        A line for every tensor as well.
    """
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in _rows(value, tensors):
        writer.writerow({key: "" if cell is None else cell for key, cell in row.items()})
    write_text(path, stream.getvalue())


def _rows(value: Mapping[str, Any], tensors: bool) -> Iterator[dict[str, Any]]:
    relations, pairs = value["relations"], value["pairs"]
    names = relations["models"]
    levels = [*LEVELS, *([("tensor", "tensors")] if tensors else [])]
    for name, pair in zip(names, pairs, strict=True):
        yield {"level": "total", "name": "", "model": name, **_sizes(pair["total"])}
    yield from _related("total", "", relations, names)
    for level, key in levels:
        for name, pair in zip(names, pairs, strict=True):
            for entry in pair.get(key, ()):
                yield {"level": level, "name": entry["name"], "model": name, **_sizes(entry)}
        for entry in relations.get(key, ()):
            yield from _related(level, entry["name"], entry, names)


def _sizes(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in SIZES}


def _related(
    level: str, name: str, entry: Mapping[str, Any], names: Sequence[str]
) -> Iterator[dict[str, Any]]:
    for first, second in itertools.combinations(range(len(names)), 2):
        numbers = {key: entry[key][first][second] for key in RELATIONS}
        yield {
            "level": level,
            "name": name,
            "model": names[first],
            "other": names[second],
            **numbers,
        }
