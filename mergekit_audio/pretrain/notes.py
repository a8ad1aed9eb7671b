"""What a user should know before a training starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mergekit_audio.pretrain.heads import HEADS_NAME
from mergekit_audio.pretrain.objective import MASK_VECTOR
from mergekit_audio.pretrain.parameters import frozen_entries, trainable_names
from mergekit_audio.recipe.train import PresetBase, TrainRecipe


def plan_notes(
    recipe: TrainRecipe, imported: Sequence[str], pending: Sequence[str]
) -> Iterator[str]:
    """Tell of heads from random weights, teachers to fit, and settings that do nothing.

    Parameters
    ----------
    imported
        The teachers whose heads come from the base.
    pending
        The teachers that have to be fitted first.
    """
    from_preset = isinstance(recipe.base, PresetBase)
    if not from_preset:
        for teacher in recipe.teachers:
            if teacher.name in imported:
                continue
            why = (
                "as the recipe says"
                if recipe.heads == "random"
                else f"{recipe.base} has none in {HEADS_NAME}"
            )
            yield f"the head of {teacher.name} starts from random weights: {why}"
    for name in pending:
        where = "the replay corpus" if recipe.replay is not None else "the corpus"
        yield f"{name} is fitted on {where} first"
    first = recipe.stages[0]
    frozen_mask = not any(trainable_names(recipe, each, [MASK_VECTOR]) for each in recipe.stages)
    if from_preset and frozen_mask:
        yield f"no stage trains {MASK_VECTOR}, so the mask vector stays random"
    if recipe.arguments.batch_size == 1 and recipe.arguments.noise.probability > 0:
        yield "batch_size is 1: there are no other clips, so the noise mixture does nothing"
    heard = {entry.dataset for stage in recipe.stages for entry in stage.mixture}
    unheard = sorted(recipe.corpora().keys() - heard)
    if unheard and all(stage.mixture for stage in recipe.stages):
        yield f"in no stage's mixture, so not heard: {', '.join(unheard)}"
    if recipe.replay is not None and not any(stage.replay_share for stage in recipe.stages):
        yield f"replay is given, but no stage (such as {first.name!r}) has a replay_share"


def frozen_notes(recipe: TrainRecipe, shapes: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """Tell of parameters that a stage names and the recipe's transfer leaves as they are."""
    name = recipe.transfer.model_dump()["name"]
    for stage in recipe.stages:
        if frozen := frozen_entries(recipe, stage, shapes):
            yield f"stage {stage.name!r}: transfer {name!r} freezes {', '.join(frozen)}"


def hour_notes(recipe: TrainRecipe, hours: Mapping[str, float | None]) -> Iterator[str]:
    """Tell of caps of hours above what a corpus (``corpus.<name>``) holds."""
    for stage in recipe.stages:
        for entry in stage.mixture:
            held = hours[f"corpus.{entry.dataset}"]
            if entry.hours is not None and held is not None and entry.hours > held:
                yield (
                    f"stage {stage.name!r} asks for {entry.hours:g} h of {entry.dataset}, which "
                    f"holds {held:.2f} h: all of it is used"
                )
