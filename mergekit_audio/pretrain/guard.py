"""Watch a stage's loss: what is not finite or diverges ends it, and the last checkpoint is good."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from mergekit_audio.errors import InputError
from mergekit_audio.pretrain.stage_log import StageLog
from mergekit_audio.pretrain.work import StageFolder
from mergekit_audio.recipe.train import Stage
from mergekit_audio.recipe.train_arguments import TrainArguments

_NAMED_CLIPS = 12


class DivergenceError(InputError):
    """A stage went wrong at a step.

    Parameters
    ----------
    message, hint
        What happened, with the step, the clips and the last good checkpoint, and what to do.
    step
        The optimiser step, from 1.
    reason
        What went wrong, in a few words.
    """

    def __init__(self, message: str, hint: str, *, step: int, reason: str) -> None:
        super().__init__(message, hint)
        self.step = step
        self.reason = reason


class Guard:
    """Judges the loss and the gradient of every step.

    A step is *high* when its loss is above ``factor`` times the median of the last ``window`` steps
    that were not high. Each high step is logged as a spike with its clips; ``steps`` of them in a
    row are a divergence. While the last step was high no checkpoint is written, so that every
    checkpoint is one of a loss in order.

    Parameters
    ----------
    stage, arguments
        The stage and the recipe's settings.
    folder
        Where the stage's checkpoints stand.
    log
        Gets a line for every spike; None where another process keeps the log.
    """

    def __init__(
        self, stage: Stage, arguments: TrainArguments, folder: StageFolder, log: StageLog | None
    ) -> None:
        self.stage = stage
        self.arguments = arguments
        self.folder = folder
        self.log = log
        self._losses: list[float] = []
        self._high_steps = 0

    @property
    def is_in_order(self) -> bool:
        """Whether the last step's loss was not high, so that a checkpoint may be written."""
        return self._high_steps == 0

    def require_finite(self, step: int, what: str, value: float, tracks: Sequence[str]) -> None:
        """Check a loss or a gradient's norm before the optimiser's step.

        Parameters
        ----------
        step
            The step in hand, from 1.
        what
            What the value is, for the message.
        tracks
            The clips of the step, ``corpus/track id``.

        Raises
        ------
        DivergenceError
            The value is NaN or infinite.
        """
        if not math.isfinite(value):
            raise self._diverged(step, f"the {what} is {value}", tracks)

    def end_step(self, step: int, loss: float, tracks: Sequence[str]) -> None:
        """Judge a finished step.

        Raises
        ------
        DivergenceError
            The loss is not finite, or it is the last of ``steps`` high steps in a row.
        """
        self.require_finite(step, "loss", loss, tracks)
        rule = self.arguments.divergence
        if rule is None:
            return
        median = statistics.median(self._losses) if len(self._losses) >= rule.steps else None
        if median is None or loss <= rule.factor * median:
            self._high_steps = 0
            self._losses = [*self._losses, loss][-rule.window :]
            return
        self._high_steps += 1
        spike = {"loss": loss, "median": median, "tracks": sorted(set(tracks))}
        if self.log is not None:
            self.log.event(step, "spike", spike)
        if self._high_steps >= rule.steps:
            reason = (
                f"the loss is {loss:.4g}, for {rule.steps} steps above {rule.factor:g} times the "
                f"running median {median:.4g}"
            )
            raise self._diverged(step, reason, tracks)

    def state(self) -> dict[str, Any]:
        """Return what a resumed guard needs, as JSON values."""
        return {"losses": self._losses, "high_steps": self._high_steps}

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Go back to a checkpoint's ``guard``, or to the stage's beginning."""
        own = state["guard"] if state else {}
        self._losses = list(own.get("losses", []))
        self._high_steps = int(own.get("high_steps", 0))

    def _diverged(self, step: int, reason: str, tracks: Sequence[str]) -> DivergenceError:
        stage = self.stage
        checkpoints = self.folder.checkpoints()
        good = (
            f"last good checkpoint: {checkpoints[-1]}"
            if checkpoints
            else "no checkpoint yet: the last good weights are those that the stage began with"
        )
        rollback = (
            ""
            if self.arguments.on_divergence == "rollback"
            else "; --set arguments.on_divergence=rollback goes on from that checkpoint by itself"
        )
        return DivergenceError(
            f"stage {stage.name!r}, step {step} of {stage.steps}: {reason}; "
            f"clips of this step: {_listed(tracks)}; {good}",
            f"try a lower peak_lr (now {stage.peak_lr:g}), a higher warmup_ratio (now "
            f"{stage.warmup_ratio:g}), a smaller max_grad_norm, or precision fp32; the same "
            f"recipe goes wrong at the same step again{rollback}",
            step=step,
            reason=reason,
        )


def _listed(tracks: Sequence[str]) -> str:
    names = sorted(set(tracks))
    more = f" and {len(names) - _NAMED_CLIPS} more" if len(names) > _NAMED_CLIPS else ""
    return ", ".join(names[:_NAMED_CLIPS]) + more
