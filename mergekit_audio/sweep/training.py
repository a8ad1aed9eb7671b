"""The training recipes that a sweep names: which of them have to run first, and running them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mergekit_audio.errors import Fault, RecipeError
from mergekit_audio.lock import LOCK_NAME, read_lock, recipe_digest
from mergekit_audio.progress import Progress, ProgressEvent
from mergekit_audio.recipe.load import load
from mergekit_audio.recipe.sweep import SweepRecipe
from mergekit_audio.recipe.train import TrainRecipe


@dataclass(frozen=True)
class Training:
    """A training recipe that a sweep names.

    Parameters
    ----------
    name
        ``base`` or the culture's name.
    path
        The recipe file.
    recipe
        What it says.
    source
        Its output, as a path relative to the sweep's own recipe.
    """

    name: str
    path: Path
    recipe: TrainRecipe
    source: str

    @property
    def output(self) -> Path:
        """The model folder that it writes."""
        return self.path.parent / self.recipe.output

    @property
    def is_missing(self) -> bool:
        """Whether it has to run: its output is not there."""
        return not self.output.is_dir() or not any(self.output.iterdir())

    def note(self) -> str:
        """Return a warning when the output was made by other settings than the file's, or ""."""
        if self.is_missing or not (self.output / LOCK_NAME).is_file():
            return ""
        if read_lock(self.output).recipe_digest == recipe_digest(
            self.recipe.model_dump(mode="json")
        ):
            return ""
        return (
            f"{self.source} was made by other settings than {self.path.name} holds now; it is used "
            "as it is."
        )


def trainings(recipe: SweepRecipe, root: Path) -> list[Training]:
    """Load the training recipes of the base and the cultures, the base's first.

    Raises
    ------
    RecipeError
        A training recipe has faults, or ``base_train`` writes another folder than ``base``.
    """
    named = [("base", recipe.base_train)] if recipe.base_train is not None else []
    named += [(each.name, each.train) for each in recipe.cultures if each.train is not None]
    loaded = [_load(name, root / source, root) for name, source in named if source is not None]
    for each in loaded:
        if each.name == "base" and os.path.normpath(each.source) != os.path.normpath(recipe.base):
            problem = f"{each.path.name} writes {each.source}, but `base` is {recipe.base}"
            raise RecipeError(
                [Fault("", 0, 0, "base_train", problem)], "name the folder that base_train writes"
            )
    return loaded


def train_missing(
    needed: list[Training],
    progress: Progress,
    run: Callable[[TrainRecipe, Path, Progress], None] | None = None,
) -> None:
    """Run the training recipes whose outputs are missing, one after the other, in their order.

    Parameters
    ----------
    needed
        What ``trainings`` returned.
    progress
        Called with every step; the task is named after the model.
    run
        Runs one recipe; ``None`` means the trainer of this package.
    """
    for training in needed:
        if training.is_missing:
            (run or _pretrain)(training.recipe, training.path.parent, _named(training, progress))


def _pretrain(recipe: TrainRecipe, root: Path, progress: Progress) -> None:
    from mergekit_audio import pretrain

    pretrain.run(pretrain.plan(recipe, root), progress=progress)


def _load(name: str, path: Path, root: Path) -> Training:
    recipe = load(path, kind="train").recipe
    assert isinstance(recipe, TrainRecipe)
    source = Path(os.path.relpath(path.parent / recipe.output, root)).as_posix()
    return Training(name, path, recipe, source)


def _named(training: Training, progress: Progress) -> Progress:
    def told(event: ProgressEvent) -> None:
        progress(
            ProgressEvent(f"{training.name}: {event.task}", event.done, event.total, event.note)
        )

    return told
