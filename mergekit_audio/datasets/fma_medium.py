"""FMA-medium: clips of 30 s with genres of a hierarchy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from mergekit_audio.datasets._ccml import CITATION, read_splits, split_source
from mergekit_audio.datasets._files import Faults
from mergekit_audio.datasets.base import Item, Listing, PublicDataset, Source

# The top 20 genres of ccml's training split, with their number of test items: pxaris/ccml 1f20c2f,
# evaluation/fma; the tag rule gives the same from the split files.
_TEST_POSITIVES = {
    "genre--Ambient Electronic": 203,
    "genre--Chip Music": 181,
    "genre--Chiptune": 123,
    "genre--Downtempo": 159,
    "genre--Electronic": 1259,
    "genre--Experimental": 441,
    "genre--Folk": 325,
    "genre--Garage": 280,
    "genre--Hardcore": 118,
    "genre--Hip-Hop": 446,
    "genre--House": 132,
    "genre--IDM": 192,
    "genre--Indie-Rock": 263,
    "genre--Instrumental": 275,
    "genre--International": 224,
    "genre--Pop": 247,
    "genre--Punk": 649,
    "genre--Rock": 1396,
    "genre--Soundtrack": 175,
    "genre--Techno": 145,
}

_TRACKS = ("fma_metadata/tracks.csv", "tracks.csv")
_GENRES = ("fma_metadata/genres.csv", "genres.csv")
_SUBSETS = ("small", "medium")
_HINT = "expected the files of fma_metadata.zip, and ccml's split files in split/"


class FmaMedium(PublicDataset):
    """FMA-medium with the splits of ccml and the 20 genres that are most frequent in training.

    A track has its genres and all their parents (``genres_all`` of ``tracks.csv``).
    """

    license: ClassVar[str] = "metadata: CC-BY-4.0; recordings: Creative Commons, track by track"
    citation: ClassVar[str] = (
        "Defferrard, Benzi, Vandergheynst, Bresson, FMA: A Dataset for Music Analysis, ISMIR 2017 "
        f"(arXiv:1612.01840). {CITATION}"
    )
    terms_url: ClassVar[str] = "https://github.com/mdeff/fma"
    title: ClassVar[str] = "FMA-medium"
    western: ClassVar[bool] = True
    splits: ClassVar[Mapping[str, int]] = {"train": 17_486, "valid": 2_498, "test": 4_996}
    checksums: ClassVar[Mapping[str, str]] = {
        "train.npy": "2696415293bfc7003219c969f2b50c80fef37c44d9e3981be28635ac514ce7d4",
        "valid.npy": "8cfc237e989e43996352acf67ccad548db4620ad26840c5e593a19664e907f45",
        "test.npy": "ad05773b1156b29662f35cc1f7ad58ff592f17ef3fe39b213455221bf40ff137",
    }
    sources: ClassVar[tuple[Source, ...]] = (
        split_source("fma"),
        Source(
            "metadata (342 MiB)",
            "https://os.unil.cloud.switch.ch/fma/fma_metadata.zip",
            ", ".join((_TRACKS[0], _GENRES[0])),
            "sha1 f0df49ffe5f2a6008d7dc83c6915b31835dfe733",
        ),
        Source(
            "recordings (22 GiB)",
            "https://os.unil.cloud.switch.ch/fma/fma_medium.zip",
            "fma_medium/000/000002.mp3, …",
            "sha1 c67b69ea232021025fca9231fc1c7c1a063ab50b",
        ),
    )
    top_tags: ClassVar[int | None] = 20
    test_positives: ClassVar[Mapping[str, int]] = _TEST_POSITIVES
    notes: ClassVar[str] = (
        "ccml's splits, not those of tracks.csv: random by track, not filtered by artist. 20 "
        "tracks with broken audio are in no split; 1,478/197/383 tracks have none of the 20 genres "
        "and stay."
    )

    name: Literal["fma_medium"] = "fma_medium"
    """The dataset's name, its module's."""
    culture: Literal["western"] = "western"
    """The tradition."""

    def labels(self) -> tuple[str, ...]:
        """Return the pinned tags ``genre--value``, sorted."""
        return tuple(sorted(_TEST_POSITIVES))

    def read(self, raw: Path) -> Listing:
        """Read split files, ``tracks.csv`` and ``genres.csv``; see `PublicDataset.read`."""
        faults = Faults(raw)
        splits = read_splits(faults)
        titles = _titles(faults)
        tracks = _tracks(faults)
        faults.raise_if_any(_HINT)
        items = []
        for name in sorted({*splits, *(name for name, row in tracks.items() if row.is_medium)}):
            items.append(_item(name, splits.get(name), tracks.get(name), titles))
        return Listing(tuple(items), files=tuple(faults.read))


class _Row(NamedTuple):
    """What is used of a row of ``tracks.csv``."""

    is_medium: bool
    artist: str
    genres: str


def _titles(faults: Faults) -> dict[int, str]:
    """Return the title of each genre."""
    titles = {}
    for line, row in faults.table(("genre_id", "title"), *_GENRES):
        if row["genre_id"].isdecimal():
            titles[int(row["genre_id"])] = row["title"].strip()
        else:
            faults.add(_GENRES[0], f"genre_id: expected a number, found {row['genre_id']!r}", line)
    return titles


def _tracks(faults: Faults) -> dict[str, _Row]:
    """Return the rows of ``tracks.csv`` by six-digit id; its header takes three lines."""
    text = faults.text(*_TRACKS)
    if text is None:
        return {}
    place = faults.read[-1]
    lines = faults.cells(place, text, ",")
    if len(lines) < 3 or lines[2][1][0] != "track_id":
        faults.add(place, "expected a header of three lines, the third beginning with track_id")
        return {}
    header = list(zip(lines[0][1], lines[1][1], strict=False))
    wanted = (("set", "subset"), ("artist", "name"), ("track", "genres_all"))
    lacking = [".".join(column) for column in wanted if column not in header]
    if lacking:
        faults.add(place, f"has no column {', '.join(lacking)}", lines[0][0])
        return {}
    subset, artist, genres = (header.index(column) for column in wanted)
    rows: dict[str, _Row] = {}
    for line, cells in lines[3:]:
        if len(cells) != len(header) or not cells[0].isdecimal():
            faults.add(place, f"expected a track id and {len(header)} cells", line)
            continue
        rows[f"{int(cells[0]):06d}"] = _Row(cells[subset] in _SUBSETS, cells[artist], cells[genres])
    return rows


def _item(name: str, split: str | None, row: _Row | None, titles: dict[int, str]) -> Item:
    labels: tuple[str, ...] = ()
    problem = ("", "")
    if row is None:
        problem = ("missing_metadata", "is not in tracks.csv")
    else:
        try:
            labels = _labels(row.genres, titles)
        except ValueError as error:
            problem = ("broken_metadata", f"genres_all: {error}")
    place = f"{name[:3]}/{name}.mp3"
    audio = (f"fma_medium/{place}", place, f"audios/{place}", f"audios/{name}.mp3")
    artist = row.artist.strip() or None if row else None
    return Item(name, split, labels, audio, artist=artist, problem=problem)


def _labels(genres: str, titles: dict[int, str]) -> tuple[str, ...]:
    try:
        numbers = json.loads(genres)
    except json.JSONDecodeError:
        raise ValueError(f"expected a list of numbers, found {genres[:40]!r}") from None
    if not isinstance(numbers, list) or not all(isinstance(number, int) for number in numbers):
        raise ValueError(f"expected a list of numbers, found {genres[:40]!r}")
    unknown = [number for number in numbers if number not in titles]
    if unknown:
        raise ValueError(f"genres {unknown} are not in genres.csv")
    return tuple(sorted({f"genre--{titles[number]}" for number in numbers}))
