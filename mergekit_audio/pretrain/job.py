"""What a stage's trainer needs beside the model, in one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mergekit_audio.pretrain.data import Clips, Collate
from mergekit_audio.pretrain.forgetting import ForgettingProbe
from mergekit_audio.pretrain.processes import Processes
from mergekit_audio.pretrain.stage_log import StageLog
from mergekit_audio.pretrain.work import StageFolder
from mergekit_audio.progress import Progress
from mergekit_audio.recipe.train import Stage
from mergekit_audio.recipe.train_arguments import TrainArguments
from mergekit_audio.recipe.trust import Forgetting


@dataclass(frozen=True)
class StageJob:
    """What a stage's trainer needs beside the model.

    Parameters
    ----------
    stage, index, seed
        The stage, its place in the recipe, and the recipe's seed.
    arguments
        The recipe's settings.
    weights
        Factor of each teacher's loss.
    clips, collate
        The stage's crops in their order, and what makes batches of them.
    folder
        Where checkpoints and log stand.
    log
        The stage's log.
    progress
        Told of every step.
    processes
        This process among those that train together.
    groups
        The group of each parameter that trains, for the log.
    probe
        Scores a model on the corpora of the recipe's ``forgetting``, in the main process.
    forgetting
        When to probe.
    """

    stage: Stage
    index: int
    seed: int
    arguments: TrainArguments
    weights: Mapping[str, float]
    clips: Clips
    collate: Collate
    folder: StageFolder
    log: StageLog
    progress: Progress
    processes: Processes
    groups: Mapping[str, str] = field(default_factory=dict)
    probe: ForgettingProbe | None = None
    forgetting: Forgetting | None = None
