"""The command `merge`: one recipe, at one λ or at many."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mergekit_audio.cli.options import (
    DryRun,
    Force,
    Json,
    NoProgress,
    Quiet,
    RecipeFile,
    RunOptions,
    Set,
)
from mergekit_audio.cli.output import shown
from mergekit_audio.cli.running import Finished, Job, run_recipe
from mergekit_audio.errors import InputError, UsageError

if TYPE_CHECKING:
    from mergekit_audio.lock import Lock
    from mergekit_audio.merge.planner import MergePlan
    from mergekit_audio.recipe.load import LoadedRecipe

_MOST_SCALES = 1000

OutputFolder = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FOLDER",
        help="The folder to write, from here; instead of the recipe's `output`.",
        show_default=False,
    ),
]
Mergekit = Annotated[
    bool,
    typer.Option(
        "--mergekit", help="Read the recipe as mergekit's (seen by itself where it has no kind)."
    ),
]
Scales = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Merge at many λ, reading the inputs once: 0.1,0.2 or 0:1:0.1 (start:end:step).",
        show_default=False,
    ),
]
CheckLoad = Annotated[
    bool,
    typer.Option("--check-load", help="Load what was written with transformers and run it once."),
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Let --check-load run the model's own code.")
]


def merge(
    recipe: RecipeFile,
    overrides: Set = None,
    output: OutputFolder = None,
    scales: Scales = None,
    check_load: CheckLoad = False,
    trust_remote_code: TrustRemoteCode = False,
    mergekit: Mergekit = False,
    dry_run: DryRun = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Merge models into a base: θ = θ_base + λ · Δ. mergekit's recipes run as they are.

    Example: cmerge merge culturemert_ta.yaml --set scale=0.2 --dry-run
    """
    changes = [*(overrides or []), *_output_change(output, recipe)]
    options = RunOptions(changes, dry_run, force, as_json, quiet, no_progress)
    if trust_remote_code and not check_load:
        raise UsageError("--trust-remote-code without --check-load", "add --check-load")
    points = None if scales is None else parse_scales(scales)
    written: list[Path] = []
    job = Job(
        "merge",
        "merge",
        lambda loaded: _plan(loaded, recipe, options),
        lambda loaded, plan, **keywords: _run(loaded, plan, points, written, **keywords),
        lambda target, lock: _merged(target, lock, written, check_load, trust_remote_code),
        preview=_preview,
        notes=lambda plan: plan.notes,
        mergekit=mergekit,
        words=() if scales is None else ("--scales", scales),
    )
    run_recipe(job, recipe, options)


def parse_scales(text: str) -> list[float]:
    """Return the λ of ``0.1,0.2,0.3`` or of ``start:end:step`` (the end is in), in this order.

    Raises
    ------
    UsageError
        The text is neither, a λ comes twice, or there would be more than a thousand.
    """
    hint = "write --scales 0.1,0.2,0.3 or --scales 0:1:0.1"
    try:
        if ":" in text:
            start, end, step = (Decimal(part.strip()) for part in text.split(":"))
            if step == 0 or (end - start) / step < 0 or (end - start) / step > _MOST_SCALES:
                raise UsageError(f"--scales {text}: the step does not lead from start to end", hint)
            count = int((end - start) / step) + 1
            values = [float(start + i * step) for i in range(count)]
        else:
            values = [float(part) for part in text.split(",")]
    except (ValueError, InvalidOperation):
        raise UsageError(f"--scales {text}: expected numbers", hint) from None
    if not all(math.isfinite(value) for value in values):
        raise UsageError(f"--scales {text}: expected finite numbers", hint)
    names = [f"{value:g}" for value in values]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"--scales {text}: {', '.join(twice)} comes twice", hint)
    return values


def _output_change(output: Path | None, recipe: Path) -> list[str]:
    """Return ``--output`` as the override that the lock keeps: a path from the recipe's folder."""
    if output is None:
        return []
    wanted = os.path.expanduser(output)
    if not os.path.isabs(wanted):
        wanted = os.path.relpath(wanted, recipe.resolve().parent)
    return [f"output={json.dumps(wanted, ensure_ascii=False)}"]


def _plan(loaded: LoadedRecipe, path: Path, options: RunOptions) -> MergePlan:
    from mergekit_audio import merge as engine
    from mergekit_audio.merge.stages import resolve_stages
    from mergekit_audio.recipe.merge import MergeRecipe

    assert isinstance(loaded.recipe, MergeRecipe)

    def run_stage(recipe: MergeRecipe, root: Path, force: bool) -> None:
        if options.dry_run:
            raise InputError(
                f"{recipe.output}: a stage of this recipe that was not run yet",
                "run its recipe first, or this one without --dry-run",
            )
        engine.run(engine.plan(recipe, root), force=force)

    recipe = resolve_stages(loaded.recipe, loaded.root, run_stage, path=path, force=options.force)
    return engine.plan(recipe, loaded.root)


def _run(
    loaded: LoadedRecipe,
    plan: MergePlan,
    scales: Sequence[float] | None,
    written: list[Path],
    **keywords: Any,
) -> Lock:
    from mergekit_audio import merge as engine

    method = plan.recipe.method
    if method.name == "greedy_soup" and getattr(method, "accepted", None) is None:
        from mergekit_audio.sweep.soup import greedy_soup

        if scales is not None:
            raise UsageError("--scales with a greedy soup", "set its λ in the recipe")
        written.append(plan.output)
        return greedy_soup(plan.recipe, loaded.root, **keywords)
    if scales is None:
        written.append(plan.output)
        return engine.run(plan, **keywords)
    locks = engine.run_scales(plan, scales, **keywords)
    written.extend(locks)
    return next(iter(locks.values()))


def _merged(
    target: Path, lock: Lock, written: Sequence[Path], check: bool, trust_remote_code: bool
) -> Finished:
    models = lock.recipe["models"]
    count = f"{len(models)} model" + ("s" if len(models) != 1 else "")
    what = f"merged {count} by {lock.recipe['method']['name']}"
    extra: dict[str, Any] = {"outputs": [str(folder) for folder in written]}
    if len(written) > 1:
        what += f" at {len(written)} λ"
    if check:
        from mergekit_audio.merge.check_load import check_load

        reports = [check_load(each, trust_remote_code=trust_remote_code) for each in written]
        extra["load"] = [report.as_dict() for report in reports]
        what += f", loaded as {reports[0].model_class} and run"
    return Finished(what, f"cmerge verify {shown(written[0])} --rebuild", extra=extra)


def _preview(plan: dict[str, Any]) -> dict[str, Any]:
    """Leave out the rows of merged tensors, which are the rule; name those that are copied."""
    copied = [
        {"tensor": row["name"], "because": row["reason"]}
        for row in plan["tensors"]
        if row["action"] == "copy"
    ]
    return {**{key: item for key, item in plan.items() if key != "tensors"}, "copied": copied}
