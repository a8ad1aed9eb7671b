"""The options that commands share, each spelled and explained once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from mergekit_audio.cli.output import Output

RecipeFile = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="A recipe (YAML).", show_default=False)
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a value of the recipe, e.g. scale=0.3. Repeatable; kept in the lock.",
        show_default=False,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that exists.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only results and errors.")]
NoProgress = Annotated[bool, typer.Option("--no-progress", help="No bars, no progress lines.")]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Threads that embed and probe (default: torch's number); no effect on results.",
        show_default=False,
    ),
]
ExecutorName = Annotated[
    str,
    typer.Option(
        "--executor",
        metavar="serial|process|ray",
        help="Threads of this process, processes of one thread each, or tasks of a Ray cluster.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT|auto",
        help="A Ray cluster that runs; without it --executor ray starts a private one.",
        show_default=False,
    ),
]
SideBySide = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Threads, processes or tasks side by side (default: torch's number of threads, a "
        "process a core, all of the cluster).",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class RunOptions:
    """The shared options of one run of a recipe."""

    overrides: list[str] = field(default_factory=list)
    dry_run: bool = False
    force: bool = False
    as_json: bool = False
    quiet: bool = False
    no_progress: bool = False

    @property
    def output(self) -> Output:
        """Where the command speaks."""
        return Output(as_json=self.as_json, quiet=self.quiet)

    @property
    def shows_progress(self) -> bool:
        """Whether bars or lines are shown."""
        return not (self.quiet or self.no_progress)
