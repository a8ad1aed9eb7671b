"""Turkish makam music of Dunya: makam, usul and instruments of whole recordings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from mergekit_audio.datasets._dunya import DunyaDataset, dunya_sources, named_artists
from mergekit_audio.datasets.base import Source

# The top 30 tags of the training split, with their number of test items: pxaris/ccml 1f20c2f,
# evaluation/makam.
_TEST_POSITIVES = {
    "instrument--Bendir": 65,
    "instrument--Cello": 171,
    "instrument--Clarinet": 60,
    "instrument--Classical kemençe": 254,
    "instrument--Kanun": 321,
    "instrument--Kudüm": 49,
    "instrument--Ney": 309,
    "instrument--Oud": 247,
    "instrument--Percussion": 112,
    "instrument--Tanbur": 314,
    "instrument--Viola": 42,
    "instrument--Violin": 177,
    "instrument--Voice": 650,
    "instrument--performing orchestra": 250,
    "makam--Hicaz": 126,
    "makam--Hüseyni": 29,
    "makam--Hüzzam": 65,
    "makam--Kürdilihicazkar": 50,
    "makam--Nihavent": 73,
    "makam--Rast": 42,
    "makam--Segah": 41,
    "makam--Uşşak": 60,
    "usul--Aksak": 106,
    "usul--Aksaksemai": 84,
    "usul--Ağıraksak": 41,
    "usul--Curcuna": 58,
    "usul--Devr-i Kebir": 28,
    "usul--Düyek": 94,
    "usul--Sofyan": 49,
    "usul--Yürüksemai": 44,
}


class Makam(DunyaDataset):
    """The Turkish makam corpus of Dunya with the splits and the 30 tags of ccml."""

    title: ClassVar[str] = "Dunya Turkish makam"
    max_duration_s: ClassVar[float | None] = 150.0
    splits: ClassVar[Mapping[str, int]] = {"train": 3_709, "valid": 529, "test": 1_059}
    checksums: ClassVar[Mapping[str, str]] = {
        "train.npy": "f96ec5d8a0c542038e9a2cf97ec4f5f32b74428d8f477e5635c4cffdf5143b52",
        "valid.npy": "444e64a42f932671ac6eac846f28d1a2d861e80d5782a264ef664e21d870f478",
        "test.npy": "a4e4de5ed06adc7d2bac1cf98f8be7a5e32d2a6d31e54af1b8376040be46b860",
    }
    sources: ClassVar[tuple[Source, ...]] = dunya_sources("makam")
    top_tags: ClassVar[int | None] = 30
    test_positives: ClassVar[Mapping[str, int]] = _TEST_POSITIVES
    fields: ClassVar[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
        ("makam", "makamlist", ("name",)),
        ("usul", "usullist", ("name",)),
        ("instrument", "performers", ("instrument", "name")),
    )

    name: Literal["makam"] = "makam"
    """The dataset's name, its module's."""
    culture: Literal["makam"] = "makam"
    """The tradition."""

    def artist_of(self, recording: dict[str, Any]) -> str | None:
        """Return who leads a recording, as its metadata say."""
        return named_artists(recording)
