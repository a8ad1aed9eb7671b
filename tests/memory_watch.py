"""Run Python code in a process of its own and watch the memory that it needs."""

import os
import resource
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_PERIOD_S = 0.002


@dataclass(frozen=True)
class Usage:
    """Seconds (wall, CPU), and the largest anonymous and resident memory in MB (10⁶ bytes)."""

    seconds: float
    cpu_seconds: float
    anonymous_mb: float
    resident_mb: float
    output: str


def watch(code, *arguments, **environment):
    """Run ``python -c code arguments`` and return what it took; fail with its stderr."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            **environment,
        },
    )
    started, cpu_before = time.monotonic(), _children_cpu_seconds()
    peaks = {"RssAnon": 0, "VmHWM": 0}
    watcher = threading.Thread(target=_poll, args=(process, peaks), daemon=True)
    watcher.start()
    output, errors = process.communicate()
    watcher.join()
    assert process.returncode == 0, errors
    seconds = time.monotonic() - started
    cpu_seconds = _children_cpu_seconds() - cpu_before
    return Usage(seconds, cpu_seconds, peaks["RssAnon"] / 1e6, peaks["VmHWM"] / 1e6, output)


def _children_cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _poll(process, peaks):
    path = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError:
            return
        for line in lines:
            key, _, value = line.partition(":")
            if key in peaks:
                peaks[key] = max(peaks[key], int(value.split()[0]) * 1024)
        time.sleep(_PERIOD_S)
