"""A frozen random projection of log-mel frames and the nearest random code: BEST-RQ's teacher."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mergekit_audio.progress import Progress, silent
from mergekit_audio.teachers.base import FittedTeacher, OpenTeacher

if TYPE_CHECKING:
    import torch


class RandomProjection(FittedTeacher):
    """Codes of the random-projection quantiser BEST-RQ (arXiv 2202.01855), as MusicFM sets it.

    MusicFM (arXiv 2311.03318) projects 4 stacked frames of 128 log-mel bands (40 ms), normalised
    by one mean and one deviation of a corpus, to 16 dimensions and takes the nearest of 4,096
    codes. Three frames of 320 samples are the same 40 ms. Nothing is learnt: fitting measures the
    mean and the deviation and draws projection and codes by the recipe's seed.
    """

    name: Literal["random_projection"] = "random_projection"
    """Always `random_projection`."""
    codebooks: int = Field(default=1, ge=1, le=32)
    """K independent projections, each with its codes."""
    codebook_size: int = Field(default=4096, ge=2, le=65_536)
    """Codes of a codebook."""
    codebook_dimension: int = Field(default=16, ge=1, le=256)
    """Dimensions that frames are projected to."""
    mel_bins: int = Field(default=128, ge=8, le=256)
    """Mel bands from 30 Hz to 12 kHz."""
    window: Literal[512, 1024, 2048, 4096, 8192] = 2048
    """Samples of a frame's Hann window at 24 kHz."""
    stack: int = Field(default=3, ge=1, le=16)
    """Neighbouring frames that are projected together, centred on the code's own."""
    normalisation: Literal["global", "band"] = "global"
    """`global` subtracts one mean and divides by one deviation, as MusicFM; `band` by each band's
    own, so that codes tell less of the average spectrum."""
    max_frames: int = Field(default=200_000, ge=2)
    """Means are taken over at most so many frames (75 a second), drawn evenly from the corpus."""
    final_size: int = Field(default=64, ge=1)
    """Width in which frames and codes are compared."""
    logit_temperature: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    """Cosine similarities are divided by it (fairseq's `logit_temp`)."""

    targets_are_cached: ClassVar[bool] = True
    kept: ClassVar[str] = "projection is"

    def fit(
        self,
        clips: Iterable[torch.Tensor],
        target: Path,
        *,
        seed: int,
        progress: Progress = silent,
    ) -> None:
        """Measure the log-mel frames of waveforms ``[S]``, draw the rest, and write ``target``.

        Raises
        ------
        InputError
            There are no clips, or all their frames are the same.
        """
        from mergekit_audio.teachers import _random_projection

        _random_projection.fit(
            clips,
            target,
            self._features(),
            self._shapes(),
            max_frames=self.max_frames,
            seed=seed,
            progress=progress,
        )

    def open_fitted(self, fitted: Path, device: str) -> OpenTeacher:
        """Return the teacher with the projection of ``fitted``; see `FittedTeacher`."""
        from mergekit_audio.teachers._random_projection import OpenRandomProjection

        return OpenRandomProjection(
            fitted,
            self._features(),
            self._shapes(),
            final_size=self.final_size,
            temperature=self.logit_temperature,
            device=device,
        )

    def _features(self) -> dict[str, int | str]:
        return {
            "mel_bins": self.mel_bins,
            "normalisation": self.normalisation,
            "stack": self.stack,
            "window": self.window,
        }

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        measured = self.mel_bins if self.normalisation == "band" else 1
        return {
            "codes": (self.codebooks, self.codebook_size, self.codebook_dimension),
            "deviation": (measured,),
            "mean": (measured,),
            "projection": (self.codebooks, self.stack * self.mel_bins, self.codebook_dimension),
        }
