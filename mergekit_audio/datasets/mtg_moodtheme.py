"""The 56 moods and themes of MTG-Jamendo that all of its splits have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from mergekit_audio.datasets._mtg_jamendo import NOTES, MtgJamendo, checksums, sources
from mergekit_audio.datasets.base import Source

# All tags of the three files; MTG/mtg-jamendo-dataset 1b4fa8c, data/splits/split-0.
_TAGS = {
    "mood/theme": (
        "action adventure advertising background ballad calm children christmas commercial "
        "cool corporate dark deep documentary drama dramatic dream emotional energetic epic "
        "fast film fun funny game groovy happy heavy holiday hopeful inspiring love "
        "meditative melancholic melodic motivational movie nature party positive powerful "
        "relaxing retro romantic sad sexy slow soft soundscape space sport summer trailer "
        "travel upbeat uplifting"
    ),
}


class MtgMoodtheme(MtgJamendo):
    """The 56 moods and themes of MTG-Jamendo that all of its splits have, split 0.

    Read with the published files of commit 1b4fa8c; no recording was at hand.
    """

    title: ClassVar[str] = "MTG-Jamendo, mood and theme"
    subset: ClassVar[str] = "moodtheme"
    tags: ClassVar[Mapping[str, str]] = _TAGS
    splits: ClassVar[Mapping[str, int]] = {
        "train": 9_949,
        "valid": 3_802,
        "test": 4_231,
    }
    checksums: ClassVar[Mapping[str, str]] = checksums(
        "moodtheme",
        train="e5e9e798364b34bd241b773e5011809b24429edf471f27cf21dd8181077ba2d4",
        validation="ecaa279367153476884d84d686479e566234cef1814bd6892a8755ba0a550dbf",
        test="4341b5586bb3e5a80a882ce9ef33cb8b1bdaa7df856246ecc5de188dfe1cf394",
    )
    sources: ClassVar[tuple[Source, ...]] = sources("moodtheme")
    top_tags: ClassVar[int | None] = 56
    notes: ClassVar[str] = (
        f"{NOTES} "
        "Before it was split, the subset has 59 tags; those that a split lacks are left out."
    )

    name: Literal["mtg_moodtheme"] = "mtg_moodtheme"
    """The dataset's name, its module's."""
