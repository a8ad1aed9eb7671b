"""Start trainings of two processes, with torchrun as a user would or as forks, and kill them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forking import Forked

from mergekit_audio.errors import InputError
from mergekit_audio.pretrain.work import open_work


def torchrun(*words: str) -> subprocess.Popen[str]:
    """Start two processes of a script or module that can import the tests' helpers."""
    paths = [os.path.dirname(__file__), os.getcwd(), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    launch = ["--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2"]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *launch, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    )


def ranks(work: Callable[..., None], *arguments: object) -> tuple[Forked, Forked]:
    """Start ``work`` in two forks that know each other as processes of torchrun do."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    first, second = (Forked(_ranked, rank, port, work, arguments) for rank in (0, 1))
    return first, second


def _ranked(
    tell: Callable[[str], None],
    rank: int,
    port: int,
    work: Callable[..., None],
    arguments: tuple[object, ...],
) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    work(tell, *arguments)


def told_by_ranks(work: Callable[..., None], *arguments: object) -> str:
    """Run ``work`` in two processes to its end and return the lines of the first."""
    both = ranks(work, *arguments)
    told = "".join(f"{line}\n" for line in iter(both[0].line, ""))
    assert [process.wait() for process in both] == [0, 0], told
    return told


def kill_at(root: Path, stage: str, step: int, work: Callable[..., None], *words: object) -> None:
    """Run ``work(tell, root, *words)`` as two processes; kill both at or after a step of a stage.

    The first tells its steps as ``stage NAME STEP``; they train into ``killed``.
    """
    both = ranks(work, root, *words)

    def reached(line: str) -> bool:
        name, _, done = line.rpartition(" ")
        return name == f"stage {stage}" and int(done) >= step

    assert both[0].wait_for(reached)
    for process in both:
        process.kill()
    await_death(root / "killed")


def await_death(output: Path) -> None:
    """Wait until no process holds an output's work folder."""
    for _ in range(1200):
        try:
            with open_work(output):
                return
        except InputError:
            time.sleep(0.05)
    raise AssertionError("the killed process still holds its work folder")


def log_lines(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of an output's log."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
