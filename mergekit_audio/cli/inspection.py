"""The command `inspect`: what checkpoints hold, and how far they are from a base."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mergekit_audio.cli.geometry import geometry_text
from mergekit_audio.cli.options import Force, Json, NoProgress, Quiet
from mergekit_audio.cli.output import Output, duration, outline, shown
from mergekit_audio.cli.progress import reporting
from mergekit_audio.errors import InputError, UsageError
from mergekit_audio.progress import Progress, ProgressEvent

if TYPE_CHECKING:
    from mergekit_audio.weights.checkpoint import Checkpoint


def inspect(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Checkpoint folders or org/name@revision; of two without --base the first is it.",
            show_default=False,
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Compare with this checkpoint: norms, cosines, sign conflicts, ranks, a λ range.",
            show_default=False,
        ),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw the comparison: .png, .svg or .pdf.",
            show_default=False,
        ),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]GLOB",
            help='Compare these tensors as a group too: "low=encoder.layers.{0-5}.*"; may repeat.',
            show_default=False,
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the comparison by part and layer, for each model and pair: .csv.",
            show_default=False,
        ),
    ] = None,
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor too.")] = False,
    no_rank: Annotated[
        bool, typer.Option("--no-rank", help="Skip the effective ranks, which take longest.")
    ] = False,
    allow_nonfinite: Annotated[
        bool, typer.Option("--allow-nonfinite", help="Count NaN and infinities, do not refuse.")
    ] = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Show what a checkpoint holds, or what training changed beside a base, and a range of λ.

    Example: cmerge inspect runs/makam runs/lyra --base m-a-p/MERT-v1-95M --figure geometry.png
    """
    started = time.monotonic()
    if base is None and len(models) == 2:
        base, *models = models
    groups = _groups(group or [])
    _check(models, base, figure, csv, no_rank, force, bool(groups))
    output = Output(as_json, quiet)
    with reporting(enabled=not (quiet or no_progress)) as progress:
        if base is None:
            value = _contents(models[0], allow_nonfinite, progress)
        else:
            value = _geometry(models, base, allow_nonfinite, not no_rank, groups, progress)
        if figure is not None:
            from mergekit_audio.report.geometry_figure import write_geometry_figure

            write_geometry_figure(value, figure)
        if csv is not None:
            from mergekit_audio.report.geometry_csv import write_geometry_csv

            write_geometry_csv(value, csv, tensors=tensors)
    seconds = time.monotonic() - started
    if base is None:
        value = value if tensors else _without_tensors(value)
        output.data(outline(value), value)
        return
    text = geometry_text(value, tensors=tensors)
    value = _json_form(value if tensors else _without_tensors(value))
    output.data(text, {**value, "wall_time_s": round(seconds, 3)})
    compared = f"compared {len(models)} model{'s' if len(models) > 1 else ''} with {base}"
    written = [path for path in (figure, csv) if path is not None]
    if written:
        then = f"look at {' and '.join(shown(path) for path in written)}"
        output.closing(compared, written[0], seconds, then)
    else:
        output.talk(f"{compared} in {duration(seconds)}; next: cmerge merge, or --figure FILE.png")


def _check(
    models: list[str],
    base: str | None,
    figure: Path | None,
    csv: Path | None,
    no_rank: bool,
    force: bool,
    has_groups: bool,
) -> None:
    """Raise before any work is done when the options do not fit each other or the disk."""
    if base is None and len(models) > 1:
        raise UsageError(
            f"{len(models)} models without a base", "add --base MODEL, or inspect them one by one"
        )
    asked = {"--figure": figure is not None, "--csv": csv is not None, "--no-rank": no_rank}
    asked["--group"] = has_groups
    if base is None and any(asked.values()):
        option = next(name for name, is_given in asked.items() if is_given)
        raise UsageError(f"{option} without a base", "add --base MODEL: it is about task vectors")
    if figure is not None:
        from mergekit_audio.report.geometry_figure import figure_format

        figure_format(figure)
    if csv is not None and csv.suffix.lower() != ".csv":
        raise UsageError(f"{csv}: a table ends in .csv", f"write {csv.with_suffix('.csv')}")
    for path in (figure, csv):
        if path is not None and (path.is_dir() or (path.exists() and not force)):
            raise InputError(
                f"{path}: the {'folder' if path.is_dir() else 'file'} already exists",
                "give another name" if path.is_dir() else "add --force to replace it",
            )


def _groups(texts: list[str]) -> dict[str, str]:
    """Return globs by name; a glob without one is its own name."""
    from mergekit_audio.weights.globs import validate_glob

    found: dict[str, str] = {}
    for text in texts:
        name, equals, pattern = text.partition("=")
        pattern = pattern if equals else name
        validate_glob(pattern)
        if not name or name in found:
            problem = f"{name!r} is there already" if name else "a name is missing before ="
            raise UsageError(f"--group {text}: {problem}", "give each group a name of its own")
        found[name] = pattern
    return found


def _contents(model: str, allow_nonfinite: bool, progress: Progress) -> dict[str, Any]:
    from mergekit_audio.weights.inspect import inspect_checkpoint

    progress(ProgressEvent("read tensors", 0, 1, model))
    value = inspect_checkpoint(_opened(model, allow_nonfinite))
    progress(ProgressEvent("read tensors", 1, 1))
    return value


def _geometry(
    models: list[str],
    base: str,
    allow_nonfinite: bool,
    ranks: bool,
    groups: dict[str, str],
    progress: Progress,
) -> dict[str, Any]:
    from mergekit_audio.weights.inspect import inspect_geometry

    named: dict[str, Checkpoint] = {}
    for model in models:
        again = 1
        while (name := model if again == 1 else f"{model} ({again})") in named:
            again += 1
        named[name] = _opened(model, allow_nonfinite)
    start = _opened(base, allow_nonfinite)
    return inspect_geometry(start, named, ranks=ranks, groups=groups, progress=progress)


def _opened(source: str, allow_nonfinite: bool) -> Checkpoint:
    from mergekit_audio.weights.checkpoint import Checkpoint

    return Checkpoint.open(source, root=Path(), allow_nonfinite=allow_nonfinite)


def _json_form(value: dict[str, Any]) -> dict[str, Any]:
    """Return one model's facts at the top; several stay ``pairs`` and ``relations``."""
    if len(value["pairs"]) > 1:
        return value
    return {**value["pairs"][0], "suggestion": value["suggestion"]}


def _without_tensors(value: dict[str, Any]) -> dict[str, Any]:
    kept = {key: item for key, item in value.items() if key != "tensors"}
    if "pairs" in kept:
        kept["pairs"] = [_without_tensors(pair) for pair in kept["pairs"]]
    return kept
