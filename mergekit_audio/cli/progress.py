"""Show an engine's progress: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mergekit_audio.cli.curve import Curve
from mergekit_audio.cli.output import duration, is_main_process
from mergekit_audio.progress import Progress, ProgressEvent, silent

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

SECONDS_BETWEEN_LINES = 10.0
SECONDS_WORTH_A_LINE = 1.0


@contextlib.contextmanager
def reporting(*, enabled: bool, remarks: bool = False) -> Iterator[Progress]:
    """Yield the callback for engines: bars or lines; if not ``enabled`` ``remarks`` or nothing."""
    if not is_main_process() or not (enabled or remarks):
        yield silent
        return
    if not enabled:
        yield _say_remark
        return
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield Lines()
        return
    from rich.console import Console

    with Bars(Console(stderr=True)) as bars:
        yield bars


class Lines:
    """Plain lines on stderr: when a task starts, then every ten seconds, and when it ends.

    An event that is over at once and has a note is a remark: it gets a line of its own.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.started: dict[str, float] = {}
        self.last_time: dict[str, float] = {}
        self.finished: set[str] = set()

    def __call__(self, event: ProgressEvent) -> None:
        """Write a line if it is time for one."""
        now = time.monotonic()
        with self.lock:
            ends = _ends(event)
            if event.task in self.finished and not ends:
                self.finished.discard(event.task)
                del self.started[event.task]
            first = event.task not in self.started
            begun = self.started.setdefault(event.task, now)
            over = event.task in self.finished
            news = ends and not over and now - begun >= SECONDS_WORTH_A_LINE
            due = not ends and now - self.last_time.get(event.task, begun) >= SECONDS_BETWEEN_LINES
            remark = ends and over and bool(event.note)
            if ends:
                self.finished.add(event.task)
            if first or news or due or remark:
                self._write(event, 0.0 if first or remark else now - begun, now)

    def _write(self, event: ProgressEvent, seconds: float, now: float) -> None:
        self.last_time[event.task] = now
        sys.stderr.write(_line(event, seconds) + "\n")
        sys.stderr.flush()


class Bars:
    """One rich bar for each running task; a finished one leaves a line if it took a second.

    Below the bars stands the curve of a search for λ, if there is one; its last form stays.
    """

    def __init__(self, console: Console) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.table import Column
        from rich.text import Text

        curve = Curve()

        class View(Progress):
            """The bars, and the curve below."""

            def get_renderables(self) -> Iterator[RenderableType]:
                yield from super().get_renderables()
                if text := curve.text(console.encoding):
                    yield Text(text[: max(1, console.width - 1)])

        self.curve = curve
        note_column = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        self.lock = threading.Lock()
        self.rows: dict[str, tuple[Any, float]] = {}
        self.view = View(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False, style="dim", table_column=note_column),
            console=console,
            transient=True,
            expand=True,
        )

    def __enter__(self) -> Bars:
        """Start drawing."""
        self.view.start()
        return self

    def __exit__(self, *reason: object) -> None:
        """Stop drawing and give the cursor back."""
        self.view.stop()
        if text := self.curve.text(self.view.console.encoding):
            self._print(text)

    def __call__(self, event: ProgressEvent) -> None:
        """Draw the event."""
        with self.lock:
            if event.point is not None:
                self.curve.add(event.point)
                return
            if event.task not in self.rows:
                if _ends(event):
                    self._remark(event)
                    return
                row = self.view.add_task(event.task, total=event.total, note="")
                self.rows[event.task] = (row, time.monotonic())
            row, begun = self.rows[event.task]
            self.view.update(row, completed=event.done, total=event.total, note=event.note)
            if _ends(event):
                self.view.remove_task(row)
                del self.rows[event.task]
                seconds = time.monotonic() - begun
                if seconds >= SECONDS_WORTH_A_LINE:
                    self._print(_line(event, seconds))

    def _remark(self, event: ProgressEvent) -> None:
        """Keep a line for an event that is over at once but says something."""
        if event.note:
            self._print(_line(event, 0.0))

    def _print(self, text: str) -> None:
        self.view.console.print(text, markup=False, highlight=False)


def _say_remark(event: ProgressEvent) -> None:
    """Write a remark and nothing else."""
    if event.is_remark:
        sys.stderr.write(_line(event, 0.0) + "\n")
        sys.stderr.flush()


def _ends(event: ProgressEvent) -> bool:
    return event.total is not None and event.done >= event.total


def _line(event: ProgressEvent, seconds: float) -> str:
    parts = [event.task]
    if event.total is None:
        parts += [str(event.done)] if event.done else []
    elif event.total > 1:
        parts.append(f"{event.done}/{event.total}")
    parts += [duration(seconds)] if seconds >= SECONDS_WORTH_A_LINE else []
    parts += [event.note] if event.note else []
    return ": ".join([parts[0], ", ".join(parts[1:])] if parts[1:] else parts)
