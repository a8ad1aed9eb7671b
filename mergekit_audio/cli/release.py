"""Commands of the panel Release: verify."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from mergekit_audio.cli.options import Json, NoProgress, Quiet
from mergekit_audio.cli.output import Output, shown
from mergekit_audio.cli.progress import reporting


def verify(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A folder that cmerge wrote, with its lock.", show_default=False
        ),
    ],
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Also run the locked recipe again and compare all bytes."),
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Check an output folder, its recipe and its inputs against its lock; exit code 5 if not.

    Example: cmerge verify runs/culturemert_ta --rebuild
    """
    from mergekit_audio import lock as locks

    started = time.monotonic()
    output = Output(as_json, quiet)
    with reporting(enabled=not (quiet or no_progress)) as progress:
        differences = locks.verify(folder, progress=progress)
        if rebuild and not differences:
            from mergekit_audio.rebuild import rebuild as build_again

            differences = build_again(folder, progress=progress)
    lock = locks.read_lock(folder)
    value = {
        "folder": str(folder),
        "verified": not differences,
        "rebuilt": rebuild,
        "kind": lock.kind,
        "recipe_digest": lock.recipe_digest,
        "differences": [
            {
                "what": each.what,
                "name": each.name,
                "expected": each.expected,
                "found": each.found,
            }
            for each in differences
        ],
    }
    if differences:
        output.data("", value)
        locks.raise_differences(folder, differences)
    files = f"{len(lock.outputs)} output files, {len(lock.inputs)} inputs"
    how = "as locked, and the same bytes when built again" if rebuild else "as locked"
    output.data(f"{shown(folder)}: {files}: {how}", value)
    again = f"cmerge verify {shown(folder)} --rebuild builds it again and compares the bytes"
    then = "nothing: it is reproducible here" if rebuild else again
    output.closing("verified", folder, time.monotonic() - started, then)
