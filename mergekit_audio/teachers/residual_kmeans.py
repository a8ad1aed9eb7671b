"""Residual k-means over log-mel frames: acoustic codes fitted on the base corpus, no download."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mergekit_audio.progress import Progress, silent
from mergekit_audio.teachers.base import FittedTeacher, OpenTeacher

if TYPE_CHECKING:
    import torch


class ResidualKmeans(FittedTeacher):
    """K residual k-means codebooks of log-mel frames, in the place of EnCodec's codebooks.

    HuBERT (arXiv 2106.07447, section III-A) and the ablation of MERT (arXiv 2306.00107) predict
    k-means clusters of spectral frames; the residual codebooks are EnCodec's idea.
    """

    name: Literal["residual_kmeans"] = "residual_kmeans"
    """Always `residual_kmeans`."""
    codebooks: int = Field(default=8, ge=1, le=32)
    """K codebooks, each clustering what those before it left over."""
    codebook_size: int = Field(default=1024, ge=2, le=65_536)
    """Codes of a codebook."""
    mel_bins: int = Field(default=80, ge=8, le=256)
    """Mel bands from 30 Hz to 12 kHz."""
    window: Literal[512, 1024, 2048, 4096, 8192] = 2048
    """Samples of a frame's Hann window at 24 kHz."""
    iterations: int = Field(default=25, ge=1)
    """At most so many of Lloyd's iterations a codebook."""
    max_frames: int = Field(default=200_000, ge=2)
    """At most so many frames are clustered (75 a second), drawn evenly from the corpus."""
    final_size: int = Field(default=64, ge=1)
    """Width in which frames and codes are compared."""
    logit_temperature: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    """Cosine similarities are divided by it (fairseq's `logit_temp`)."""

    targets_are_cached: ClassVar[bool] = True
    kept: ClassVar[str] = "codebooks are"

    def fit(
        self,
        clips: Iterable[torch.Tensor],
        target: Path,
        *,
        seed: int,
        progress: Progress = silent,
    ) -> None:
        """Cluster the log-mel frames of waveforms ``[S]`` and write the codebooks to ``target``.

        Raises
        ------
        InputError
            The clips hold fewer different frames than a codebook has codes.
        """
        from mergekit_audio.teachers import _residual_kmeans

        _residual_kmeans.fit(
            clips,
            target,
            self._features(),
            codebooks=self.codebooks,
            size=self.codebook_size,
            iterations=self.iterations,
            max_frames=self.max_frames,
            seed=seed,
            progress=progress,
        )

    def open_fitted(self, fitted: Path, device: str) -> OpenTeacher:
        """Return the teacher with the codebooks of ``fitted``; see `FittedTeacher`."""
        from mergekit_audio.teachers._residual_kmeans import OpenResidualKmeans

        return OpenResidualKmeans(
            fitted,
            self._features(),
            (self.codebooks, self.codebook_size),
            final_size=self.final_size,
            temperature=self.logit_temperature,
            device=device,
        )

    def _features(self) -> dict[str, int]:
        return {"mel_bins": self.mel_bins, "window": self.window}
