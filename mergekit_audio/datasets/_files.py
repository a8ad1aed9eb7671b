"""Read downloaded metadata with care: nothing is unpickled, every fault is kept with its place."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mergekit_audio.errors import InputError

_LISTED = 100
_LONGEST_CELL = 1 << 24  # characters; a biography may be longer than csv's own limit


class Faults:
    """The faults of a raw folder's metadata, in the order in which they were found.

    Parameters
    ----------
    raw
        The raw folder; places are relative to it.
    """

    def __init__(self, raw: Path) -> None:
        self.raw = Path(raw)
        self.lines: list[str] = []
        self.read: list[str] = []

    def add(self, place: str, problem: str, line: int | None = None) -> None:
        """Keep one fault of a file."""
        where = f"{self.raw / place}" + ("" if line is None else f":{line}")
        self.lines.append(f"{where}: {problem}")

    def raise_if_any(self, hint: str = "") -> None:
        """Raise one `InputError` that lists every fault."""
        if not self.lines:
            return
        listed = self.lines[:_LISTED]
        if len(self.lines) > len(listed):
            listed.append(f"{self.raw}: and {len(self.lines) - len(listed)} more faults")
        raise InputError("\n".join(listed), hint)

    def first(self, places: Sequence[str]) -> str | None:
        """Return the first of several places where a file lies; none is a fault."""
        for place in places:
            if (self.raw / place).is_file():
                return place
        self.add(places[0], _missing(places))
        return None

    def text(self, *places: str) -> str | None:
        """Return a UTF-8 file's text, from the first of the places where it lies."""
        content = self._bytes(places)
        if content is None:
            return None
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            self.add(self.read[-1], f"is not UTF-8 (byte {content[error.start]:#04x})", line)
            return None

    def json(self, *places: str) -> Any:
        """Return a JSON file's value, or ``None`` after a fault."""
        text = self.text(*places)
        if text is None:
            return None
        try:
            return json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            line = getattr(error, "lineno", 1)
            self.add(self.read[-1], f"is not JSON: {getattr(error, 'msg', error)}", line)
            return None

    def table(
        self, columns: Iterable[str], *places: str, delimiter: str = ","
    ) -> list[tuple[int, dict[str, str]]]:
        """Return the rows of a CSV or TSV with their lines; the header must have the columns."""
        text = self.text(*places)
        if text is None:
            return []
        place = self.read[-1]
        lines = self.cells(place, text, delimiter)
        if not lines:
            self.add(place, "is empty; expected a header")
            return []
        header = lines[0][1]
        lacking = [name for name in columns if name not in header]
        if lacking:
            found = ", ".join(header[:12])
            self.add(place, f"has no column {', '.join(lacking)}; found {found}", lines[0][0])
            return []
        rows = []
        for line, cells in lines[1:]:
            if len(cells) != len(header):
                self.add(place, f"has {len(cells)} cells, the header has {len(header)}", line)
            else:
                rows.append((line, dict(zip(header, cells, strict=True))))
        return rows

    def cells(self, place: str, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
        """Return the cells of each line of a CSV that is not empty, with its number."""
        lines: list[tuple[int, list[str]]] = []
        line, limit = 1, csv.field_size_limit(_LONGEST_CELL)
        try:
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    lines.append((line, cells))
                line = reader.line_num + 1
        except csv.Error as error:
            self.add(place, f"can't be read as a table: {error}", line)
        finally:
            csv.field_size_limit(limit)
        return lines

    def names(self, *places: str) -> list[str]:
        """Return the texts of an NPY file of one dimension; arrays of objects are refused."""
        array = self.array(*places)
        if array is None:
            return []
        place = self.read[-1]
        if array.dtype.kind != "U" or array.ndim != 1:
            found = f"shape {list(array.shape)} of {array.dtype}"
            self.add(place, f"expected one dimension of texts, found {found}")
            return []
        names: list[str] = array.tolist()
        return names

    def array(self, *places: str) -> Any:
        """Return an NPY file's array, or ``None`` after a fault; nothing is unpickled."""
        import numpy as np

        place = self.first(places)
        if place is None:
            return None
        self.read.append(place)
        try:
            with open(self.raw / place, "rb") as stream:
                version = np.lib.format.read_magic(stream)
                header = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                dtype = header(stream)[2]
            if dtype.hasobject:
                self.add(place, "holds pickled Python objects, which may run code: not opened")
                return None
            return np.array(np.lib.format.open_memmap(self.raw / place, mode="r"))
        except (ValueError, OSError, EOFError, MemoryError, OverflowError) as error:
            self.add(place, f"is not a whole NPY file ({error})")
            return None

    def _bytes(self, places: Sequence[str]) -> bytes | None:
        place = self.first(places)
        if place is None:
            return None
        self.read.append(place)
        try:
            return (self.raw / place).read_bytes()
        except OSError as error:
            self.add(place, f"can't be read ({error.strerror})")
            return None


def require_folder(raw: Path) -> None:
    """Raise `InputError` when the raw folder is not there."""
    if not Path(raw).is_dir():
        raise InputError(f"{raw}: no such folder", "name the folder that holds what was downloaded")


def _missing(places: Sequence[str]) -> str:
    if len(places) == 1:
        return "no such file"
    return f"no such file (nor {', '.join(places[1:])})"
