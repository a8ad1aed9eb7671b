"""Sweep λ: train what is missing, Δ once, every λ in memory, probe, choose."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mergekit_audio import merge
from mergekit_audio.audio.store import Store
from mergekit_audio.errors import NotFiniteError
from mergekit_audio.files import require_free, require_outside, staged_folder, write_text
from mergekit_audio.lock import Lock, LockedInput, make_lock, write_lock
from mergekit_audio.locked import locked_checkpoint
from mergekit_audio.probe.inputs import locked_tasks
from mergekit_audio.probe.ledger import Ledger
from mergekit_audio.probe.notes import selection_notes, task_notes
from mergekit_audio.probe.points import PointRunner
from mergekit_audio.probe.run import (
    RESULTS_NAME,
    differences_of,
    leakage_of,
    probed_places,
    store_folder,
    work_folder,
    write_results,
)
from mergekit_audio.probe.tasks import prepare_task
from mergekit_audio.progress import Progress, silent
from mergekit_audio.recipe.sweep import SweepRecipe
from mergekit_audio.report.label_free_figure import write_label_free_figure
from mergekit_audio.report.page.made import made_of
from mergekit_audio.report.tables import table_rows
from mergekit_audio.sweep.band import indistinguishable, resampled_goals
from mergekit_audio.sweep.executors.base import Opening
from mergekit_audio.sweep.executors.choice import make_executor
from mergekit_audio.sweep.landscape import Landscape
from mergekit_audio.sweep.merges import Merges
from mergekit_audio.sweep.mixture import suggest_mixture
from mergekit_audio.sweep.mixture_recipe import MIXTURE_NAME
from mergekit_audio.sweep.planner import SweepPlan, plan
from mergekit_audio.sweep.searches.running import search_landscape
from mergekit_audio.sweep.selection import choose, select_scale
from mergekit_audio.sweep.spaces import Point, weight_average_scale
from mergekit_audio.sweep.training import train_missing
from mergekit_audio.sweep.unlabelled.rows import (
    label_free_notes,
    label_free_rows,
    locked_without_labels,
    pretraining_files,
    search_without_labels,
    similarity_rows,
    unlabelled_corpora,
)
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.inspect import inspect_geometry

BEST_NAME = "best"
MOST_RANKED = 20_000_000
"""Elements of a model up to which effective ranks take seconds; `cmerge inspect` ranks any."""


def sweep(
    recipe: SweepRecipe,
    root: Path,
    *,
    force: bool = False,
    progress: Progress = silent,
    command: str = "",
    overrides: Sequence[str] = (),
    output: Path | None = None,
    executor: str = "serial",
    address: str | None = None,
    workers: int | None = None,
) -> Lock:
    """Merge at every λ, probe each merge, choose λ on validation, and write the results.

    Corpora are prepared first, then models trained whose outputs are missing. Finished points are
    kept in ``<output>.work`` until the output is complete, so that the same call goes on where an
    earlier one stopped. The test split is scored for the base, the models, weight averaging and the
    chosen λ alone; the chosen λ is always evaluated directly.

    Parameters
    ----------
    recipe
        Base, cultures, λ, tasks, seeds.
    root
        The folder that the recipe's paths are relative to.
    force
        Replace an existing output; models that are there are not trained again.
    progress
        Called with every step.
    command, overrides
        Recorded in the lock.
    output
        Another folder than the recipe's.
    executor
        Where points are computed: ``serial`` (threads of this process), ``process`` (processes of
        this machine, of one thread each) or ``ray`` (tasks on many machines, which must see
        recipe, models, corpora and store at the same paths).
    address
        Of a Ray cluster, ``HOST:PORT`` or ``auto``; ``None`` starts a private one.
    workers
        Threads, processes or tasks side by side; ``None`` means torch's number of threads, a
        process a core (a GPU, where there are any), or as many tasks as the cluster has room for.

    Results depend neither on the executor nor on the number of workers.

    Raises
    ------
    UsageError
        There is no such executor, or an address is given without Ray.
    DependencyError
        Ray is not installed, its cluster does not answer, or workers died too often.
    InputError
        The output exists, a model can't be opened or has another layout than the base, a corpus
        has no splits, tags or usable audio, or features of the base or a culture are not finite.
    RecipeError
        A training recipe has faults, or an automatic range can't be found.
    """
    root = Path(root)
    target = root / recipe.output if output is None else Path(output)
    require_free(target, force=force)
    machine = make_executor(executor, address, workers)
    threads = None if executor == "ray" else workers
    planned = plan(recipe, root)
    store = Store(store_folder(recipe.store, root))
    require_outside(target, probed_places(root, store.root, planned.sources(), recipe.tasks))
    tasks = [
        prepare_task(task, recipe.backbone, root, store, progress, threads) for task in recipe.tasks
    ]
    train_missing(list(planned.trainings), progress)
    planned = planned.with_space()
    assert planned.space is not None
    runner = PointRunner(
        tasks=tasks,
        seeds=recipe.seeds,
        backbone=recipe.backbone,
        ledger=Ledger(work_folder(target) / RESULTS_NAME),
        cache=store.root / "features",
        total=planned.points or 0,
        progress=progress,
        workers=threads,
    )
    models = {name: Checkpoint.open(source, root=root) for name, source in planned.sources()}
    merges = Merges(planned, planned.space, models["base"], progress)
    landscape = Landscape(recipe, planned.space, models, merges, runner, executor=machine)
    with machine:
        digests = {name: checkpoint.digest() for name, checkpoint in models.items()}
        machine.open(Opening(planned, tasks, digests, runner.cache), landscape.arrivals())
        landscape.run()
        searched = None if recipe.search is None else search_landscape(landscape, recipe.search)
        unlabelled = unlabelled_corpora(planned, store, progress)
        free = search_without_labels(planned, models, tasks, unlabelled, store, progress)
        landscape.add(() if free is None else label_free_rows(free, planned, models["base"]))
        landscape.add(similarity_rows(planned, models["base"]))
        selection = _selection(landscape)
    mixture = suggest_mixture(planned, tasks, selection)
    rows = landscape.ordered_rows()
    summary = {
        "kind": recipe.kind,
        "seeds": list(recipe.seeds),
        "method": recipe.method.model_dump(mode="json"),
        "cultures": [{"name": each.name, "weight": each.weight} for each in recipe.cultures],
        "space": {"kind": planned.space.kind, "axes": list(planned.space.axes)},
        "weight_average_scale": weight_average_scale(recipe),
        "notes": [
            *planned.notes(),
            *landscape.notes(),
            *(() if searched is None else searched.notes),
            *label_free_notes(free),
            *(() if mixture is None else mixture.notes),
            *task_notes(tasks),
            *selection_notes(_tested(rows), tasks),
        ],
        "tasks": [task.facts() for task in tasks],
        "rows": rows,
        "reference": "base",
        "interpolation": [
            each.as_dict(recipe.interpolate.tolerance)
            for each in landscape.interpolations.values()
            if recipe.interpolate is not None
        ],
        "diverged": landscape.diverged,
        "search": None if searched is None else searched.summary,
        "label_free": None if free is None else free.as_dict(),
        "selection": selection,
        "suggested_mixture": None if mixture is None else mixture.summary,
        "geometry": _geometry(planned, models, threads, progress),
    }
    shown = list(dict.fromkeys(str(row["name"]) for _, row in table_rows(summary)))
    inputs = [
        *_locked_models(planned, models),
        *locked_tasks(tasks, root),
        *locked_without_labels(planned, unlabelled),
    ]
    summary["leakage"] = leakage_of(
        tasks, [(name, each.folder) for name, each in models.items()], inputs, root, progress
    )
    lines = [*landscape.ordered_lines(), *(() if searched is None else searched.lines)]
    runner.lines = [line for line in lines if "test" in line]
    summary["differences"] = differences_of(runner, shown, "base", recipe.resamples, progress)
    with staged_folder(target, force=force) as staging:
        made = made_of(recipe.model_dump(mode="json"), inputs)
        write_results(staging, lines, summary, made=made)
        write_label_free_figure(summary, staging)
        if mixture is not None and mixture.text:
            write_text(staging / MIXTURE_NAME, mixture.text)
        runner.scores.export(staging, runner.lines)
        if recipe.write_best:
            best = next(row for row in rows if row["name"] == selection["row"])
            _write_best(planned, landscape.point_of(best), staging, progress, command)
        lock = make_lock(
            staging,
            target=target,
            recipe=recipe.model_dump(mode="json"),
            root=root,
            inputs=inputs,
            overrides=overrides,
            command=command,
        )
        write_lock(staging, lock)
    shutil.rmtree(work_folder(target), ignore_errors=True)
    return lock


def _selection(landscape: Landscape) -> dict[str, Any]:
    """Choose on validation, find the band, score the choice directly and on test, and say so."""
    recipe, runner = landscape.recipe, landscape.runner
    tasks, groups = [task.name for task in recipe.tasks], recipe.task_groups()
    rows = landscape.ordered_rows()
    name = choose(rows, recipe.select, tasks, groups)
    seen = select_scale(rows, recipe.select, tasks, groups, chosen=name)
    band = None
    if recipe.select.resamples:
        kept = [
            point["row"] for point in seen["curve"] if not point["broken"] or point["row"] == name
        ]
        counted = recipe.objective_tasks()
        goals = resampled_goals(
            runner.scores,
            [line for line in landscape.ordered_lines() if line["model"] in kept],
            [task for task in runner.tasks if task.task.name in counted],
            recipe.select.rule().goal,
            groups,
            metric=recipe.select.metric,
            resamples=recipe.select.resamples,
            seed=recipe.seed,
        )
        band = indistinguishable(goals, name, recipe.select.confidence)
    try:
        earlier = landscape.finish(name)
    except NotFiniteError as error:  # between finite nodes, or on the test split alone
        row = next(row for row in rows if row["name"] == name)
        landscape.leave_out(landscape.point_of(row), error)
        return _selection(landscape)
    selection = select_scale(
        landscape.ordered_rows(), recipe.select, tasks, groups, chosen=name, band=band
    )
    if earlier is not None and earlier["interpolated"]:
        before = next(point for point in seen["curve"] if point["row"] == name)
        after = next(point for point in selection["curve"] if point["row"] == name)
        selection["reevaluated"] = {
            "interpolated": before["valid"]["mean"],
            "direct": after["valid"]["mean"],
        }
    return selection


def _geometry(
    planned: SweepPlan,
    models: Mapping[str, Checkpoint],
    workers: int | None,
    progress: Progress,
) -> dict[str, Any]:
    """Return the cultures' task vectors beside the base by layer, with ranks of small models."""
    cultures = {each.name: models[each.name] for each in planned.recipe.cultures}
    elements = sum(math.prod(info.shape) for info in models["base"].index.values())
    found = inspect_geometry(
        models["base"],
        cultures,
        ranks=elements <= MOST_RANKED,
        workers=workers,
        progress=progress,
    )
    for pair in found["pairs"]:
        del pair["tensors"]
    return found


def _tested(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if all("test" in held for held in row["scores"].values())]


def _write_best(
    planned: SweepPlan, point: Point, staging: Path, progress: Progress, command: str
) -> None:
    best = planned.merge(point, output=f"{planned.recipe.output}/{BEST_NAME}")
    merge.run(best, output=staging / BEST_NAME, progress=progress, command=command)


def _locked_models(planned: SweepPlan, models: Mapping[str, Checkpoint]) -> list[LockedInput]:
    cultures = [culture.name for culture in planned.recipe.cultures]
    entries = []
    for name, source in planned.sources():
        family = "cultures." if name in cultures else "" if name == "base" else "compare."
        more = pretraining_files(planned, models[name]) if family != "compare." else []
        entries.append(locked_checkpoint(f"{family}{name}", source, models[name], more))
    return entries
