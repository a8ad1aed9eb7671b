"""Read a JSONL or CSV manifest and list every fault in it with its line."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mergekit_audio.audio.foreign import ForeignError, dialect_of, native_row
from mergekit_audio.errors import InputError
from mergekit_audio.registry import did_you_mean

COLUMNS = (
    "id",
    "path",
    "split",
    "tags",
    "duration_s",
    "start_s",
    "end_s",
    "artist",
    "values",
)
SPLITS = ("train", "valid", "test")
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv")
TAG_SEPARATOR = "|"

_LISTED_FAULTS = 200


@dataclass(frozen=True)
class Row:
    """One line of a manifest: its checked fields (``path`` as written)."""

    line: int
    fields: dict[str, Any]


@dataclass
class _Faults:
    """The faults of one manifest, in the order of its lines."""

    manifest: Path
    lines: list[str] = field(default_factory=list)

    def add(self, line: int, column: str, problem: str, hint: str = "") -> None:
        where = f"{self.manifest}:{line}: " + (f"{column}: " if column else "")
        self.lines.append(where + problem + (f" ({hint})" if hint else ""))

    def raise_if_any(self) -> None:
        if not self.lines:
            return
        listed = self.lines[:_LISTED_FAULTS]
        if len(self.lines) > len(listed):
            listed.append(f"{self.manifest}: and {len(self.lines) - len(listed)} more faults")
        raise InputError("\n".join(listed), f"the columns are {', '.join(COLUMNS)}")


def read_rows(manifest: Path) -> list[Row]:
    """Return the rows of a manifest in its order, each field checked and of its type.

    Only ``path`` is required; ``id`` defaults to the path without its suffix. Empty cells and JSON
    nulls mean that nothing is known. Tags are a list, or one text with ``|`` between them; values
    an object of names and numbers, or one text ``name=number|name=number``. Manifests of MARBLE and
    of peft-music are read as well (``foreign.py``).

    Raises
    ------
    InputError
        Lists every fault: bad JSON or UTF-8, an unknown column, a bad value, a missing file, an id
        that is used twice.
    """
    faults = _Faults(manifest)
    suffix = manifest.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"{manifest}: is not a manifest (.jsonl or .csv)",
            "give a manifest, or the folder that holds the recordings",
        )
    text = _read_text(manifest, faults)
    raw_rows = _csv_rows(text, faults) if suffix == ".csv" else _json_rows(text, faults, manifest)
    rows: list[Row] = []
    first_lines: dict[str, int] = {}
    for line, raw in raw_rows:
        row = Row(line, _check_row(line, raw, manifest.parent, faults))
        name = row.fields.get("id")
        if name is not None and name in first_lines:
            faults.add(line, "id", f"{name!r} is used in line {first_lines[name]} already")
        elif name is not None:
            first_lines[name] = line
        rows.append(row)
    if not rows and not faults.lines:
        faults.add(1, "", "the manifest has no rows")
    faults.raise_if_any()
    return rows


def _read_text(manifest: Path, faults: _Faults) -> str:
    try:
        data = manifest.read_bytes()
    except OSError as error:
        raise InputError(f"{manifest}: can't be read ({error.strerror})") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        faults.add(line, "", f"is not UTF-8 (byte {data[error.start]:#04x})", "save it as UTF-8")
        faults.raise_if_any()
        raise AssertionError("unreachable") from error


def _json_rows(text: str, faults: _Faults, manifest: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    dialect = dialect_of(text)
    for line, row_text in enumerate(text.split("\n"), start=1):
        if not row_text.strip():
            continue
        try:
            raw = json.loads(row_text, object_pairs_hook=_unique_keys)
        except json.JSONDecodeError as error:
            faults.add(line, "", f"is not JSON: {error.msg} at character {error.colno}")
            continue
        except ValueError as error:
            faults.add(line, "", str(error))
            continue
        if not isinstance(raw, dict):
            faults.add(line, "", f"expected an object {{…}}, found {row_text.strip()[:40]}")
            continue
        if dialect is None:
            _check_columns(line, list(raw), faults)
            yield line, raw
            continue
        try:
            native = native_row(dialect, raw, manifest)
        except ForeignError as error:
            faults.add(line, error.column, str(error), f"{dialect}'s format")
            continue
        yield line, native


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, value in pairs:
        if key in row:
            raise ValueError(f"{key!r} is given twice")
        row[key] = value
    return row


def _csv_rows(text: str, faults: _Faults) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    line = 1
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            faults.add(line, "", f"is not CSV: {error}")
            return
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            if not _check_header(line, header, faults):
                return
        elif len(cells) != len(header):
            faults.add(line, "", f"has {len(cells)} cells, the header has {len(header)}")
        else:
            pairs = zip(header, cells, strict=True)
            yield line, {name: cell.strip() or None for name, cell in pairs}


def _check_header(line: int, header: list[str], faults: _Faults) -> bool:
    """Report what is wrong with the columns of a CSV; false when no row can be read."""
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        faults.add(line, "", "expected commas between the columns", "save it with commas")
        return False
    _check_columns(line, header, faults)
    repeated = sorted({name for name in header if header.count(name) > 1})
    for name in repeated:
        faults.add(line, "", f"column {name!r} is there twice")
    if "path" not in header:
        faults.add(line, "", "has no column 'path'")
    return "path" in header and not repeated


def _check_columns(line: int, names: list[str], faults: _Faults) -> None:
    for name in names:
        if name not in COLUMNS:
            faults.add(line, "", f"unknown column {name!r}", did_you_mean(name, COLUMNS))


def _check_row(line: int, raw: dict[str, Any], folder: Path, faults: _Faults) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in COLUMNS:
        value = raw.get(name)
        if value is None:
            continue
        try:
            fields[name] = _CHECKS[name](value)
        except ValueError as error:
            faults.add(line, name, str(error))
    if "path" in fields:
        fields.setdefault("id", Path(fields["path"]).with_suffix("").as_posix())
        if not (folder / fields["path"]).is_file():
            faults.add(line, "path", f"no such file: {fields['path']}", "relative to the manifest")
    elif raw.get("path") is None:
        faults.add(line, "path", "is missing")
    start_s, end_s = fields.get("start_s", 0.0), fields.get("end_s")
    if end_s is not None and end_s <= start_s:
        faults.add(line, "end_s", f"{end_s:g} s is not after start_s ({start_s:g} s)")
    return fields


def _text(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expected a text, found {value!r}")
    if "\0" in value:
        raise ValueError("holds a zero byte")
    return value.strip()


def _split(value: Any) -> str:
    if value not in SPLITS:
        near = did_you_mean(value, SPLITS) if isinstance(value, str) else ""
        raise ValueError(
            f"expected {', '.join(SPLITS)} or nothing, found {value!r}"
            + (f"; {near}" if near else "")
        )
    return str(value)


def _tags(value: Any) -> tuple[str, ...]:
    items = value.split(TAG_SEPARATOR) if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ValueError(f"expected a list of texts, found {value!r}")
    return tuple(dict.fromkeys(item.strip() for item in items if item.strip()))


def _seconds(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"expected seconds, 0 or more, found {value!r}")
    return number


def _values(value: Any) -> tuple[tuple[str, float], ...]:
    """Return names and finite numbers, sorted by name."""
    pairs: list[tuple[str, Any]]
    if isinstance(value, str):
        cells = [cell.partition("=") for cell in value.split(TAG_SEPARATOR) if cell.strip()]
        pairs = [(name.strip(), text) for name, _, text in cells]
    elif isinstance(value, dict):
        pairs = [(name.strip(), number) for name, number in value.items()]
    else:
        raise ValueError(f"expected names and numbers, found {value!r}")
    numbers: dict[str, float] = {}
    for name, given in pairs:
        number = _number(given, text_too=isinstance(value, str))
        if not name or set(name) & {"=", TAG_SEPARATOR} or number is None:
            raise ValueError(f"expected name=number, finite, found {name}={given!r}")
        if name in numbers:
            raise ValueError(f"{name!r} is given twice")
        numbers[name] = number
    return tuple(sorted(numbers.items()))


def _number(value: Any, *, text_too: bool) -> float | None:
    """Return a finite number, or nothing."""
    if isinstance(value, bool) or not isinstance(
        value, (int, float, str) if text_too else (int, float)
    ):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "id": _text,
    "path": _text,
    "split": _split,
    "tags": _tags,
    "duration_s": _seconds,
    "start_s": _seconds,
    "end_s": _seconds,
    "artist": _text,
    "values": _values,
}
