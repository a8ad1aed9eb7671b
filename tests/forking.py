"""Processes to be killed that start as forks of one that has imported the package.

A process of its own costs seconds of imports; a fork of the fork server costs none, and a SIGKILL
ends it as it ends any process. The server is started afresh, so it shares no thread and no lock
with the tests.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "pytest",
        "torch",
        "mergekit_audio.merge",
        "mergekit_audio.merge.writing",
        "mergekit_audio.pretrain",
        "mergekit_audio.pretrain.running",
        "mergekit_audio.pretrain.stage",
        "mergekit_audio.backbones.mert",
        "accelerate",
        "mergekit_audio.probe.features",
        "mergekit_audio.lock",
        "transformers.models.hubert.modeling_hubert",
    ]
)


class Forked:
    """A function that runs in a process of its own and may send lines to this one.

    Parameters
    ----------
    work
        A function of a module; it is called with ``tell``, which sends a line here, and then
        with ``arguments``.
    arguments
        What it is called with; pickled.
    """

    def __init__(self, work: Callable[..., None], *arguments: object) -> None:
        self._lines, told = _CONTEXT.Pipe(duplex=False)
        self._process: ForkServerProcess = _CONTEXT.Process(
            target=_call, args=(told, work, arguments), daemon=True
        )
        self._process.start()
        told.close()  # the process holds the other copy: when it ends, the lines end

    def line(self) -> str:
        """Return the next line, waiting for it; "" when the process has ended."""
        try:
            return str(self._lines.recv())
        except (EOFError, OSError):  # OSError: it was killed in the middle of a line
            return ""

    def wait_for(self, wanted: Callable[[str], bool]) -> bool:
        """Read lines until one is wanted; false when the process ended before."""
        while line := self.line():
            if wanted(line):
                return True
        return False

    def kill(self) -> None:
        """Send SIGKILL, if it still runs, and wait for its end."""
        pid = self._process.pid
        assert pid is not None
        if self._process.exitcode is None:
            os.kill(pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """Wait for its end and return the exit code, or minus the signal that ended it."""
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def alive(self) -> bool:
        """Say whether it still runs."""
        return self._process.is_alive()


def _call(told: Connection, work: Callable[..., None], arguments: tuple[object, ...]) -> None:
    gc.freeze()  # trainings call the garbage collector, which would look through all imports
    work(told.send, *arguments)
