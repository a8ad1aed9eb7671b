"""MagnaTagATune, full: all 25,860 usable clips, with or without a tag."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from mergekit_audio.datasets._files import Faults
from mergekit_audio.datasets._mtat import (
    AUDIO,
    BROKEN,
    CITATION,
    LABELS,
    LICENSE,
    OTHER_VERSION,
    TERMS_URL,
    artist_of,
    audio_places,
)
from mergekit_audio.datasets.base import Item, Listing, PublicDataset, Source

_ANNOTATIONS = "annotations_final.csv"
_SPLIT_OF = {
    **dict.fromkeys("0123456789ab", "train"),
    "c": "valid",
    **dict.fromkeys("def", "test"),
}
_HINT = f"expected {_ANNOTATIONS} as published: tabs, clip_id, 188 tags, mp3_path"


class MtatFull(PublicDataset):
    """All of MagnaTagATune, split by the first character of the path, also clips without a tag."""

    license: ClassVar[str] = LICENSE
    citation: ClassVar[str] = CITATION
    terms_url: ClassVar[str] = TERMS_URL
    title: ClassVar[str] = "MagnaTagATune, full"
    western: ClassVar[bool] = True
    splits: ClassVar[Mapping[str, int]] = {"train": 18_706, "valid": 1_825, "test": 5_329}
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            "annotations",
            "https://mirg.city.ac.uk/datasets/magnatagatune/annotations_final.csv",
            _ANNOTATIONS,
        ),
        AUDIO,
    )
    top_tags: ClassVar[int | None] = 50
    counted: ClassVar[tuple[str, ...]] = ("train", "valid", "test")
    notes: ClassVar[str] = (
        f"{OTHER_VERSION} Folders 0-b train, c validates, d-f test; the 50 tags are counted over "
        "all 25,863 rows; clips without any of them stay."
    )

    name: Literal["mtat_full"] = "mtat_full"
    """The dataset's name, its module's."""
    culture: Literal["western"] = "western"
    """The tradition."""

    def labels(self) -> tuple[str, ...]:
        """Return the pinned tags ``tag--value``, sorted."""
        return LABELS

    def read(self, raw: Path) -> Listing:
        """Read ``annotations_final.csv``; see `PublicDataset.read`."""
        faults = Faults(raw)
        items = []
        columns = ("clip_id", "mp3_path")
        for line, row in faults.table(columns, _ANNOTATIONS, delimiter="\t"):
            path = row["mp3_path"]
            tags = {name: value for name, value in row.items() if name not in columns}
            strange = [name for name, value in tags.items() if value not in ("0", "1")]
            if strange:
                found = tags[strange[0]]
                faults.add(_ANNOTATIONS, f"{strange[0]}: expected 0 or 1, found {found!r}", line)
                continue
            labels = tuple(f"tag--{name}" for name, value in tags.items() if value == "1")
            items.append(_item(path, labels))
        faults.raise_if_any(_HINT)
        return Listing(tuple(items), files=tuple(faults.read))


def _item(path: str, labels: tuple[str, ...]) -> Item:
    return Item(
        id=path.removesuffix(".mp3"),
        split=_SPLIT_OF.get(path[:1]),
        labels=labels,
        audio=audio_places(path),
        artist=artist_of(path),
        known_broken=BROKEN.get(path, ""),
    )
