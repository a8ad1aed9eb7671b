"""Carnatic music of Dunya: raga, tala, form and instruments of whole recordings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from mergekit_audio.datasets._dunya import DunyaDataset, dunya_sources, lead_artist
from mergekit_audio.datasets.base import Source

# The top 20 tags of the training split, with their number of test items: pxaris/ccml 1f20c2f,
# evaluation/carnatic.
_TEST_POSITIVES = {
    "form--Alapana": 35,
    "form--Kriti": 357,
    "form--Mangalam": 13,
    "form--Pallavi": 17,
    "form--Thillana": 16,
    "form--Varnam - Tana Varnam": 36,
    "instrument--Ghatam": 165,
    "instrument--Khanjira": 88,
    "instrument--Morsing": 17,
    "instrument--Mridangam": 408,
    "instrument--Violin": 437,
    "instrument--Voice": 432,
    "raga--bhairavi": 8,
    "raga--kalyani": 10,
    "raga--ragamalika": 14,
    "raga--thodi": 12,
    "tala--adi": 276,
    "tala--khanda chapu": 19,
    "tala--mishra chapu": 30,
    "tala--rupaka": 60,
}


class Carnatic(DunyaDataset):
    """The Carnatic corpus of Dunya with the splits and the 20 tags of ccml."""

    title: ClassVar[str] = "Dunya Carnatic"
    max_duration_s: ClassVar[float | None] = 330.0
    splits: ClassVar[Mapping[str, int]] = {"train": 1_829, "valid": 261, "test": 522}
    checksums: ClassVar[Mapping[str, str]] = {
        "train.npy": "e1df8c567f69ac0e7680e507f8527b02e5fb13b95daabf5926584c03b3722078",
        "valid.npy": "4bdb61f90b38291c44bcee81d0a524c3baa00ff42ebe88767945f63eff3b03d9",
        "test.npy": "7475afb6709d75bc80211c2af237c132bfb442903edb0cd65f304c1f14d98fce",
    }
    sources: ClassVar[tuple[Source, ...]] = dunya_sources("carnatic")
    top_tags: ClassVar[int | None] = 20
    test_positives: ClassVar[Mapping[str, int]] = _TEST_POSITIVES
    fields: ClassVar[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
        ("raga", "raaga", ("common_name",)),
        ("tala", "taala", ("common_name",)),
        ("instrument", "artists", ("instrument", "name")),
        ("form", "form", ("name",)),
    )

    name: Literal["carnatic"] = "carnatic"
    """The dataset's name, its module's."""
    culture: Literal["carnatic"] = "carnatic"
    """The tradition."""

    def artist_of(self, recording: dict[str, Any]) -> str | None:
        """Return who leads a recording, as its metadata say."""
        return lead_artist(recording)
