"""Lyra: Greek traditional and folk music, with instruments, genres and places."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from mergekit_audio.datasets._files import Faults
from mergekit_audio.datasets.base import Item, Listing, PublicDataset, Source

# The top 30 tags of training.tsv, with their number of test items: pxaris/ccml 1f20c2f,
# evaluation/lyra; the tag rule gives the same from the files.
_TEST_POSITIVES = {
    "genres--Aegean": 30,
    "genres--Epirotic": 30,
    "genres--Laiko": 8,
    "genres--Macedonian": 15,
    "genres--Mikrasiatiko": 38,
    "genres--Nisiotiko": 64,
    "genres--Peloponnesian": 10,
    "genres--Rebetiko": 36,
    "genres--Traditional": 277,
    "instruments--Accordion": 56,
    "instruments--Bass": 38,
    "instruments--Bouzouki": 41,
    "instruments--Guitar": 156,
    "instruments--Kanonaki": 31,
    "instruments--Klarino": 120,
    "instruments--Laouto": 141,
    "instruments--Lyra": 42,
    "instruments--Mandolin": 10,
    "instruments--Oud": 47,
    "instruments--Percussion": 186,
    "instruments--Piano": 3,
    "instruments--Santouri": 39,
    "instruments--Violin": 171,
    "instruments--Voice": 223,
    "place--Aegean-sea": 30,
    "place--Asia-minor": 38,
    "place--Epirus": 30,
    "place--Macedonia": 15,
    "place--None": 61,
    "place--Peloponnese": 10,
}

_CATEGORIES = ("instruments", "genres", "place")
_VALID_SHARE, _VALID_SEED = 0.1, 10


class Lyra(PublicDataset):
    """Lyra with its published training and test files and the 30 tags of ccml.

    Validation is the first ⌊0.1 n⌋ of the training pieces as shuffled by NumPy's legacy generator
    with seed 10. ``place--None`` is one of the tags.
    """

    license: ClassVar[str] = "metadata: CC-BY-NC-SA-4.0; recordings: their owners', on YouTube"
    citation: ClassVar[str] = (
        "Papaioannou, Valiantzas, Giannakopoulos, Kaliakatsos-Papakostas, Potamianos, A Dataset "
        "for Greek Traditional and Folk Music: Lyra, ISMIR 2022 (arXiv:2211.11479)"
    )
    terms_url: ClassVar[str] = "https://github.com/pxaris/lyra-dataset"
    title: ClassVar[str] = "Lyra"
    western: ClassVar[bool] = False
    splits: ClassVar[Mapping[str, int]] = {"train": 1_116, "valid": 124, "test": 330}
    checksums: ClassVar[Mapping[str, str]] = {
        "training.tsv": "7df7d9637ae91a15d4a465b18160aa73e4a147166441194eb72605c079f90dbd",
        "test.tsv": "849cc544b88e852efc4c6a3a96df6b511435a322e1f5b62825f2ee82bc5d552f",
    }
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            "metadata and split",
            "git clone https://github.com/pxaris/lyra-dataset",
            "data/split/training.tsv, data/split/test.tsv (or split/…)",
        ),
        Source(
            "recordings",
            "the columns youtube-id, start-ts and end-ts (seconds) say which part of which video",
            "audios/<id>.<wav|flac|mp3|ogg>",
            "the audio is not distributed, only mel spectrograms; ask the authors or the owners",
        ),
    )
    top_tags: ClassVar[int | None] = 30
    counted: ClassVar[tuple[str, ...]] = ("train", "valid")
    test_positives: ClassVar[Mapping[str, int]] = _TEST_POSITIVES
    notes: ClassVar[str] = (
        "Training and validation share videos; training and test share none. 1,570 pieces, 80 h."
    )

    name: Literal["lyra"] = "lyra"
    """The dataset's name, its module's."""
    culture: Literal["greek"] = "greek"
    """The tradition."""

    def labels(self) -> tuple[str, ...]:
        """Return the pinned tags ``category--value``, sorted."""
        return tuple(sorted(_TEST_POSITIVES))

    def read(self, raw: Path) -> Listing:
        """Read both TSV files; see `PublicDataset.read`."""
        faults = Faults(raw)
        columns = ("id", *_CATEGORIES)
        training, test = (
            faults.table(
                columns,
                f"data/split/{name}.tsv",
                f"split/{name}.tsv",
                f"{name}.tsv",
                delimiter="\t",
            )
            for name in ("training", "test")
        )
        faults.raise_if_any("expected the files of pxaris/lyra-dataset, data/split")
        valid = _valid_places(len(training))
        items = [
            _item(row, "valid" if place in valid else "train")
            for place, (_, row) in enumerate(training)
        ]
        items += [_item(row, "test") for _, row in test]
        return Listing(tuple(items), files=tuple(faults.read))


def _valid_places(count: int) -> frozenset[int]:
    """Return which of the training rows validate."""
    from numpy.random import RandomState

    places = list(range(count))
    RandomState(_VALID_SEED).shuffle(places)
    return frozenset(places[: math.floor(_VALID_SHARE * count)])


def _item(row: dict[str, str], split: str) -> Item:
    labels = tuple(
        f"{category}--{value}" for category in _CATEGORIES for value in row[category].split("|")
    )
    name = row["id"]
    return Item(name, split, labels, (f"audios/{name}.wav", f"audio/{name}.wav", f"{name}.wav"))
