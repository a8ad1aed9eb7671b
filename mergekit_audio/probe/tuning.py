"""Tune an encoder with its head for one task: train on random crops, score whole tracks."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mergekit_audio.errors import InputError
from mergekit_audio.files import explain_os_errors, staged_file
from mergekit_audio.probe.kinds import ValueScale, loss_of, loss_targets
from mergekit_audio.probe.scoring import SCORED_SPLITS, ProbeResult, track_predictions
from mergekit_audio.probe.splits import SplitData
from mergekit_audio.probe.task_metrics import score_task
from mergekit_audio.probe.tasks import PreparedTask
from mergekit_audio.probe.tuning_audio import TuningAudio
from mergekit_audio.probe.tuning_model import TunedModel
from mergekit_audio.recipe.tuning import Tuning, transfer_name
from mergekit_audio.transfers.base import Transfer

_DROPOUT = "dropout"


@dataclass(frozen=True)
class TuningJob:
    """One encoder to tune for one task with one seed.

    Parameters
    ----------
    task
        Audio, targets and splits.
    transfer, tuning
        What trains, and how.
    seed
        Draws initial values, order, crops and dropout.
    receptive_field
        Samples that give one frame.
    checkpoint
        The file of the work in progress.
    told
        Called with the steps done after each.
    """

    task: PreparedTask
    transfer: Transfer
    tuning: Tuning
    seed: int
    receptive_field: int
    checkpoint: Path
    told: Callable[[int], None]


def tune(job: TuningJob, build: Callable[[], TunedModel]) -> ProbeResult:
    """Train the model, restore the weights that validated best, and score validation and test.

    Everything random is a function of seed and step, and the state is written at each validation,
    so that a killed tuning goes on and gives the same scores to the last digit on a CPU. In the
    result ``best_epoch`` and ``epochs`` count validations.

    Raises
    ------
    InputError
        The loss is not finite, or the state can't be written.
    """
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=devices):
        tuner = _Tuner(job, build())
        tuner.resume()
        tuner.train()
        result = tuner.result()
    job.checkpoint.unlink(missing_ok=True)
    return result


def learning_rate_at(step: int, transfer: Transfer, tuning: Tuning) -> float:
    """Return the learning rate of a step, counted from 0.

    ``m + (r - m) · (1 + cos(π · step / max_steps)) / 2`` with r the transfer's rate and m
    ``min_learning_rate``; of ``probing`` always r.
    """
    rate = tuning.learning_rate_of(transfer)
    if transfer_name(transfer) == "probing":
        return rate
    share = (1 + math.cos(math.pi * step / tuning.max_steps)) / 2
    return tuning.min_learning_rate + (rate - tuning.min_learning_rate) * share


class _Tuner:
    """The state of a tuning: model, optimiser, step, and the best validation so far."""

    def __init__(self, job: TuningJob, model: TunedModel) -> None:
        self.job, self.model = job, model
        self.kind, self.labels = job.task.task.kind, job.task.labels
        self.audio = TuningAudio(job.task, job.tuning, job.receptive_field)
        self.targets = {
            split: job.task.targets[job.task.splits == split] for split in self.audio.tracks
        }
        self.scale = None
        if self.kind == "regression":
            self.scale = ValueScale.of(
                self.targets["train"], standardize=job.tuning.standardize_values
            )
        self.trained = [each for each in model.parameters() if each.requires_grad]
        self.optimizer = torch.optim.Adam(self.trained, lr=0.0, fused=True)
        tracks, size = len(self.audio.tracks["train"]), job.tuning.batch_size
        self.every = job.tuning.validate_every or math.ceil(tracks / size)
        self.step = 0
        self.history: list[float] = []
        self.best: dict[str, torch.Tensor] = {}

    def train(self) -> None:
        """Take the steps that are left; validate every so often and after the last."""
        steps = self.job.tuning.max_steps
        while self.step < steps:
            self._take_step()
            self.job.told(self.step)
            if self.step % self.every == 0 or self.step == steps:
                self._validate()
                if self.step < steps:
                    self._save()

    def result(self) -> ProbeResult:
        """Return the scores of the best weights, on all segments of each track."""
        self.model.load_trained(self.best)
        predictions = {split: self._of_segments(split) for split in SCORED_SPLITS}
        return ProbeResult(
            scores={
                split: score_task(self.kind, values, self.targets[split], self.labels, split=split)
                for split, values in predictions.items()
            },
            predictions=predictions,
            best_epoch=_earliest_best(self.history) + 1,
            epochs=len(self.history),
            layer_weights=None,
            penalty=None,
        )

    def resume(self) -> None:
        """Take up the state that an earlier call left."""
        path = self.job.checkpoint
        if not path.is_file():
            return
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            self.model.load_trained(state["trained"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.best, self.history = state["best"], list(state["history"])
            self.step = int(state["step"])
        except (OSError, RuntimeError, KeyError, ValueError, EOFError) as error:
            raise InputError(
                f"{path}: can't read the unfinished tuning: {error}",
                "delete the file and run the command again",
            ) from error

    def _save(self) -> None:
        state = {
            "step": self.step,
            "trained": self.model.trained_state(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "history": self.history,
        }
        path = self.job.checkpoint
        with explain_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with staged_file(path) as staging, open(staging, "wb") as stream:
                torch.save(state, stream)

    def _take_step(self) -> None:
        rate = learning_rate_at(self.step, self.job.transfer, self.job.tuning)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        rows = self.audio.training_rows(self.step, self.job.seed)
        waves = self.audio.training_crops(self.step, rows, self.job.seed)
        targets = loss_targets(self.kind, self.targets["train"][rows], self.scale)
        self.model.train()
        torch.manual_seed(_seed_of(self.job.seed, _DROPOUT, self.step))
        self.optimizer.zero_grad(set_to_none=True)
        loss = loss_of(self.kind)(self.model(waves), targets.to(self.model.device))
        if not math.isfinite(loss.item()):
            names = ", ".join(self.audio.names("train", rows.tolist()))
            raise InputError(
                f"the loss became {loss.item()} at step {self.step + 1} (tracks: {names})",
                f"lower tuning.learning_rates.{transfer_name(self.job.transfer)}",
            )
        loss.backward()  # type: ignore[no-untyped-call]
        if self.job.tuning.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.trained, self.job.tuning.gradient_clip)
        self.optimizer.step()
        self.step += 1

    def _validate(self) -> None:
        if self.job.tuning.validation == "segments":
            predictions = self._of_segments("valid")
        else:
            waves = self.audio.valid_crops(len(self.history), self.job.seed)
            predictions = self._predictions(
                self._pooled(waves), "valid", np.arange(len(waves), dtype=np.int64)
            )
        scores = score_task(
            self.kind, predictions, self.targets["valid"], self.labels, split="valid"
        )
        tagging = self.kind == "tagging"
        score = scores.macro(self.job.tuning.monitor if tagging else self.job.task.metrics[0])
        self.history.append(score)
        if _earliest_best(self.history) == len(self.history) - 1:
            self.best = self.model.trained_state()

    def _of_segments(self, split: str) -> NDArray[np.float64]:
        """Return each track's mean prediction over its segments, ``[tracks, outputs]``."""
        segments, firsts = self.audio.segments(split)
        size = self.job.tuning.batch_size
        parts = []
        for first in range(0, len(segments), size):
            batch = segments[first : first + size]
            parts.append(self._pooled([self.audio.wave(split, *each) for each in batch]))
        return self._predictions(torch.cat(parts), split, firsts)

    def _pooled(self, waves: list[NDArray[np.float32]]) -> torch.Tensor:
        self.model.eval()
        size = self.job.tuning.batch_size
        with torch.inference_mode():
            parts = [
                self.model.pooled(waves[first : first + size])
                for first in range(0, len(waves), size)
            ]
        return torch.cat(parts)

    def _predictions(
        self, pooled: torch.Tensor, split: str, firsts: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        data = SplitData(pooled, firsts, self.targets[split])
        return track_predictions(
            lambda features: self.model.head(features).cpu(),
            data,
            "mean_probability",
            self.kind,
            self.scale,
        )


def _earliest_best(history: list[float]) -> int:
    return max(range(len(history)), key=lambda turn: (history[turn], -turn))


def _seed_of(*words: object) -> int:
    digest = hashlib.sha256("/".join(map(str, ("tuning", *words))).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
