"""Run Python code in a process of its own and watch the memory that it needs."""

import os
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).parents[1]
_PERIOD_S = 0.002


def anonymous_mb(code, *arguments):
    """Run ``python -c code arguments``; return its largest anonymous memory in MB (10⁶ bytes)."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
    )
    peaks, ended = [0], threading.Event()
    watcher = threading.Thread(target=_poll, args=(process.pid, peaks, ended), daemon=True)
    watcher.start()
    _, errors = process.communicate()
    ended.set()
    watcher.join()
    assert process.returncode == 0, errors
    return peaks[0] / 1e6


def _poll(pid, peaks, ended):
    path = Path(f"/proc/{pid}/status")
    while not ended.wait(_PERIOD_S):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError:
            return
        found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")]
        peaks[0] = max(peaks[0], *found, 0)
