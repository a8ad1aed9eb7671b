"""A seeded synthesiser of five invented traditions: the demo's corpora, evidence of no music."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from mergekit_audio.datasets.base import Dataset
from mergekit_audio.progress import Progress, silent


class Synthetic(Dataset):
    """Clips of scales, metres and ornaments that sketch one of five traditions.

    All traditions share their instruments, drums and rooms; scale, metre, ornament and, mildly,
    accompaniment and tempo tell them apart. Every clip is drawn from (seed, culture, split, index).
    Training, validation and test share neither a tonic nor an artist nor a clip's seed. From 30
    tracks on, each split has positives and negatives of every label.
    """

    license: ClassVar[str] = "CC0-1.0"
    citation: ClassVar[str] = (
        "Synthetic audio made by mergekit_audio's demo synthesiser: simplified sketches that no "
        "musician has reviewed, not recordings. Scores on it say nothing about any real tradition."
    )
    terms_url: ClassVar[str] = "https://creativecommons.org/publicdomain/zero/1.0/"

    name: Literal["synthetic"] = "synthetic"
    """The dataset's name, its module's."""
    culture: Literal["western", "makam", "hindustani", "carnatic", "lyra"]
    """The tradition that is sketched."""
    tracks: int = Field(default=160, ge=5, le=100_000)
    """Clips in all: three fifths to train, one to validate, one to test."""
    duration_s: float = Field(default=10.0, ge=1.0, le=600.0, allow_inf_nan=False)
    """Length of each clip, in seconds."""
    seed: int = Field(default=0, ge=0)
    """Another seed gives other clips of the same labels."""

    def labels(self) -> tuple[str, ...]:
        """Return the tags that the tradition has, ``category--value``, sorted."""
        from mergekit_audio.datasets._traditions import TRADITIONS

        return TRADITIONS[self.culture].labels()

    def write(self, folder: Path, progress: Progress = silent, workers: int = 1) -> Path:
        """Write ``manifest.jsonl``, a dataset card and the audio files, and return the manifest.

        Files that are there with the content that was written are kept, all others are written
        anew; so a second call does nothing and an interrupted one is resumed.

        Parameters
        ----------
        folder
            Empty, missing, or holding this corpus (or a part of it).
        progress
            Told after each clip.
        workers
            Threads; the samples do not depend on it.

        Raises
        ------
        InputError
            The folder holds something else, or can't be written.
        """
        from mergekit_audio.datasets import _corpus

        settings = _corpus.Settings(
            culture=self.culture, tracks=self.tracks, duration_s=self.duration_s, seed=self.seed
        )
        return _corpus.write(settings, Path(folder), self._card(), progress, workers)

    def _card(self) -> str:
        labels = "\n".join(f"- `{label}`" for label in self.labels())
        return f"""---
license: {self.license.lower()}
tags: [synthetic, music]
---
# Synthetic corpus "{self.culture}"

**Synthetic.** {self.citation}

Made by `mergekit_audio`, dataset `synthetic`, culture `{self.culture}`, {self.tracks} tracks of
{self.duration_s:g} s, seed {self.seed}. The scales are one-octave tables, the metres one pattern
each, the instruments wavetables that all five invented traditions share. Splits share no tonic,
no artist and no clip. WAV, FLAC, OGG and MP3 at five sample rates, mono and stereo, so that it
takes the same road as any recordings. `checksums.jsonl` holds the sha256 of each audio file.

Labels:

{labels}
"""
