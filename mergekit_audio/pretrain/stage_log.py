"""What a stage tells while it trains: log.jsonl without times, speed, TensorBoard if installed."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from mergekit_audio.pretrain.objective import Objective


class StageLog:
    """Sums of the steps since the last line, and the lines.

    A line holds means over the masked frames of its steps: ``loss`` (all parts, weighted),
    ``feature_penalty``, and of each teacher ``<teacher>/loss`` and what the teacher adds up; and
    ``gradient_norm``, their mean, and ``gradient_norm/<group>``, those of the line's last step.

    Parameters
    ----------
    path
        The stage's ``log.jsonl``.
    stage
        The stage's name.
    every
        Steps of a line.
    steps
        Steps of the stage; the last one always ends a line.
    weights
        Factors of the teachers' losses.
    feature_penalty
        Factor of the penalty.
    board
        A TensorBoard writer, or None.
    speed_path
        Where seconds of audio per second go, apart from the log, whose bytes hold no times.
    step_audio_s
        Seconds of audio of an optimiser step.
    """

    def __init__(
        self,
        path: Path,
        *,
        stage: str,
        every: int,
        steps: int,
        weights: Mapping[str, float],
        feature_penalty: float,
        board: Any = None,
        speed_path: Path | None = None,
        step_audio_s: float = 0.0,
    ) -> None:
        self.path = path
        self.stage = stage
        self.every = every
        self.steps = steps
        self.weights = dict(weights)
        self.feature_penalty = feature_penalty
        self.board = board
        self.speed_path = speed_path
        self.step_audio_s = step_audio_s
        self.audio_per_second: float | None = None
        self._clock: tuple[int, float] | None = None
        self._group_norms: dict[str, float] = {}
        self._names: list[str] = []
        self._sums: torch.Tensor | None = None
        self._norms: list[float] = []

    def add(self, objective: Objective) -> None:
        """Add a micro-batch; nothing waits for the device."""
        parts: dict[str, Any] = {
            "masked_frames": objective.masked_frames,
            "feature_penalty": objective.penalty.detach() * objective.masked_frames,
        }
        for teacher, part in objective.teachers.items():
            parts[f"{teacher}/loss"] = part.total.detach()
            for name, value in part.sums.items():
                parts[f"{teacher}/{name}"] = value.detach()
        device = objective.penalty.device
        values = torch.stack(
            [torch.as_tensor(value, dtype=torch.float64, device=device) for value in parts.values()]
        )
        self._names = list(parts)
        self._sums = values if self._sums is None else self._sums.to(device) + values

    def gather(self, total: Callable[[torch.Tensor], torch.Tensor], *, keeps: bool) -> None:
        """Replace the sums by those of all processes; only the one that ``keeps`` them goes on.

        Parameters
        ----------
        total
            Adds a tensor up over the processes.
        """
        assert self._sums is not None
        sums = total(self._sums)
        self._sums = sums if keeps else None

    def end_step(self, step: int, learning_rate: float, gradient_norm: float | None) -> None:
        """Count a step, and write a line when one is due."""
        if self._sums is None:  # another process keeps them
            return
        if gradient_norm is not None:
            self._norms.append(gradient_norm)
        if not self.ends_line(step):
            return
        line = self._line(step, learning_rate)
        self._append(self.path, line)
        self._scalars(step, line)
        self._sums, self._norms, self._group_norms = None, [], {}
        self._log_speed(step)

    def ends_line(self, step: int) -> bool:
        """Whether a line is due after a step."""
        return step % self.every == 0 or step == self.steps

    def add_group_norms(self, norms: Mapping[str, float]) -> None:
        """Take the gradient's norm by parameter group, of the step that ends the line."""
        self._group_norms = {name: value for name, value in norms.items() if math.isfinite(value)}

    def event(self, step: int, name: str, value: Mapping[str, Any]) -> None:
        """Write a line ``{stage, step, name: value}`` at once; its numbers go to the board.

        Parameters
        ----------
        name
            ``spike``, ``rollback`` or ``forgetting``.
        value
            JSON values; numbers at any depth are scalars ``name/key/…``.
        """
        self._append(self.path, {"stage": self.stage, "step": step, name: value})
        self._scalars(step, dict(_numbers(name, value)))

    def start_clock(self, step: int) -> None:
        """Begin to measure the speed."""
        self._clock = (step, time.monotonic())

    def _log_speed(self, step: int) -> None:
        now = time.monotonic()
        if self._clock is not None and step > self._clock[0]:
            first, start = self._clock
            seconds = max(now - start, 1e-9)
            self.audio_per_second = (step - first) * self.step_audio_s / seconds
            speed = {"seconds": seconds, "audio_seconds_per_second": self.audio_per_second}
            if self.speed_path is not None:
                self._append(self.speed_path, {"stage": self.stage, "step": step, **speed})
            self._scalars(step, {"audio_seconds_per_second": self.audio_per_second})
        self._clock = (step, now)

    def _append(self, path: Path, line: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, allow_nan=False) + "\n")

    def _scalars(self, step: int, values: Mapping[str, Any]) -> None:
        if self.board is None:
            return
        for name, value in values.items():
            if name not in ("stage", "step"):
                self.board.add_scalar(name, value, step)

    def state(self) -> dict[str, Any]:
        """Return what a resumed log needs, as JSON values."""
        return {
            "bytes": self.path.stat().st_size if self.path.exists() else 0,
            "names": self._names,
            "sums": None if self._sums is None else self._sums.tolist(),
            "norms": self._norms,
        }

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Go back to a saved state, or to the stage's beginning; later lines are cut off."""
        self._names = list(state["names"]) if state else []
        self._norms = list(state["norms"]) if state else []
        sums = state["sums"] if state else None
        self._sums = None if sums is None else torch.tensor(sums, dtype=torch.float64)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab") as stream:
            stream.truncate(int(state["bytes"]) if state else 0)

    def _line(self, step: int, learning_rate: float) -> dict[str, Any]:
        assert self._sums is not None
        sums = dict(zip(self._names, self._sums.tolist(), strict=True))
        frames = sums.pop("masked_frames")
        means = {name: value / frames for name, value in sums.items()}
        loss = self.feature_penalty * means["feature_penalty"] + sum(
            weight * means[f"{teacher}/loss"] for teacher, weight in self.weights.items()
        )
        finite = [norm for norm in self._norms if math.isfinite(norm)]
        line: dict[str, Any] = {
            "stage": self.stage,
            "step": step,
            "learning_rate": learning_rate,
            "loss": loss,
            "masked_frames": int(frames),
        }
        if finite:
            line["gradient_norm"] = sum(finite) / len(finite)
        norms = {f"gradient_norm/{name}": value for name, value in self._group_norms.items()}
        return line | norms | means


def _numbers(prefix: str, value: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, each in value.items():
        if isinstance(each, Mapping):
            yield from _numbers(f"{prefix}/{name}", each)
        elif isinstance(each, int | float):
            yield f"{prefix}/{name}", each


def open_board(folder: Path, *, first_step: int) -> Any:
    """Return a TensorBoard writer that hides what it held after ``first_step``, or None."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    purge_step = first_step + 1 if folder.exists() else None
    return SummaryWriter(str(folder), purge_step=purge_step)
