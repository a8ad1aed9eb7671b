"""CQT reconstruction: the musical teacher that predicts the constant-Q spectrum of clean frames."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from mergekit_audio.teachers.base import OpenTeacher, Teacher

_NYQUIST_HZ = 12_000.0


class Cqt(Teacher):
    """The CQT of the clean crop, predicted by a linear head under a mean squared error.

    MERT (arXiv 2306.00107, equation 3) takes 336 bins, 48 an octave, linear magnitude.
    """

    name: Literal["cqt"] = "cqt"
    """Always `cqt`."""
    bins: int = Field(default=336, ge=1, le=1024)
    """Frequencies f_k = lowest_hz · 2^(k / bins_per_octave)."""
    bins_per_octave: int = Field(default=48, ge=1, le=192)
    """48 resolve quarter tones and commas; 12 are semitones."""
    lowest_hz: float = Field(default=32.7, gt=0, allow_inf_nan=False)
    """The lowest frequency; 32.7 Hz is C1."""
    magnitude: Literal["log", "linear"] = "linear"
    """`linear` is |C| as in MERT; `log` is ln(1 + 100 |C|), in which soft notes count too."""

    targets_are_cached: ClassVar[bool] = False

    @model_validator(mode="after")
    def _below_nyquist(self) -> Self:
        ratio = 2.0 ** (1.0 / self.bins_per_octave)
        # The Hann window's main lobe reaches two bins of its own length beyond its centre.
        highest = self.lowest_hz * ratio ** (self.bins - 1) * (1.0 + 2.0 * (ratio - 1.0))
        if highest > _NYQUIST_HZ:
            raise ValueError(
                f"{self.bins} bins, {self.bins_per_octave} an octave, from {self.lowest_hz:g} Hz "
                f"reach {highest:.0f} Hz, above the {_NYQUIST_HZ:.0f} Hz of 24-kHz audio"
            )
        return self

    def open(self, fitted: Path | None, *, root: Path, device: str = "cpu") -> OpenTeacher:
        """Return the teacher; it needs no file."""
        from mergekit_audio.teachers._cqt import OpenCqt

        settings = self.model_dump(include={"bins", "bins_per_octave", "lowest_hz", "magnitude"})
        return OpenCqt(settings, device)
