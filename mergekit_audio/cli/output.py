"""What commands say: data on stdout (text or JSON), talk on stderr, only from the main process."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergekit_audio.errors import CmergeError

LONGEST_LIST = 80
"""Longer lists of words take a line for each."""


@dataclass(frozen=True)
class Output:
    """The two streams of one command.

    Parameters
    ----------
    as_json
        Data is one JSON document instead of text.
    quiet
        No talk: only data and errors.
    """

    as_json: bool = False
    quiet: bool = False

    def data(self, text: str, value: Any) -> None:
        """Write the command's result to stdout: ``text`` for people, or ``value`` as JSON."""
        if not is_main_process():
            return
        if self.as_json:
            text = json.dumps(value, indent=2, ensure_ascii=False)
        if text:
            sys.stdout.write(text.rstrip("\n") + "\n")

    def talk(self, line: str) -> None:
        """Write one line to stderr, unless quiet."""
        if not self.quiet and is_main_process():
            sys.stdout.flush()
            sys.stderr.write(line + "\n")

    def closing(self, what: str, where: Path | str, seconds: float, then: str) -> None:
        """Write the last line: what was done, where it is, how long it took, what comes next."""
        self.talk(f"{what} -> {shown(where)} in {duration(seconds)}; next: {then}")


def error_text(error: CmergeError) -> str:
    """Return an error as written to stderr: the message, a blank line, and the hint."""
    text = f"{error.message}\n"
    return f"{text}\nhint: {error.hint}\n" if error.hint else text


def is_main_process() -> bool:
    """Whether this process speaks: under torchrun only rank 0 does."""
    return os.environ.get("RANK", "0") == "0"


def shown(path: Path | str) -> str:
    """Return a path as people would type it: relative where it lies below the current folder."""
    absolute = Path(os.path.abspath(path))
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)


def duration(seconds: float) -> str:
    """Return ``0.4 s``, ``3 min 12 s`` or ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def outline(value: Any, indent: int = 0) -> str:
    """Return nested mappings, lists and tables as indented lines for people to read."""
    space = "  " * indent
    if isinstance(value, dict):
        return "".join(_entry(f"{space}{key}:", item, indent) for key, item in value.items())
    if isinstance(value, list):
        return "".join(_entry(f"{space}-", item, indent) for item in value)
    return f"{space}{_scalar(value)}\n"


def table(rows: list[dict[str, Any]], indent: int = 0) -> str:
    """Return rows with equal keys as aligned columns under a header; numbers stand to the right."""
    keys = list(rows[0])
    cells = [keys, *([_scalar(row[key]) for key in keys] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(keys))]
    right = [all(_is_number(row[key]) for row in rows) for key in keys]
    lines = (
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        )
        for line in cells
    )
    return "".join("  " * indent + line.rstrip() + "\n" for line in lines)


def _entry(label: str, item: Any, indent: int) -> str:
    if isinstance(item, dict | list) and not item:
        return f"{label} none\n"
    if _is_table(item):
        return f"{label}\n{table(item, indent + 1)}"
    if isinstance(item, list) and not any(isinstance(part, dict | list) for part in item):
        line = ", ".join(_scalar(part) for part in item)
        if len(line) <= LONGEST_LIST:
            return f"{label} {line}\n"
    if isinstance(item, dict | list):
        return f"{label}\n{outline(item, indent + 1)}"
    return f"{label} {_scalar(item)}\n"


def _is_table(item: Any) -> bool:
    return (
        isinstance(item, list)
        and all(isinstance(row, dict) and list(row) == list(item[0]) for row in item)
        and not any(isinstance(cell, dict) for row in item for cell in row.values())
    )


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _scalar(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return "[" + ", ".join(_scalar(part) for part in value) + "]"
    return str(value)
