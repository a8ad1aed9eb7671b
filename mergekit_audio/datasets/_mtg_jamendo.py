"""What the four subsets of MTG-Jamendo share: a class, the split files, where the audio lies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from mergekit_audio.datasets._files import Faults
from mergekit_audio.datasets.base import Item, Listing, PublicDataset, Source

_REPOSITORY = "https://github.com/MTG/mtg-jamendo-dataset"
NOTES = (
    "Split 0 of five; artists are not shared between its splits. MARBLE probes the recordings of "
    "low quality (audio-low, mono MP3)."
)

_COLUMNS = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")
_SPLITS = {"train": "train", "validation": "valid", "test": "test"}
_TAG = re.compile(r"(genre|instrument|mood/theme)---(.+)")
_PATH = re.compile(r"\d+/\d+\.mp3")
_HINT = (
    f"expected the files of data/splits/split-0, with tabs and the columns {', '.join(_COLUMNS)}"
)


class MtgJamendo(PublicDataset):
    """A subset of MTG-Jamendo in split 0 of five."""

    license: ClassVar[str] = (
        "metadata: CC-BY-NC-SA-4.0; recordings: Creative Commons, track by track"
    )
    citation: ClassVar[str] = (
        "Bogdanov, Won, Tovstogan, Porter, Serra, The MTG-Jamendo Dataset for Automatic Music "
        "Tagging, Machine Learning for Music Discovery Workshop, ICML 2019"
    )
    terms_url: ClassVar[str] = _REPOSITORY
    western: ClassVar[bool] = True
    notes: ClassVar[str] = NOTES
    subset: ClassVar[str]
    """The word of its three files, ``autotagging_<subset>-<split>.tsv``."""
    tags: ClassVar[Mapping[str, str]]
    """All tags of the three files by category, with spaces between them."""

    culture: Literal["western"] = "western"
    """The tradition."""

    def labels(self) -> tuple[str, ...]:
        """Return the pinned tags ``category--value``, sorted."""
        return tuple(
            sorted(f"{kind}--{tag}" for kind, tags in self.tags.items() for tag in tags.split())
        )

    def read(self, raw: Path) -> Listing:
        """Read the three TSV files; see `PublicDataset.read`."""
        return _read_split(raw, self.subset)


def sources(subset: str) -> tuple[Source, ...]:
    """Return what to fetch for a subset."""
    kind = "autotagging_moodtheme" if subset == "moodtheme" else "raw_30s"
    return (
        Source(
            "split files",
            f"git clone {_REPOSITORY}",
            f"data/splits/split-0/autotagging_{subset}-train.tsv, -validation.tsv, -test.tsv "
            "(or split-0/…, or beside the audio)",
        ),
        Source(
            "recordings (156 GB; mood and theme alone 46 GB)",
            f"python3 scripts/download/download.py --dataset {kind} --type audio-low --unpack "
            "audio-low",
            "audio-low/<00-99>/<id>.low.mp3 (or audio/<00-99>/<id>.mp3)",
            "the script is in the repository",
        ),
    )


def checksums(subset: str, *, train: str, validation: str, test: str) -> dict[str, str]:
    """Return the sha256 of a subset's three files by their names."""
    known = {"train": train, "validation": validation, "test": test}
    return {f"autotagging_{subset}-{split}.tsv": digest for split, digest in known.items()}


def _read_split(raw: Path, subset: str) -> Listing:
    """Return the items of a subset's three files.

    Raises
    ------
    InputError
        Lists every fault: files, columns, paths, tags, tracks in two splits.
    """
    faults = Faults(raw)
    items: dict[str, Item] = {}
    for published, split in _SPLITS.items():
        name = f"autotagging_{subset}-{published}.tsv"
        text = faults.text(f"data/splits/split-0/{name}", f"split-0/{name}", name)
        if text is None:
            continue
        place = faults.read[-1]
        for line, cells in _rows(faults, place, text):
            fault = _fault(cells)
            if fault:
                faults.add(place, fault, line)
            elif cells[0] in items:
                there = items[cells[0]].split
                faults.add(place, f"{cells[0]!r} is in {there} already", line)
            else:
                items[cells[0]] = _item(cells, split)
    faults.raise_if_any(_HINT)
    return Listing(tuple(items.values()), files=tuple(faults.read))


def _rows(faults: Faults, place: str, text: str) -> list[tuple[int, list[str]]]:
    """Return the rows below the header; each has as many cells as it has tags."""
    rows = faults.cells(place, text, "\t")
    if not rows or tuple(rows[0][1]) != _COLUMNS:
        found = ", ".join(rows[0][1][:8]) if rows else "nothing"
        faults.add(place, f"expected the columns {', '.join(_COLUMNS)}; found {found}", 1)
        return []
    return rows[1:]


def _fault(cells: list[str]) -> str:
    if len(cells) < len(_COLUMNS):
        return f"has {len(cells)} cells, expected at least {len(_COLUMNS)}"
    if not _PATH.fullmatch(cells[3]):
        return f"PATH: expected <folder>/<number>.mp3, found {cells[3]!r}"
    strange = [tag for tag in cells[5:] if tag and not _TAG.fullmatch(tag)]
    return f"TAGS: expected category---value, found {strange[0]!r}" if strange else ""


def _item(cells: list[str], split: str) -> Item:
    stem = cells[3].removesuffix(".mp3")
    matches = [_TAG.fullmatch(tag) for tag in cells[5:] if tag]
    return Item(
        id=cells[0],
        split=split,
        labels=tuple(f"{match[1]}--{match[2]}" for match in matches if match),
        audio=(
            f"audio-low/{stem}.low.mp3",
            f"audio/{stem}.mp3",
            f"audio/{stem}.low.mp3",
            f"{stem}.low.mp3",
            f"{stem}.mp3",
        ),
        artist=cells[1] or None,
    )
