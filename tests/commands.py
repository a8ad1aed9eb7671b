"""Run the command line in this process or in one of its own, without colours or a wide terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PLAIN = {"_TYPER_FORCE_DISABLE_TERMINAL": "1", "TTY_COMPATIBLE": "0", "COLUMNS": "100"}
"""Set before Typer is imported: it keeps colours under GitHub Actions otherwise."""

SLOW_MERGE = """\
import sys, time
import mergekit_audio.merge.writing as writing
from mergekit_audio.cli.main import main
fast = writing.merged_parts
def slow(*arguments):
    for item in fast(*arguments):
        time.sleep(0.02)
        yield item
writing.merged_parts = slow
main()
"""
"""Code that runs `cmerge` with merges of a few seconds."""

STUCK_MERGE = SLOW_MERGE.replace(
    "time.sleep(0.02)\n        yield item", "yield item\n        time.sleep(600)"
)
"""Code that runs `cmerge` with merges that stop at a tensor and wait for a signal."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


def environment(**variables: str) -> dict[str, str]:
    """Return the variables of a process that finds this package and writes plain text."""
    inherited = {key: value for key, value in os.environ.items() if key != "CMERGE_DEBUG"}
    return {**inherited, **PLAIN, "PYTHONPATH": str(REPOSITORY), **variables}


def start(folder: Path, *words: object, code: str = "", **variables: str) -> subprocess.Popen[str]:
    """Start `cmerge` (or ``code`` that runs it) in a process of its own, in a folder."""
    program = ["-c", code] if code else ["-m", "mergekit_audio"]
    return subprocess.Popen(
        [sys.executable, *program, *map(str, words)],
        cwd=folder,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, *words: object, code: str = "", **variables: str) -> Done:
    """Run `cmerge` in a process of its own until it ends."""
    process = start(folder, *words, code=code, **variables)
    out, err = process.communicate(timeout=500)
    return Done(process.returncode, out, err)
