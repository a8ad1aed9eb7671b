"""Run a recipe by its engine: load, plan, stop at --dry-run, run, say what came out."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_audio.cli.options import RunOptions
from mergekit_audio.cli.output import outline, shown
from mergekit_audio.cli.progress import reporting
from mergekit_audio.errors import RecipeError
from mergekit_audio.progress import ProgressEvent

if TYPE_CHECKING:
    from mergekit_audio.lock import Lock
    from mergekit_audio.recipe.load import LoadedRecipe


@dataclass(frozen=True)
class Finished:
    """What a command says when it is done.

    Parameters
    ----------
    what
        What was done, for the closing line.
    then
        The next command or file.
    text
        The result for people on stdout; may be empty.
    extra
        Keys for ``--json`` beside output, time and lock.
    """

    what: str
    then: str
    text: str = ""
    extra: dict[str, Any] | None = None


@dataclass(frozen=True)
class Job:
    """How one command runs a recipe; engines are imported inside the functions.

    Parameters
    ----------
    command, kind
        The command's name and the recipe kind that it takes.
    plan
        Opens what the recipe names; what it returns has ``as_dict()``.
    run
        Does the work: ``run(loaded, plan, force=, progress=, command=, overrides=)``.
    finish
        What to say, from the output folder and the lock.
    describe
        The plan as JSON values, for ``--dry-run``; it may measure.
    preview
        A shorter form of ``as_dict()`` for people.
    check
        Raises when this recipe is for another command.
    notes
        What the user should know before the work starts, from the plan.
    settings
        More keywords of ``run``.
    mergekit
        Read the recipe as mergekit's.
    words
        Options of this command that decide the result, for the lock.
    """

    command: str
    kind: str
    plan: Callable[[LoadedRecipe], Any]
    run: Callable[..., Lock]
    finish: Callable[[Path, Lock], Finished]
    describe: Callable[[Any], dict[str, Any]] = lambda plan: plan.as_dict()
    preview: Callable[[dict[str, Any]], dict[str, Any]] = lambda plan: plan
    check: Callable[[LoadedRecipe], None] = lambda loaded: None
    notes: Callable[[Any], Sequence[str]] = lambda plan: ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    mergekit: bool = False
    words: Sequence[str] = ()


def run_recipe(job: Job, path: Path, options: RunOptions) -> None:
    """Run one recipe from the command line.

    Raises
    ------
    CmergeError
        As the engine says; faults that an engine finds get the recipe's lines.
    """
    from mergekit_audio.recipe.load import load

    started = time.monotonic()
    output = options.output
    loaded = load(path, options.overrides, kind=job.kind, mergekit=job.mergekit)
    job.check(loaded)
    for note in loaded.notes:
        output.talk(f"note: {note}")
    target = loaded.root / loaded.recipe.output
    shown_progress = reporting(enabled=options.shows_progress, remarks=not options.quiet)
    with shown_progress as progress, faults_placed(loaded):
        progress(ProgressEvent("open inputs", 0, 1))
        plan = job.plan(loaded)
        progress(ProgressEvent("open inputs", 1, 1))
        if options.dry_run:
            value = job.describe(plan)
        else:
            for note in job.notes(plan):
                output.talk(f"note: {note}")
            lock = job.run(
                loaded,
                plan,
                force=options.force,
                progress=progress,
                command=command_line(job.command, path, options.overrides, job.words),
                overrides=options.overrides,
                **job.settings,
            )
    if options.dry_run:
        output.data(outline(job.preview(value)), value)
        if _occupied(target) and not options.force:
            output.talk(f"{shown(target)} exists: without --force this command would stop")
        output.talk(f"dry run: nothing was written; next: cmerge {job.command} {shown(path)}")
        return
    finished = job.finish(target, lock)
    seconds = time.monotonic() - started
    value = {
        "command": job.command,
        "output": str(target),
        "wall_time_s": round(seconds, 3),
        **(finished.extra or {}),
        "lock": lock.model_dump(mode="json"),
    }
    output.data(finished.text, value)
    output.closing(finished.what, target, seconds, finished.then)


def command_line(command: str, path: Path, overrides: list[str], more: Sequence[str] = ()) -> str:
    """Return the command as the lock keeps it: what decides the result, and nothing else."""
    words = ["cmerge", command, str(path), *more]
    for override in overrides:
        words += ["--set", override]
    return shlex.join(words)


@contextlib.contextmanager
def faults_placed(loaded: LoadedRecipe) -> Iterator[None]:
    """Give faults that an engine found the recipe's file, line and column."""
    try:
        yield
    except RecipeError as error:
        raise loaded.place(error) from error


def _occupied(target: Path) -> bool:
    return os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir()))
