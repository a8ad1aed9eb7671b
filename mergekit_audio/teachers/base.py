"""What a teacher is: it makes targets from clean audio, a head to predict them, and the loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from mergekit_audio.errors import InputError
from mergekit_audio.progress import Progress, silent

if TYPE_CHECKING:
    import torch
    from torch import nn


class Teacher(BaseModel, ABC):
    """The recipe's part of a teacher: its settings; ``name`` is its module's name."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )

    name: str
    """The teacher's name, its module's."""
    targets_are_cached: ClassVar[bool]
    """Targets are made once a segment and kept as uint16 codes, instead of once a crop."""
    weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Factor of this teacher's loss."""

    def fit(
        self,
        clips: Iterable[torch.Tensor],
        target: Path,
        *,
        seed: int,
        progress: Progress = silent,
    ) -> None:
        """Fit what the teacher needs on waveforms ``[S]`` and write it to ``target`` (safetensors).

        Teachers that need no fitting keep this; ``needs_fit`` tells.
        """

    @property
    def needs_fit(self) -> bool:
        """Whether ``open`` needs a file that ``fit`` wrote."""
        return False

    @abstractmethod
    def open(self, fitted: Path | None, *, root: Path, device: str = "cpu") -> OpenTeacher:
        """Return the teacher ready to work; ``root`` resolves relative paths of the settings."""


class FittedTeacher(Teacher):
    """A teacher that works with what ``fit`` wrote."""

    kept: ClassVar[str]
    """What ``fit`` writes, and its verb: ``means are``."""

    @property
    def needs_fit(self) -> bool:
        """Always true."""
        return True

    def open(self, fitted: Path | None, *, root: Path, device: str = "cpu") -> OpenTeacher:
        """Return the teacher with what is in ``fitted``.

        Raises
        ------
        InputError
            ``fitted`` is missing, damaged, or was fitted with other settings.
        """
        if fitted is None:
            raise InputError(
                f"{self.name} has not been fitted",
                f"train the base with this teacher, so that its {self.kept} kept with the base",
            )
        return self.open_fitted(fitted, device)

    @abstractmethod
    def open_fitted(self, fitted: Path, device: str) -> OpenTeacher:
        """Return the teacher with what is in ``fitted``.

        Raises
        ------
        InputError
            ``fitted`` is missing, damaged, or was fitted with other settings.
        """


class OpenTeacher(ABC):
    """A teacher ready to work. Frames are at the backbone's rate: 24,000 / 320 = 75 Hz."""

    digest: str
    """sha256 over everything that decides the targets (settings and weights)."""

    @abstractmethod
    def targets(self, wave: torch.Tensor) -> torch.Tensor:
        """Return the targets of clean waveforms ``[B, S]``.

        Codes are int64 ``[B, T, K]``, spectra float32 ``[B, T, F]``; T is the backbone's number of
        frames, 1 + (S - 400) // 320.
        """

    @abstractmethod
    def head(self, hidden_size: int) -> nn.Module:
        """Return a new head that maps frames ``[N, D]`` to the teacher's predictions."""

    @abstractmethod
    def loss(
        self, head: nn.Module, frames: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss summed over N masked frames (unweighted), and sums to log by name.

        ``frames`` ``[N, D]`` are the encoder's outputs at masked positions, ``target`` ``[N, …]``
        the targets there. The caller divides by the number of masked frames of the whole
        accumulation window and multiplies by ``weight``.
        """
