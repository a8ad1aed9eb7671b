"""Compute pieces of a sweep in processes of this machine, of one thread each."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from typing import Any

from mergekit_audio.cores import core_count
from mergekit_audio.errors import DependencyError
from mergekit_audio.sweep.executors.base import (
    MOST_DEATHS,
    Arrivals,
    Kept,
    Opening,
    Outcome,
    Piece,
    QueueExecutor,
)

SECONDS_BETWEEN_NOTES = 0.5
SECONDS_TO_END = 5.0
DEVICES_NAME = "CUDA_VISIBLE_DEVICES"


@dataclass
class ProcessExecutor(QueueExecutor):
    """Spawned processes that get a piece each and send back every line as it is finished.

    A process starts when there is work for it and stays for later pieces; with GPUs each has one of
    them. One that dies is replaced, and its piece is begun again behind its last finished line. All
    of them end when the driver does, however it ends. A piece that comes alone is left to the
    driver, whose threads are as many.
    """

    _deaths: dict[Piece, int] = field(default_factory=dict, init=False, repr=False)
    _processes: list[_Process] = field(default_factory=list, init=False, repr=False)
    _packed: bytes = field(default=b"", init=False, repr=False)

    def open(self, opening: Opening, arrivals: Arrivals) -> None:
        """Pack what every process is told first."""
        super().open(opening, arrivals)
        self._packed = pickle.dumps(opening)

    def __exit__(self, kind: type[BaseException] | None, *reason: object) -> None:
        """End the processes: those at work are killed, others leave by themselves."""
        processes, self._processes = self._processes, []
        for each in processes:
            each.end(at_once=kind is not None or each.piece is not None)
        for each in processes:
            each.join()

    def as_dict(self) -> dict[str, Any]:
        """Return the executor's name and its processes."""
        return {"executor": "process", "workers": self.side_by_side()}

    def side_by_side(self) -> int:
        """Return how many processes there are at most: by default one a GPU, or one a core."""
        return self.workers or len(_gpus()) or core_count()

    def is_worth_it(self, new: Sequence[Piece]) -> bool:
        """One piece alone is left to the driver's threads."""
        return len(new) > 1 or bool(new and self.in_hand())

    def in_hand(self) -> list[Piece]:
        """Return the pieces that processes have."""
        return [each.piece for each in self._processes if each.piece is not None]

    def hand_out(self) -> None:
        """Start processes where pieces wait for them, and give each a piece that has none."""
        assert self.arrivals is not None
        wanted = len(self.in_hand()) + len(self.waiting)
        while len(self._processes) < min(self.side_by_side(), wanted):
            numbers = {each.number for each in self._processes}
            free = next(each for each in range(len(numbers) + 1) if each not in numbers)
            self._processes.append(_Process.start(free))
        for each in self._processes:
            if each.piece is None and self.waiting:
                piece = self.waiting.popleft()
                each.give(piece, self.arrivals.known(piece), self._packed)

    def receive(self, seconds: float | None) -> None:
        """Take all that processes have sent, and keep those busy that are free."""
        by_connection = {each.connection: each for each in self._processes}
        for connection in wait_for(list(by_connection), seconds):
            assert isinstance(connection, Connection)
            process = by_connection[connection]
            for message in process.messages():
                self._take(process, message)
            if process.is_dead:
                self._bury(process)
        self.hand_out()

    def _take(self, process: _Process, message: Kept | str | Outcome) -> None:
        assert self.arrivals is not None
        if isinstance(message, Kept):
            self.arrivals.keep(message)
        elif isinstance(message, str):
            self.arrivals.told(message)
        else:
            piece, process.piece = process.piece, None
            assert piece is not None
            self.finish(piece, message)

    def _bury(self, process: _Process) -> None:
        """Begin a dead process's piece again, unless too many died at it."""
        self._processes.remove(process)
        process.join()
        piece = process.piece
        if piece is None:
            return
        deaths = self._deaths[piece] = self._deaths.get(piece, 0) + 1
        if deaths >= MOST_DEATHS:
            raise DependencyError(
                f"{piece.name}: {deaths} processes ended that computed it, the last one "
                f"{process.how_it_ended()}",
                "memory may be short: use fewer --workers, or --executor serial; a script that "
                'sweeps in processes needs `if __name__ == "__main__":`',
            )
        self.waiting.appendleft(piece)


@dataclass
class _Process:
    """A process, its end of the pipe, and the piece that it has in hand."""

    number: int
    process: Any
    connection: Connection
    piece: Piece | None = None
    is_open: bool = False
    is_dead: bool = False

    @classmethod
    def start(cls, number: int) -> _Process:
        """Start a process; Ctrl-C on a terminal reaches the driver alone."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=work, args=(theirs, _device(number)), name=f"sweep-{number}", daemon=True
        )
        with _without_interrupts():
            process.start()
        theirs.close()
        return cls(number, process, ours)

    def give(self, piece: Piece, known: Sequence[Kept], packed: bytes) -> None:
        """Hand it a piece; before the first one what it needs once."""
        self.piece = piece
        with contextlib.suppress(OSError):  # it has died: its end is received like a message
            if not self.is_open:
                self.connection.send_bytes(packed)
            self.is_open = True
            self.connection.send((piece, known))

    def messages(self) -> Iterator[Any]:
        """Yield what it has sent; at its end it is dead, and a torn message is dropped."""
        while True:
            try:
                if not self.connection.poll():
                    return
                message = self.connection.recv()
            except (EOFError, OSError):
                self.is_dead = True
                return
            yield message

    def end(self, *, at_once: bool) -> None:
        """Let it leave, or kill it."""
        if at_once:
            self.process.terminate()
        self.connection.close()

    def join(self) -> None:
        """Wait for its end; one that does not leave is killed."""
        self.process.join(SECONDS_TO_END)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()

    def how_it_ended(self) -> str:
        """Return the signal or the exit code."""
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"by {signal.Signals(-code).name}"
        return f"with exit code {code}"


def work(connection: Connection, device: str | None) -> None:
    """Compute pieces until the driver closes the pipe; a process's main function."""
    if device is not None:
        os.environ[DEVICES_NAME] = device
    threading.Thread(target=_end_with_the_driver, daemon=True).start()
    import torch

    from mergekit_audio.sweep.executors.worker import Bench, sendable

    torch.set_num_threads(1)
    notes = _Seldom()

    def send(message: Kept | str | Outcome) -> None:
        if not isinstance(message, str) or notes.is_due():
            connection.send(message)

    bench: Bench | None = None
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        opening = pickle.loads(connection.recv_bytes())
        while True:
            piece, known = connection.recv()
            try:
                bench = bench or Bench(opening)
            except Exception as error:
                send(Outcome(error=sendable(error)))
                continue
            send(bench.compute(piece, known, send))


class _Seldom:
    """Says when the next note may be sent."""

    def __init__(self) -> None:
        self._last = 0.0

    def is_due(self) -> bool:
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN_NOTES:
            return False
        self._last = now
        return True


def _end_with_the_driver() -> None:
    """End this process when the one is gone that started it; features go on behind a kill."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Let processes that are started meanwhile never get Ctrl-C; this one gets it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _device(number: int) -> str | None:
    gpus = _gpus()
    return gpus[number % len(gpus)] if gpus else None


def _gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA names them."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [each for each in os.environ.get(DEVICES_NAME, "").split(",") if each]
    return named[:count] if named else [str(number) for number in range(count)]
