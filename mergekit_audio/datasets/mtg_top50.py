"""The 50 most frequent tags of MTG-Jamendo: genres, instruments, moods and themes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from mergekit_audio.datasets._mtg_jamendo import MtgJamendo, checksums, sources
from mergekit_audio.datasets.base import Source

# All tags of the three files; MTG/mtg-jamendo-dataset 1b4fa8c, data/splits/split-0.
_TAGS = {
    "genre": (
        "alternative ambient atmospheric chillout classical dance downtempo easylistening "
        "electronic experimental folk funk hiphop house indie instrumentalpop jazz lounge "
        "metal newage orchestral pop popfolk poprock reggae rock soundtrack techno trance "
        "triphop world"
    ),
    "instrument": (
        "acousticguitar bass computer drummachine drums electricguitar electricpiano guitar "
        "keyboard piano strings synthesizer violin voice"
    ),
    "mood/theme": ("emotional energetic film happy relaxing"),
}


class MtgTop50(MtgJamendo):
    """The 50 most frequent tags of MTG-Jamendo: genres, instruments, moods and themes, split 0.

    Read with the published files of commit 1b4fa8c; no recording was at hand.
    """

    title: ClassVar[str] = "MTG-Jamendo, top 50 tags"
    subset: ClassVar[str] = "top50tags"
    tags: ClassVar[Mapping[str, str]] = _TAGS
    splits: ClassVar[Mapping[str, int]] = {
        "train": 32_136,
        "valid": 10_888,
        "test": 11_356,
    }
    checksums: ClassVar[Mapping[str, str]] = checksums(
        "top50tags",
        train="6dee445ddd1901286184c2059d3d5eef7486f083ae80de9011705f852a850dde",
        validation="4f5f0f0a7662f523b45727476f67d799d6e98151b2c585a8e94e19d980ad93c1",
        test="3ede06a35e6cb27e1dbe8cfc84708a607622e30e5cd0a7199fce6c081124bc35",
    )
    sources: ClassVar[tuple[Source, ...]] = sources("top50tags")
    top_tags: ClassVar[int | None] = 50

    name: Literal["mtg_top50"] = "mtg_top50"
    """The dataset's name, its module's."""
