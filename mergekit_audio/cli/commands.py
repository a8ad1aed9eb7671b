"""Make the command of a recipe kind: all such commands take the same options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mergekit_audio.cli.options import (
    DryRun,
    Force,
    Json,
    NoProgress,
    Quiet,
    RecipeFile,
    RunOptions,
    Set,
    Workers,
)
from mergekit_audio.cli.running import Job, run_recipe


def recipe_command(job: Job, text: str) -> Callable[..., None]:
    """Return a command that runs a recipe by a job; ``text`` is its help."""

    def command(
        recipe: RecipeFile,
        overrides: Set = None,
        dry_run: DryRun = False,
        force: Force = False,
        as_json: Json = False,
        quiet: Quiet = False,
        no_progress: NoProgress = False,
    ) -> None:
        options = RunOptions(overrides or [], dry_run, force, as_json, quiet, no_progress)
        run_recipe(job, recipe, options)

    command.__doc__ = text
    return command


def recipe_command_with_workers(job: Job, text: str) -> Callable[..., None]:
    """Return such a command whose job takes ``workers`` as well."""

    def command(
        recipe: RecipeFile,
        overrides: Set = None,
        workers: Workers = None,
        dry_run: DryRun = False,
        force: Force = False,
        as_json: Json = False,
        quiet: Quiet = False,
        no_progress: NoProgress = False,
    ) -> None:
        options = RunOptions(overrides or [], dry_run, force, as_json, quiet, no_progress)
        run_recipe(replace(job, settings={"workers": workers}), recipe, options)

    command.__doc__ = text
    return command
