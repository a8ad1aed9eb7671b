"""Commands of the panel Evaluate: evaluate."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mergekit_audio.cli.options import (
    DryRun,
    Force,
    Json,
    NoProgress,
    Quiet,
    RunOptions,
    Set,
    Workers,
)
from mergekit_audio.cli.output import shown
from mergekit_audio.cli.running import Finished, Job, run_recipe
from mergekit_audio.errors import UsageError

if TYPE_CHECKING:
    from mergekit_audio.lock import Lock
    from mergekit_audio.recipe.load import LoadedRecipe

DEFAULT_TASKS = "evaluate.yaml"

Words = Annotated[
    list[str],
    typer.Argument(
        metavar="RECIPE", help="A recipe (YAML); with --compare the models.", show_default=False
    ),
]
Compare = Annotated[
    bool,
    typer.Option(
        "--compare", help="The words are models to compare, folders or repos, not a recipe."
    ),
]
Tasks = Annotated[
    Path | None,
    typer.Option(
        metavar="RECIPE",
        help=f"With --compare: whose tasks, seeds and store are taken ({DEFAULT_TASKS}).",
        show_default=False,
    ),
]


def _plan(loaded: LoadedRecipe) -> Any:
    from mergekit_audio.probe import run as engine
    from mergekit_audio.recipe.evaluate import EvaluateRecipe

    assert isinstance(loaded.recipe, EvaluateRecipe)
    return engine.plan(loaded.recipe, loaded.root)


def _run(loaded: LoadedRecipe, plan: Any, **keywords: Any) -> Lock:
    from mergekit_audio.probe import run as engine
    from mergekit_audio.recipe.evaluate import EvaluateRecipe

    assert isinstance(loaded.recipe, EvaluateRecipe)
    return engine.evaluate(loaded.recipe, loaded.root, **keywords)


def _finish(target: Path, lock: Lock) -> Finished:
    summary = json.loads((target / "summary.json").read_text(encoding="utf-8"))
    tuned = "trainable_parameters" in summary["rows"][0]
    file = target / ("petl.md" if tuned else "table.md")
    table = file.with_suffix(".txt").read_text(encoding="utf-8")
    models, tasks = len(lock.recipe["models"]), len(lock.recipe["tasks"])
    done = "tuned" if tuned else "probed"
    what = f"{done} {models} model{'s'[: models > 1]} on {tasks} task{'s'[: tasks > 1]}"
    return Finished(what, f"read {shown(file)}", table, {"summary": summary})


_JOB = Job("evaluate", "evaluate", _plan, _run, _finish)


def evaluate(
    words: Words,
    compare: Compare = False,
    tasks: Tasks = None,
    overrides: Set = None,
    workers: Workers = None,
    dry_run: DryRun = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Probe encoders on tagging, classes, keys, tempi and values: mean ± std over seeds.

    Differences from the first model (`reference` in the recipe) have paired bootstrap intervals. A
    task's `protocol` names how it is probed: culturemert, marble-v1, marble-grid, petl-probe,
    screen. Stopped, the same command goes on where it was.

    Example: cmerge evaluate evaluate.yaml --set "seeds=[0]"

    Example: cmerge evaluate --compare m-a-p/MERT-v1-95M@main runs/ta --tasks evaluate.yaml
    """
    changes = overrides or []
    if compare:
        recipe = Path(DEFAULT_TASKS) if tasks is None else tasks
        changes = [*_comparing(words, recipe, changes), *changes]
    else:
        if tasks is not None:
            raise UsageError(
                "--tasks belongs to --compare",
                "run: cmerge evaluate --compare MODEL MODEL --tasks RECIPE",
            )
        if len(words) != 1:
            raise UsageError(
                f"expected one recipe, found {len(words)}: {' '.join(words)}",
                "to compare models without a recipe of their own, add --compare",
            )
        recipe = Path(words[0])
    options = RunOptions(changes, dry_run, force, as_json, quiet, no_progress)
    run_recipe(replace(_JOB, settings={"workers": workers}), recipe, options)


def _comparing(models: Sequence[str], recipe: Path, overrides: Sequence[str]) -> list[str]:
    """Return what ``--set`` would say of these models; folders are named from here.

    The output lies beside the recipe's, so that its own results stay.
    """
    from mergekit_audio.recipe.load import load

    if not recipe.is_file() and recipe == Path(DEFAULT_TASKS):
        raise UsageError(
            f"--compare needs tasks, and there is no {DEFAULT_TASKS} here",
            "name a recipe: --tasks RECIPE; `cmerge recipe ls` lists some to copy",
        )
    rows = _rows(models, recipe)
    set_models = [f"models={json.dumps(rows, ensure_ascii=False)}", "reference=null"]
    loaded = load(recipe, [*set_models, *overrides], kind="evaluate")
    return [*set_models, f"output={json.dumps(str(loaded.recipe.output) + '_compare')}"]


def _rows(models: Sequence[str], recipe: Path) -> list[dict[str, str]]:
    folder = recipe.resolve().parent
    names = [PurePosixPath(model.rstrip("/")).name for model in models]
    if len(set(names)) < len(names):
        names = list(models)
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"--compare names twice: {', '.join(repeated)}")
    paths = [
        os.path.relpath(model, folder).replace(os.sep, "/") if os.path.exists(model) else model
        for model in models
    ]
    return [{"name": name, "model": path} for name, path in zip(names, paths, strict=True)]
