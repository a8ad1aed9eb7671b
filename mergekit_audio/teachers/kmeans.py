"""k-means of log-mel and of chroma frames: MERT's first acoustic teacher, without any download."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mergekit_audio.progress import Progress, silent
from mergekit_audio.teachers.base import FittedTeacher, OpenTeacher

if TYPE_CHECKING:
    import torch

_UINT16_VALUES = 65_536


class Kmeans(FittedTeacher):
    """A timbre code, the cluster of a log-mel frame, and a harmony code, that of a chroma frame.

    MERT (arXiv 2306.00107, section 3.2) takes 300 means of 229 log-mel bands and 200 means of 264
    chroma bins. Windows, the range of frequencies, the clusters' sample, and whether the two codes
    are predicted separately or as one of 300 · 200 classes are not in the paper or its code: they
    are this teacher's own settings.
    """

    name: Literal["kmeans"] = "kmeans"
    """Always `kmeans`."""
    mel_codes: int = Field(default=300, ge=2, le=65_536)
    """Clusters of log-mel frames."""
    chroma_codes: int = Field(default=200, ge=2, le=65_536)
    """Clusters of chroma frames."""
    mel_bins: int = Field(default=229, ge=8, le=256)
    """Mel bands from 30 Hz to 12 kHz."""
    chroma_bins: int = Field(default=264, ge=12, le=480)
    """Pitch classes of an octave; 264 are 22 a semitone, so that no tuning is assumed."""
    mel_window: Literal[512, 1024, 2048, 4096, 8192] = 2048
    """Samples of a log-mel frame's Hann window at 24 kHz."""
    chroma_window: Literal[2048, 4096, 8192, 16384] = 8192
    """Samples of a chroma frame's Hann window: 8,192 tell 6 Hz apart."""
    classes: Literal["separate", "product"] = "separate"
    """`separate` predicts the two codes side by side, `product` their pair as one class."""
    iterations: int = Field(default=25, ge=1)
    """At most so many of Lloyd's iterations each."""
    max_frames: int = Field(default=100_000, ge=2)
    """At most so many frames are clustered (75 a second), drawn evenly from the corpus."""
    final_size: int = Field(default=64, ge=1)
    """Width in which frames and codes are compared."""
    logit_temperature: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    """Cosine similarities are divided by it (fairseq's `logit_temp`)."""

    targets_are_cached: ClassVar[bool] = True
    kept: ClassVar[str] = "means are"

    @model_validator(mode="after")
    def _fit_16_bits(self) -> Self:
        pairs = self.mel_codes * self.chroma_codes
        if self.classes == "product" and pairs > _UINT16_VALUES:
            raise ValueError(
                f"{self.mel_codes} mel_codes times {self.chroma_codes} chroma_codes are {pairs} "
                f"classes, more than the {_UINT16_VALUES} that codes of 16 bits tell apart"
            )
        return self

    def fit(
        self,
        clips: Iterable[torch.Tensor],
        target: Path,
        *,
        seed: int,
        progress: Progress = silent,
    ) -> None:
        """Cluster frames of waveforms ``[S]`` and write both sets of means to ``target``.

        Raises
        ------
        InputError
            The clips hold fewer different frames than there are codes.
        """
        from mergekit_audio.teachers import _two_kmeans

        _two_kmeans.fit(
            clips,
            target,
            self._features(),
            codes=(self.mel_codes, self.chroma_codes),
            iterations=self.iterations,
            max_frames=self.max_frames,
            seed=seed,
            progress=progress,
        )

    def open_fitted(self, fitted: Path, device: str) -> OpenTeacher:
        """Return the teacher with the means of ``fitted``; see `FittedTeacher`."""
        from mergekit_audio.teachers._two_kmeans import OpenKmeans

        return OpenKmeans(
            fitted,
            self._features(),
            (self.mel_codes, self.chroma_codes),
            pairs=self.classes == "product",
            final_size=self.final_size,
            temperature=self.logit_temperature,
            device=device,
        )

    def _features(self) -> dict[str, int]:
        return {
            "chroma_bins": self.chroma_bins,
            "chroma_window": self.chroma_window,
            "mel_bins": self.mel_bins,
            "mel_window": self.mel_window,
        }
