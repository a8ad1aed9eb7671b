"""Look at recordings' headers once: the journal of an import, so that it can be resumed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergekit_audio.audio.decode import DECODER, RecordingError, read_duration
from mergekit_audio.errors import InputError
from mergekit_audio.files import write_text
from mergekit_audio.progress import Progress, ProgressEvent


@dataclass(frozen=True)
class Header:
    """A recording's length, or why it can't be used; size and time tell whether it has changed."""

    size: int
    mtime_ns: int
    duration_s: float | None
    problem: str = ""


class Headers:
    """The journal: a line for the dataset, then one for each recording that was looked at."""

    def __init__(self, path: Path, head: dict[str, Any], known: dict[str, Header]) -> None:
        self._path, self._head, self._known = path, head, known

    @classmethod
    def claim(cls, path: Path, dataset: str) -> Headers:
        """Open the journal of an import; refuse a folder that is not one of this dataset.

        Raises
        ------
        InputError
            The folder is not empty and holds no journal, or another dataset's.
        """
        head = {"dataset": dataset, "decoder": DECODER}
        folder = path.parent
        if not path.exists():
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise InputError(
                    f"{folder}: is not empty and holds no import ({path.name})",
                    "choose an empty or a new folder",
                )
            write_text(path, _line(head))
            return cls(path, head, {})
        text = path.read_text(encoding="utf-8", errors="replace")
        rows = [_parsed(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        found = rows[0] if rows and rows[0] else {}
        if found.get("dataset") != dataset:
            raise InputError(
                f"{path}: the folder holds another import ({found.get('dataset')!r}), "
                f"expected {dataset!r}",
                "choose another folder, or remove this one",
            )
        known = dict(map(_entry, filter(_is_entry, rows[1:]))) if found == head else {}
        journal = cls(path, head, known)
        if found != head or not text.endswith("\n"):  # another decoder, or a line cut by a kill
            journal.close(known)
        return journal

    def read(
        self, raw: Path, places: Sequence[str], progress: Progress, workers: int
    ) -> dict[str, Header]:
        """Return the header of each place; those that are known and unchanged are not read."""
        places = list(dict.fromkeys(places))
        looked = {
            place: header
            for place in places
            if (header := self._known.get(place)) and _is_unchanged(raw / place, header)
        }
        missing = [place for place in places if place not in looked]
        task, done = f"look at {len(places)} recordings", len(looked)
        progress(ProgressEvent(task, done, len(places)))
        if missing:
            with open(self._path, "a", 1, encoding="utf-8", newline="\n") as journal:
                for place, header in _headers(raw, missing, workers):
                    journal.write(_line(_row(place, header)))
                    looked[place] = header
                    done += 1
                    progress(ProgressEvent(task, done, len(places), place))
        return looked

    def close(self, looked: Mapping[str, Header]) -> None:
        """Write the journal sorted, with these entries only; an equal one is left alone."""
        text = _line(self._head) + "".join(_line(_row(p, looked[p])) for p in sorted(looked))
        if not self._path.is_file() or self._path.read_bytes() != text.encode("utf-8"):
            write_text(self._path, text)


def _headers(raw: Path, places: Sequence[str], workers: int) -> Iterator[tuple[str, Header]]:
    if workers <= 1 or len(places) < 2:
        for place in places:
            yield place, _look(raw / place)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="headers")
    try:
        futures = {pool.submit(_look, raw / place): place for place in places}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _look(path: Path) -> Header:
    try:
        status = path.stat()
    except OSError as error:
        return Header(-1, -1, None, f"can't be read ({error.strerror})")
    try:
        return Header(status.st_size, status.st_mtime_ns, round(read_duration(path), 6))
    except RecordingError as error:
        return Header(status.st_size, status.st_mtime_ns, None, error.problem)


def _is_unchanged(path: Path, header: Header) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (header.size, header.mtime_ns)


def _row(place: str, header: Header) -> dict[str, Any]:
    row: dict[str, Any] = {"path": place, "size": header.size, "mtime_ns": header.mtime_ns}
    if header.problem:
        return {**row, "problem": header.problem}
    return {**row, "duration_s": header.duration_s}


def _is_entry(row: dict[str, Any] | None) -> bool:
    return bool(
        row
        and isinstance(row.get("path"), str)
        and isinstance(row.get("size"), int)
        and isinstance(row.get("mtime_ns"), int)
        and (isinstance(row.get("problem"), str) or isinstance(row.get("duration_s"), float))
    )


def _entry(row: dict[str, Any] | None) -> tuple[str, Header]:
    assert row is not None
    header = Header(row["size"], row["mtime_ns"], row.get("duration_s"), row.get("problem", ""))
    return row["path"], header


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
