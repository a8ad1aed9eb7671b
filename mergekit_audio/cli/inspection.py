"""The command `inspect`: what checkpoints hold, and how far they are from a base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mergekit_audio.cli.options import Json, NoProgress, Quiet
from mergekit_audio.cli.output import Output, outline
from mergekit_audio.cli.progress import reporting
from mergekit_audio.errors import UsageError
from mergekit_audio.progress import Progress, ProgressEvent

if TYPE_CHECKING:
    from mergekit_audio.weights.checkpoint import Checkpoint


def inspect(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Checkpoint folders or org/name@revision; several need --base.",
            show_default=False,
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Compare with this checkpoint: sizes and cosines of the task vectors.",
            show_default=False,
        ),
    ] = None,
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor too.")] = False,
    allow_nonfinite: Annotated[
        bool, typer.Option("--allow-nonfinite", help="Count NaN and infinities, do not refuse.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Show what a checkpoint holds, or what training changed beside a base.

    Example: cmerge inspect runs/makam runs/lyra --base m-a-p/MERT-v1-95M
    """
    if base is None and len(models) > 1:
        raise UsageError(
            f"{len(models)} models without a base", "add --base MODEL, or inspect them one by one"
        )
    with reporting(enabled=not (quiet or no_progress)) as progress:
        value = _facts(models, base, allow_nonfinite, progress)
    if not tensors:
        value = _without_tensors(value)
    Output(as_json, quiet).data(outline(_readable(value)), value)


def _facts(
    models: list[str], base: str | None, allow_nonfinite: bool, progress: Progress
) -> dict[str, Any]:
    from mergekit_audio.weights.checkpoint import Checkpoint
    from mergekit_audio.weights.inspect import inspect_checkpoint, inspect_models, inspect_pair

    def opened(source: str) -> Checkpoint:
        return Checkpoint.open(source, root=Path(), allow_nonfinite=allow_nonfinite)

    total = len(models) + 1
    if base is None:
        progress(ProgressEvent("read tensors", 0, 1, models[0]))
        value = inspect_checkpoint(opened(models[0]))
        progress(ProgressEvent("read tensors", 1, 1))
        return value
    start = opened(base)
    pairs = []
    for done, model in enumerate(models):
        progress(ProgressEvent("compare tensors", done, total, model))
        pairs.append(inspect_pair(start, opened(model)))
    if len(models) == 1:
        value = pairs[0]
    else:
        progress(ProgressEvent("compare tensors", len(models), total, "with each other"))
        relations = inspect_models(start, {model: opened(model) for model in models})
        value = {"pairs": pairs, "relations": relations}
    progress(ProgressEvent("compare tensors", total, total))
    return value


def _without_tensors(value: dict[str, Any]) -> dict[str, Any]:
    kept = {key: item for key, item in value.items() if key != "tensors"}
    if "pairs" in kept:
        kept["pairs"] = [_without_tensors(pair) for pair in kept["pairs"]]
    return kept


def _readable(value: dict[str, Any]) -> dict[str, Any]:
    """Return the facts with one section a model, and square tables with names, for people."""
    if "pairs" not in value:
        return value
    relations = value["relations"]
    names = relations["models"]
    shown: dict[str, Any] = {pair["tuned"]: pair for pair in value["pairs"]}
    for key in ("cosine", "sign_conflict"):
        shown[key] = [
            {"model": name, **dict(zip(names, row, strict=True))}
            for name, row in zip(names, relations[key], strict=True)
        ]
    return {**shown, "sum_to_mean_norm": relations["sum_to_mean_norm"]}
