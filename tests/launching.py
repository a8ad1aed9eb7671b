"""Start trainings of two processes with torchrun, as a user would, and kill them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

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


def kill_at(root: Path, stage: str, step: int, *words: str) -> None:
    """Run ``child.py``; kill torchrun and both processes at or after a step of a stage.

    The child tells its steps as ``stage NAME STEP``, leaves its process ids in ``pid-<rank>`` and
    trains into ``killed``.
    """
    with torchrun(str(root / "child.py"), str(root), *words) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        told = (line.rsplit(" ", 1) for line in process.stdout)
        reached = any(name == f"stage {stage}" and int(done) >= step for name, done in told)
        assert reached, process.stderr.read()
        for pid in (process.pid, *(int((root / f"pid-{rank}").read_text()) for rank in (0, 1))):
            os.kill(pid, signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    await_death(root / "killed")


def await_death(output: Path) -> None:
    """Wait until no process holds an output's work folder."""
    for _ in range(200):
        try:
            with open_work(output):
                return
        except InputError:
            time.sleep(0.05)
    raise AssertionError("the killed process still holds its work folder")


def log_lines(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of an output's log."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
