"""`cmerge recipe convert`: write a mergekit recipe in our form."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from mergekit_audio.cli.options import DryRun, Force, Json, Quiet, Set
from mergekit_audio.cli.output import Output, shown
from mergekit_audio.errors import InputError


def convert(
    theirs: Annotated[
        Path,
        typer.Argument(metavar="THEIRS", help="A recipe of mergekit (YAML).", show_default=False),
    ],
    ours: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OURS",
            help="The recipe to write; its paths start from its folder. Without it: stdout.",
            show_default=False,
        ),
    ] = None,
    overrides: Set = None,
    dry_run: DryRun = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a recipe of mergekit in our form; reads the names of the base's tensors.

    Example: cmerge recipe convert theirs.yaml -o ours.yaml
    """
    from mergekit_audio.files import write_text
    from mergekit_audio.recipe.load import convert_file
    from mergekit_audio.recipe.mergekit_yaml import as_yaml

    started = time.monotonic()
    output = Output(as_json, quiet)
    if ours is not None and ours.exists() and not force:
        raise InputError(
            f"{ours}: the file already exists", "add --force to replace it, or give another name"
        )
    root = (theirs if ours is None else ours).resolve().parent
    conversion = convert_file(theirs, root, overrides or [])
    text = as_yaml(conversion, theirs.name)
    writes = ours is not None and not dry_run
    value = {
        "recipe": conversion.recipe.model_dump(mode="json"),
        "notes": list(conversion.notes),
        "written": writes,
    }
    output.data("" if writes else text.rstrip("\n"), value)
    for note in conversion.notes:
        output.talk(f"note: {note}")
    if ours is None or dry_run:
        return
    write_text(ours, text)
    seconds = time.monotonic() - started
    output.closing(f"converted {theirs.name}", ours, seconds, f"cmerge merge {shown(ours)}")
