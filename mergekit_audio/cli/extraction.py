"""The command `extract-lora`: a task vector as a low-rank adapter, and what that loses."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from mergekit_audio.cli.options import DryRun, Force, Json, NoProgress, Quiet
from mergekit_audio.cli.output import Output, outline, shown
from mergekit_audio.cli.progress import reporting
from mergekit_audio.errors import UsageError

_ROWS_SHOWN = 8


def extract_lora(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="The tuned model: a folder or org/name@revision.",
            show_default=False,
        ),
    ],
    base: Annotated[
        str,
        typer.Option(metavar="MODEL", help="The model that it was tuned from.", show_default=False),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The adapter's folder.", show_default=False),
    ],
    rank: Annotated[
        int | None,
        typer.Option(min=1, help="Rank of every tensor (16 if nothing is said)."),
    ] = None,
    energy: Annotated[
        float | None,
        typer.Option(
            help="Instead of a rank: the share of each tensor's squared norm to keep, e.g. 0.95."
        ),
    ] = None,
    match: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="Only weights named so, e.g. 'encoder.layers.{0-5}.*'. Repeatable. "
            "Default: all linear layers.",
            show_default=False,
        ),
    ] = None,
    dry_run: DryRun = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Write what training changed as a LoRA adapter that peft loads, and say what that loses.

    Example: cmerge extract-lora runs/makam --base m-a-p/MERT-v1-95M --rank 16 --output runs/lora
    """
    started = time.monotonic()
    if rank is not None and energy is not None:
        raise UsageError("--rank and --energy exclude each other", "give one of the two")
    if energy is not None and not 0 < energy <= 1:
        raise UsageError(f"--energy {energy:g}: expected a share above 0, at most 1", "try 0.95")
    words = {"model": model, "base": base, "output": str(output), "match": match or []}
    settings = {**words, "rank": rank, "energy": energy}
    if dry_run:
        _preview(settings, Output(as_json, quiet))
        return
    extraction = _extract(settings, force, not (quiet or no_progress))
    report = extraction.report
    talk = Output(as_json, quiet)
    value = {
        "command": "extract-lora",
        "output": str(output),
        "wall_time_s": round(time.monotonic() - started, 3),
        **report,
        "lock": extraction.lock.model_dump(mode="json"),
    }
    talk.data(outline(_readable(report)), value)
    total = report["total"]["energy_kept"]
    count = f"{len(report['tensors'])} tensors"
    talk.closing(
        f"extracted {count}, {total:.1%} of the task vector's energy",
        output,
        time.monotonic() - started,
        f"cmerge verify {shown(output)} --rebuild, or name it as a model of a merge recipe",
    )


def _extract(settings: dict[str, Any], force: bool, shows_progress: bool) -> Any:
    from mergekit_audio.merge.extract_lora import extract
    from mergekit_audio.merge.extraction_plan import ExtractSettings, plan_extraction

    with reporting(enabled=shows_progress) as progress:
        plan = plan_extraction(ExtractSettings(**settings), Path())
        return extract(plan, force=force, progress=progress, command=_command_line(settings))


def _preview(settings: dict[str, Any], output: Output) -> None:
    from mergekit_audio.merge.extraction_plan import ExtractSettings, plan_extraction

    value = plan_extraction(ExtractSettings(**settings), Path()).as_dict()
    output.data(outline(value), value)
    output.talk("dry run: nothing was written; next: the same command without --dry-run")


def _command_line(settings: dict[str, Any]) -> str:
    words = ["cmerge", "extract-lora", settings["model"], "--base", settings["base"]]
    for key in ("rank", "energy"):
        if settings[key] is not None:
            words += [f"--{key}", f"{settings[key]}"]
    for pattern in settings["match"]:
        words += ["--match", pattern]
    return shlex.join([*words, "--output", settings["output"]])


def _readable(report: dict[str, Any]) -> dict[str, Any]:
    """Return the totals, the tensors that lose most, and what is not in the adapter by reason."""
    worst = sorted(report["tensors"], key=lambda row: -row["error"])[:_ROWS_SHOWN]
    left: dict[str, dict[str, Any]] = {}
    for row in report["left_out"]:
        reason = left.setdefault(
            row["because"], {"because": row["because"], "tensors": 0, "squared_norm": 0.0}
        )
        reason["tensors"] += 1
        reason["squared_norm"] += row["norm"] ** 2
    return {
        "parameters": report["parameters"],
        "whole model": report["total"],
        "factored tensors": report["factored"],
        f"{len(worst)} largest errors of {len(report['tensors'])} tensors": [
            {key: row[key] for key in ("name", "rank", "norm", "error", "energy_kept")}
            for row in worst
        ],
        "not in the adapter": [
            {
                "because": row["because"],
                "tensors": row["tensors"],
                "norm": row["squared_norm"] ** 0.5,
            }
            for row in left.values()
        ],
    }
