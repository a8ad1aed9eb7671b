"""The four trainings of the paper's Table 1, derived from one two-stage recipe."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergekit_audio.errors import Fault, RecipeError
from mergekit_audio.pretrain.processes import with_steps
from mergekit_audio.recipe.ablation import AblationRecipe, SingleStage
from mergekit_audio.recipe.load import load
from mergekit_audio.recipe.train import PresetBase, Stage, TrainRecipe
from mergekit_audio.sweep.training import Training

SINGLE, NO_REWARM, STAGE_1, BOTH = "single_stage", "no_rewarm", "stage_1", "both_stages"
TITLES = {
    SINGLE: "Single-stage",
    NO_REWARM: "Single-stage (no re-warm)",
    STAGE_1: "Two-stage: stage 1",
    BOTH: "Two-stage: both stages",
}
"""The strategies in Table 1's order, by the names of their folders."""


@dataclass(frozen=True)
class Strategies:
    """What an ablation trains.

    Parameters
    ----------
    path
        The training recipe's file.
    recipe
        What it says, with the ablation's changes.
    runs
        The trainings in Table 1's order.
    base
        The checkpoint that all start from, as a path relative to the ablation's recipe.
    base_training
        The training that makes the base, or None.
    """

    path: Path
    recipe: TrainRecipe
    runs: tuple[Training, ...]
    base: str
    base_training: Training | None


def strategies(recipe: AblationRecipe, root: Path) -> Strategies:
    """Load the two-stage recipe and derive the other three from it.

    Raises
    ------
    RecipeError
        A training recipe has faults, does not have two stages, starts from random weights, or
        ``base_train`` writes another folder than the base.
    """
    path = root / recipe.train
    two_stage = load(path, recipe.changes, kind="train").recipe
    assert isinstance(two_stage, TrainRecipe)
    two_stage = with_steps(two_stage)
    base = _base(two_stage, path, root, recipe.base_train)
    stages = {
        SINGLE: [single_stage(two_stage, recipe.single_stage)],
        NO_REWARM: [constant_stage(two_stage, recipe.single_stage)],
        STAGE_1: two_stage.stages[:1],
    }
    runs = [
        _training(name, _derived(two_stage, stages[name], _output(recipe, name, path, root)), path)
        for name in stages
    ]
    runs.append(_training(BOTH, two_stage, path))
    made = [os.path.normpath(each.output) for each in runs]
    if len(set(made)) != len(made):
        raise _fault("runs", f"the training's own output {two_stage.output} is one of its folders")
    return Strategies(
        path=path,
        recipe=two_stage,
        runs=tuple(_seen_from(each, root) for each in runs),
        base=base,
        base_training=_base_training(recipe, base, root),
    )


def single_stage(recipe: TrainRecipe, settings: SingleStage) -> Stage:
    """Return the one stage of all parameters: re-warmed, as many steps as both stages together.

    The mixture is the last stage's, since the single stage trains on the whole of it.
    """
    first, last = recipe.stages[0], recipe.stages[-1]
    replay = first.replay_share if settings.replay_share is None else settings.replay_share
    return _changed(
        last,
        name="single",
        train=["*"],
        steps=sum(stage.steps for stage in recipe.stages),
        peak_lr=last.peak_lr if settings.peak_lr is None else settings.peak_lr,
        min_lr=last.min_lr if settings.min_lr is None else settings.min_lr,
        warmup_ratio=last.warmup_ratio if settings.warmup_ratio is None else settings.warmup_ratio,
        replay_share=replay,
    )


def constant_stage(recipe: TrainRecipe, settings: SingleStage) -> Stage:
    """Return the one stage of all parameters without re-warming: a constant learning rate.

    Raises
    ------
    RecipeError
        There is no ``constant_lr`` and the last stage decays to 0.
    """
    warmed = single_stage(recipe, settings)
    rate = warmed.min_lr if settings.constant_lr is None else settings.constant_lr
    if rate <= 0:
        problem = "the single stage decays to 0, so no rate is left for the run without re-warming"
        raise _fault("single_stage.constant_lr", problem)
    return _changed(warmed, peak_lr=rate, min_lr=rate, warmup_ratio=0.0)


def _changed(stage: Stage, **changes: Any) -> Stage:
    """Return a stage with changes, validated anew."""
    return Stage.model_validate({**stage.model_dump(), **changes})


def _derived(recipe: TrainRecipe, stages: list[Stage], output: str) -> TrainRecipe:
    return recipe.model_copy(update={"stages": stages, "output": output})


def _output(recipe: AblationRecipe, name: str, path: Path, root: Path) -> str:
    """Return a derived training's folder, relative to the training recipe."""
    folder = root / recipe.runs_folder / name
    return Path(os.path.relpath(folder, path.parent)).as_posix()


def _training(name: str, recipe: TrainRecipe, path: Path) -> Training:
    return Training(name, path, recipe, recipe.output)


def _seen_from(training: Training, root: Path) -> Training:
    source = Path(os.path.relpath(training.output, root)).as_posix()
    return Training(training.name, training.path, training.recipe, source)


def _base(recipe: TrainRecipe, path: Path, root: Path, base_train: str | None) -> str:
    """Return the base as seen from the ablation's recipe: a folder, or a hub repo id as it is."""
    if len(recipe.stages) != 2:
        raise _fault("train", f"{path.name} has {len(recipe.stages)} stages; two are expected")
    if isinstance(recipe.base, PresetBase):
        raise _fault("train", f"{path.name} starts from random weights, so nothing is forgotten")
    place = path.parent / Path(recipe.base).expanduser()
    is_here = os.path.normpath(path.parent) == os.path.normpath(root)
    if is_here or (base_train is None and not place.exists()):
        return recipe.base
    return Path(os.path.relpath(place, root)).as_posix()


def _base_training(recipe: AblationRecipe, base: str, root: Path) -> Training | None:
    if recipe.base_train is None:
        return None
    path = root / recipe.base_train
    loaded = load(path, kind="train").recipe
    assert isinstance(loaded, TrainRecipe)
    training = _seen_from(_training("base", loaded, path), root)
    if os.path.normpath(training.source) != os.path.normpath(base):
        raise _fault("base_train", f"{path.name} writes {training.source}, but the base is {base}")
    return training


def _fault(key: str, problem: str) -> RecipeError:
    hint = "an ablation needs a two-stage `kind: train` recipe that starts from a checkpoint"
    return RecipeError([Fault("", 0, 0, key, problem)], hint)
