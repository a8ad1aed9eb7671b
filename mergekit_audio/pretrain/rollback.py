"""Go on after a divergence: from the last good checkpoint, with a lower peak learning rate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from mergekit_audio.errors import InputError
from mergekit_audio.files import write_json
from mergekit_audio.pretrain.guard import DivergenceError
from mergekit_audio.pretrain.stage_log import StageLog
from mergekit_audio.pretrain.work import StageFolder
from mergekit_audio.recipe.train import Stage
from mergekit_audio.recipe.train_arguments import TrainArguments


@dataclass(frozen=True)
class Rollback:
    """One return to a checkpoint.

    Parameters
    ----------
    step
        The step that went wrong.
    to_step
        The checkpoint's step; 0 is the stage's beginning.
    peak_lr
        The stage's peak from there on.
    reason
        What went wrong.
    """

    step: int
    to_step: int
    peak_lr: float
    reason: str


class Rollbacks:
    """The rollbacks of a stage, kept beside its checkpoints in ``rollbacks.json``.

    Parameters
    ----------
    folder
        The stage's folder.
    """

    def __init__(self, folder: StageFolder) -> None:
        self.folder = folder
        self.path = folder.folder / "rollbacks.json"

    def read(self) -> list[Rollback]:
        """Return the rollbacks so far.

        Raises
        ------
        InputError
            The file is damaged.
        """
        if not self.path.exists():
            return []
        try:
            return [Rollback(**row) for row in json.loads(self.path.read_text(encoding="utf-8"))]
        except (ValueError, TypeError) as error:
            raise InputError(
                f"{self.path}: can't read the stage's rollbacks: {error}",
                "add --force to train anew",
            ) from error

    def lowered(self, stage: Stage) -> Stage:
        """Return the stage with the peak that the rollbacks left; ``min_lr`` is at most that."""
        done = self.read()
        if not done:
            return stage
        peak = done[-1].peak_lr
        return stage.model_copy(update={"peak_lr": peak, "min_lr": min(stage.min_lr, peak)})

    def add(self, error: DivergenceError, stage: Stage, arguments: TrainArguments) -> Rollback:
        """Record one more rollback to the last checkpoint: ``peak_lr · rollback_factor``.

        Parameters
        ----------
        stage
            The stage as it was trained, with its peak of then.

        Raises
        ------
        DivergenceError
            The recipe stops at a divergence, or the stage was rolled back as often as it may.
        """
        if arguments.on_divergence != "rollback":
            raise error
        done = self.read()
        if len(done) >= arguments.max_rollbacks:
            raise DivergenceError(
                f"{error.message}; rolled back {len(done)} times already (max_rollbacks)",
                error.hint,
                step=error.step,
                reason=error.reason,
            ) from error
        made = Rollback(
            error.step,
            last_step(self.folder),
            stage.peak_lr * arguments.rollback_factor,
            error.reason,
        )
        write_json(self.path, [asdict(each) for each in [*done, made]])
        return made

    def log_again(self, log: StageLog, step: int) -> None:
        """Write the rollbacks to a step into a log that was just restored to that step."""
        for each in self.read():
            if each.to_step == step:
                log.event(step, "rollback", asdict(each))


def last_step(folder: StageFolder) -> int:
    """Return the step of a stage's last checkpoint, 0 when there is none."""
    checkpoints = folder.checkpoints()
    return int(checkpoints[-1].name.split("-")[1]) if checkpoints else 0


def follow_peak(optimizer: torch.optim.Optimizer, scheduler: Any, peak_lr: float) -> None:
    """Give a schedule that was restored from a checkpoint another peak.

    The rate of the next step becomes ``peak_lr · f(step)``, f the schedule's shape; groups with
    rates of their own keep their ratio to the first.

    Parameters
    ----------
    scheduler
        A ``torch.optim.lr_scheduler.LambdaLR``.
    """
    if not scheduler.base_lrs or scheduler.base_lrs[0] == peak_lr:
        return
    first = scheduler.base_lrs[0]
    scheduler.base_lrs = [peak_lr * (base / first) for base in scheduler.base_lrs]
    rates = _rates(scheduler.base_lrs, scheduler)
    for group, base, rate in zip(optimizer.param_groups, scheduler.base_lrs, rates, strict=True):
        group["initial_lr"], group["lr"] = base, rate
    scheduler._last_lr = rates


def _rates(peaks: Sequence[float], scheduler: Any) -> list[float]:
    return [
        peak * shape(scheduler.last_epoch)
        for peak, shape in zip(peaks, scheduler.lr_lambdas, strict=True)
    ]
