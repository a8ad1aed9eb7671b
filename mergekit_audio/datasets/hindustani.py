"""Hindustani music of Dunya: raga, tala, form and instruments of whole recordings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from mergekit_audio.datasets._dunya import DunyaDataset, dunya_sources, lead_artist
from mergekit_audio.datasets.base import Source

# The top 20 tags of the training split, with their number of test items: pxaris/ccml 1f20c2f,
# evaluation/hindustani.
_TEST_POSITIVES = {
    "form--Bhajan": 8,
    "form--Dhrupad": 18,
    "form--Khayal": 98,
    "form--Tarana": 6,
    "form--Thumri": 16,
    "instrument--Bansuri": 2,
    "instrument--Harmonium": 96,
    "instrument--Pakhavaj": 19,
    "instrument--Sarangi": 18,
    "instrument--Sitar": 12,
    "instrument--Tabla": 128,
    "instrument--Tambura": 62,
    "instrument--Voice": 206,
    "raga--Bageshree": 4,
    "raga--Bhairabi": 9,
    "raga--Yaman kalyan": 8,
    "tala--Ektaal": 40,
    "tala--Jhaptaal": 9,
    "tala--Rupak": 6,
    "tala--Teentaal": 84,
}


class Hindustani(DunyaDataset):
    """The Hindustani corpus of Dunya with the splits and the 20 tags of ccml."""

    title: ClassVar[str] = "Dunya Hindustani"
    max_duration_s: ClassVar[float | None] = 780.0
    splits: ClassVar[Mapping[str, int]] = {"train": 844, "valid": 120, "test": 240}
    checksums: ClassVar[Mapping[str, str]] = {
        "train.npy": "60f6d458807413c232467ebdecc9b601bfabf4409dced85e21d3303a31362d54",
        "valid.npy": "a74786b1e750f74666df4f772cdce3c389d563f4a8de79c62735afc3dfc0c4d9",
        "test.npy": "5bd84332a665c4abc48c4eb2456a257b1744b7082c51c8c6b970c1b0e02ba0fd",
    }
    sources: ClassVar[tuple[Source, ...]] = dunya_sources("hindustani")
    top_tags: ClassVar[int | None] = 20
    test_positives: ClassVar[Mapping[str, int]] = _TEST_POSITIVES
    notes: ClassVar[str] = (
        f"{DunyaDataset.notes} The list is that of 2023: a crawl of 2024 gave Sarod for Bansuri."
    )
    fields: ClassVar[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
        ("raga", "raags", ("common_name",)),
        ("tala", "taals", ("common_name",)),
        ("instrument", "artists", ("instrument", "name")),
        ("form", "forms", ("common_name",)),
    )

    name: Literal["hindustani"] = "hindustani"
    """The dataset's name, its module's."""
    culture: Literal["hindustani"] = "hindustani"
    """The tradition."""

    def artist_of(self, recording: dict[str, Any]) -> str | None:
        """Return who leads a recording, as its metadata say."""
        return lead_artist(recording)
