"""The results file: one line for each finished point, so that a killed run goes on where it was."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mergekit_audio.errors import InputError
from mergekit_audio.files import canonical_json, explain_os_errors

KEY_FIELDS = ("model_key", "task_digest", "seed")


class Ledger:
    """Finished points by content: the model's key, the task's digest and the seed.

    A last line that was cut while it was written is dropped, and its point computed again.

    Parameters
    ----------
    path
        The JSONL file; it and its folder are made when they are missing.
    fields
        What names a point's content.
    """

    def __init__(self, path: Path, fields: tuple[str, ...] = KEY_FIELDS) -> None:
        self.path = path
        self.fields = fields
        self._by_name: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._by_content: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._start()

    def find(
        self, name: str, key: tuple[Any, ...], task: str | None = None
    ) -> dict[str, Any] | None:
        """Return the finished point of this row and task, or ``None``.

        Two tasks of the same content have the same key: ``task`` tells them apart.
        """
        return self._by_name.get((name, task, *key))

    def find_content(self, key: tuple[Any, ...]) -> dict[str, Any] | None:
        """Return a finished point with the same weights, task and seed under any row's name."""
        return self._by_content.get(key)

    def lines(self) -> list[dict[str, Any]]:
        """Return all finished points, in the order in which they came."""
        return list(self._by_name.values())

    def append(self, line: dict[str, Any]) -> None:
        """Add a finished point; it is on the disk when this returns."""
        with explain_os_errors(self.path), open(self.path, "ab") as stream:
            stream.write((canonical_json(line) + "\n").encode("utf-8"))
            stream.flush()
            os.fsync(stream.fileno())
        self._remember(line)

    def learn(self, line: dict[str, Any]) -> None:
        """Take a finished point for granted without writing it."""
        self._remember(line)

    def _start(self) -> None:
        """Read what an earlier run left."""
        with explain_os_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                self._read()

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, text in enumerate(whole.splitlines(), start=1):
            try:
                self._remember(json.loads(text))
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{self.path}:{number}: not a line of results ({error})",
                    f"delete {self.path.parent} and run the command again",
                ) from error
        if len(whole) < len(content):
            os.truncate(self.path, len(whole))

    def _remember(self, line: dict[str, Any]) -> None:
        key = tuple(line[field] for field in self.fields)
        self._by_name[(line["model"], line.get("task"), *key)] = line
        self._by_content.setdefault(key, line)
