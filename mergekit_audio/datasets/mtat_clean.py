"""MagnaTagATune, clean: 21,108 clips that have a tag, with the split that ccml uses too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from mergekit_audio.datasets._files import Faults
from mergekit_audio.datasets._mtat import (
    AUDIO,
    BROKEN,
    CITATION,
    LABELS,
    LICENSE,
    OTHER_VERSION,
    TAGS,
    TERMS_URL,
    artist_of,
    audio_places,
)
from mergekit_audio.datasets.base import SPLITS, Item, Listing, PublicDataset, Source

# Test items of each tag: pxaris/ccml 1f20c2f, evaluation/magnatagatune.
_TEST_POSITIVES = {
    "guitar": 875,
    "classical": 699,
    "slow": 806,
    "techno": 598,
    "strings": 394,
    "drums": 516,
    "electronic": 496,
    "rock": 564,
    "fast": 495,
    "piano": 467,
    "ambient": 508,
    "beat": 344,
    "violin": 231,
    "vocal": 435,
    "synth": 330,
    "female": 381,
    "indian": 174,
    "opera": 373,
    "male": 264,
    "singing": 295,
    "vocals": 282,
    "no vocals": 245,
    "harpsichord": 189,
    "loud": 273,
    "quiet": 248,
    "flute": 162,
    "woman": 251,
    "male vocal": 166,
    "no vocal": 192,
    "pop": 196,
    "soft": 249,
    "sitar": 102,
    "solo": 159,
    "man": 135,
    "classic": 110,
    "choir": 188,
    "voice": 142,
    "new age": 148,
    "dance": 153,
    "male voice": 122,
    "female vocal": 160,
    "beats": 142,
    "harp": 141,
    "cello": 20,
    "no voice": 116,
    "weird": 131,
    "country": 67,
    "metal": 165,
    "female voice": 119,
    "choral": 131,
}
_HINT = (
    "expected train.npy, valid.npy, test.npy, binary.npy and tags.npy of the Won split in split/"
)


class MtatClean(PublicDataset):
    """MagnaTagATune without the clips that have none of the 50 tags (the Won split)."""

    license: ClassVar[str] = LICENSE
    citation: ClassVar[str] = (
        f"{CITATION}. Split: Won, Ferraro, Bogdanov, Serra, Evaluation of CNN-based Automatic "
        "Music Tagging Models, SMC 2020 (arXiv:2006.00751)"
    )
    terms_url: ClassVar[str] = TERMS_URL
    title: ClassVar[str] = "MagnaTagATune, clean"
    western: ClassVar[bool] = True
    splits: ClassVar[Mapping[str, int]] = {"train": 15_247, "valid": 1_529, "test": 4_332}
    checksums: ClassVar[Mapping[str, str]] = {
        "valid.npy": "c144ccf4911b1f633b2dd1cb7f3c494c9a216e79d56adb52f092e39b59559952",
        "test.npy": "b2bcedc2d087946ae24d1be302569494697d56a6ebf56345febe5ac658f254da",
        "tags.npy": "26bee55306d732ccb4616d74e9270223077101043c49eae4670021a0b72b107c",
    }
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            "split, tags and labels",
            "https://github.com/pxaris/ccml/tree/1f20c2f/data/magnatagatune/split (or "
            "https://github.com/minzwon/sota-music-tagging-models/tree/master/split/mtat)",
            "split/train.npy, split/valid.npy, split/test.npy, split/tags.npy, split/binary.npy",
        ),
        AUDIO,
    )
    test_positives: ClassVar[Mapping[str, int]] = {
        f"tag--{tag}": count for tag, count in _TEST_POSITIVES.items()
    }
    notes: ClassVar[str] = (
        f"{OTHER_VERSION} Folders 0-b train, c validates, d-f test, less the clips without a tag. "
        "The checksum of train.npy is not known."
    )

    name: Literal["mtat_clean"] = "mtat_clean"
    """The dataset's name, its module's."""
    culture: Literal["western"] = "western"
    """The tradition."""

    def labels(self) -> tuple[str, ...]:
        """Return the pinned tags ``tag--value``, sorted."""
        return LABELS

    def read(self, raw: Path) -> Listing:
        """Read the split files (``index<TAB>path``) and labels; see `PublicDataset.read`."""
        faults = Faults(raw)
        tags = faults.names("split/tags.npy", "tags.npy")
        if tags and tuple(tags) != TAGS:
            differing = [tag for tag in tags if tag not in TAGS] or ["their order"]
            faults.add(faults.read[-1], f"is not the published list: {', '.join(differing[:5])}")
        binary = _binary(faults, len(TAGS))
        items: list[Item] = []
        for split in SPLITS:
            place = f"split/{split}.npy"
            for number, entry in enumerate(faults.names(place, f"{split}.npy")):
                index, tab, path = entry.partition("\t")
                if not tab or not index.isdecimal():
                    faults.add(
                        place, f"entry {number}: expected index<TAB>path, found {entry[:60]!r}"
                    )
                elif binary is not None and int(index) >= len(binary):
                    faults.add(place, f"entry {number}: binary.npy has no row {index}")
                elif binary is not None:
                    items.append(_item(path, split, binary[int(index)]))
        faults.raise_if_any(_HINT)
        return Listing(tuple(items), files=tuple(faults.read))


def _binary(faults: Faults, columns: int) -> Any:
    """Return the labels of every clip, shape ``[clips, tags]``, or ``None`` after a fault."""
    array = faults.array("split/binary.npy", "binary.npy")
    if array is None:
        return None
    place = faults.read[-1]
    if array.ndim != 2 or array.shape[1] != columns or array.dtype.kind not in "biuf":
        found = f"shape {list(array.shape)} of {array.dtype}"
        faults.add(place, f"expected numbers of shape [clips, {columns}], found {found}")
        return None
    if not ((array == 0) | (array == 1)).all():
        faults.add(place, "expected only 0 and 1")
        return None
    return array.astype(bool)


def _item(path: str, split: str, row: Any) -> Item:
    labels = tuple(f"tag--{tag}" for tag, has in zip(TAGS, row, strict=True) if has)
    return Item(
        id=path.removesuffix(".mp3"),
        split=split,
        labels=labels,
        audio=audio_places(path),
        artist=artist_of(path),
        known_broken=BROKEN.get(path, ""),
    )
