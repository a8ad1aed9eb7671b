"""The command `demo`: the whole road on synthetic recordings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from mergekit_audio.cli.options import DryRun, Force, Json, NoProgress, Quiet
from mergekit_audio.cli.output import Output, outline, shown
from mergekit_audio.cli.progress import reporting

DEFAULT_FOLDER = Path("cmerge_demo")


def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where everything goes.")
    ] = DEFAULT_FOLDER,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small version for CI; its scores mean nothing.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Models trained side by side (default: one a core).", show_default=False
        ),
    ] = None,
    dry_run: DryRun = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Run all of it on synthetic recordings: base, four cultures, merges, λ sweep, report.html.

    No download, no GPU. Stopped, the same command goes on where it was.

    Example: cmerge demo --quick
    """
    from mergekit_audio import demo as engine

    output = Output(as_json, quiet)
    if dry_run:
        value = _steps(engine, folder, quick=quick)
        output.data(outline(value), value)
        output.talk(f"dry run: nothing was written; next: cmerge demo {shown(folder)}")
        return
    with reporting(enabled=not (quiet or no_progress)) as progress:
        result = engine.run_demo(
            folder, quick=quick, force=force, workers=workers, progress=progress
        )
    value = {
        "command": "demo",
        "folder": str(result.folder),
        "report": str(result.report),
        "wall_time_s": round(result.wall_time_s, 3),
        "summary": result.summary,
    }
    output.data(f"{_table(result.summary)}\n\nreport: {shown(result.report)}", value)
    output.closing("demo done", result.folder, result.wall_time_s, f"open {shown(result.report)}")


def _steps(engine: Any, folder: Path, *, quick: bool) -> dict[str, Any]:
    size = engine.QUICK if quick else engine.FULL
    return {
        "folder": str(folder),
        "folder_exists": os.path.lexists(folder),
        "synthetic_recordings": {
            "traditions": ["western", *engine.CULTURES],
            "tracks_each": size.tracks,
            "duration_s": size.duration_s,
        },
        "recipes": [f"demo/{name}" for name in engine.RECIPES],
        "changes": {name: list(texts) for name, texts in size.overrides.items()},
    }


def _table(summary: dict[str, Any]) -> str:
    from mergekit_audio.report.tables import main_table

    return main_table(summary).markdown()
