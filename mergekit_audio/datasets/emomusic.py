"""Emomusic: how arousing and how pleasant songs are."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from mergekit_audio.datasets._files import Faults
from mergekit_audio.datasets.base import Item, Listing, PublicDataset, Source, TaskKind

_SETS = ("development", "evaluation")
_TRAIN_TENTHS = 8
_HINT = "expected the tables of annotations.tar.gz, with commas and the published columns"


class Emomusic(PublicDataset):
    """Static arousal and valence, 1 to 9, of clips of 45 s, in the splits of jukemir and MARBLE.

    The published evaluation set tests. A song of the development set validates when the sha1 of
    its artist, in lower case with ASCII letters and single spaces only, ends in a decimal 8 or 9.
    The rule was compared with jukemir's list of 744 songs: the same splits and values. Its tables
    were made from that list; the published CSV files themselves, and the recordings, were not at
    hand.
    """

    license: ClassVar[str] = "annotations: research only; recordings: Free Music Archive, CC"
    citation: ClassVar[str] = (
        "Soleymani, Caro, Schmidt, Sha, Yang, 1000 Songs for Emotional Analysis of Music, "
        "CrowdMM at ACM Multimedia 2013"
    )
    terms_url: ClassVar[str] = "https://cvml.unige.ch/databases/emoMusic/"
    title: ClassVar[str] = "Emomusic"
    kind: ClassVar[TaskKind] = "regression"
    western: ClassVar[bool] = True
    splits: ClassVar[Mapping[str, int]] = {"train": 504, "valid": 115, "test": 125}
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            "annotations",
            "http://cvml.unige.ch/databases/emoMusic/annotations.tar.gz",
            "annotations/songs_info.csv, annotations/static_annotations.csv",
            "sha256 e0cb0b06e1b0ce7f04b1572fc410937699b7fad9dae67ddaa745f06cda4b0b33",
        ),
        Source(
            "recordings",
            "http://cvml.unige.ch/databases/emoMusic/clips_45sec.tar.gz",
            "clips_45seconds/<song id>.mp3",
            "sha256 3994a5d5fefc27f9540d1a69cd7f1294c68e6cb311ce49765021e2e9c7a1057b",
        ),
    )
    notes: ClassVar[str] = (
        "744 songs: those of the 1,000 that are no duplicates. Values are as annotated; jukemir "
        "and MARBLE standardise them by the whole development set, which leaves R² as it is."
    )

    name: Literal["emomusic"] = "emomusic"
    """The dataset's name, its module's."""
    culture: Literal["western"] = "western"
    """The tradition."""

    def labels(self) -> tuple[str, ...]:
        """Return no label: the task's values are ``arousal`` and ``valence``."""
        return ()

    def read(self, raw: Path) -> Listing:
        """Read ``songs_info.csv`` and ``static_annotations.csv``; see `PublicDataset.read`."""
        faults = Faults(raw)
        songs = _by_song(faults, "songs_info.csv", ("Artist", "Mediaeval 2013 set"))
        static = _by_song(faults, "static_annotations.csv", ("mean_arousal", "mean_valence"))
        faults.raise_if_any(_HINT)
        items = tuple(_item(number, row, static.get(number)) for number, row in songs.items())
        return Listing(items, files=tuple(faults.read))


def split_of(artist: str) -> str:
    """Return the split of a song of the development set.

    >>> split_of("The New Mystikal Troubadours")
    'train'
    """
    letters = "".join(c for c in artist.lower() if ord(c) < 128 and (c.isalpha() or c.isspace()))
    name = " ".join(letters.split())
    digest = hashlib.sha1(name.encode("utf-8"), usedforsecurity=False).hexdigest()
    return "train" if int(digest, 16) % 10 < _TRAIN_TENTHS else "valid"


def _by_song(faults: Faults, name: str, columns: tuple[str, ...]) -> dict[int, dict[str, str]]:
    rows: dict[int, dict[str, str]] = {}
    for line, row in faults.table(("song_id", *columns), f"annotations/{name}", name):
        number = row["song_id"].strip()
        if not number.isdecimal():
            faults.add(faults.read[-1], f"song_id: expected a number, found {number!r}", line)
        elif int(number) in rows:
            faults.add(faults.read[-1], f"song_id: {number} is listed twice", line)
        else:
            rows[int(number)] = {column: row[column].strip() for column in columns}
    return rows


def _item(number: int, song: dict[str, str], static: dict[str, str] | None) -> Item:
    published = song["Mediaeval 2013 set"]
    split = "test" if published == "evaluation" else split_of(song["Artist"])
    values: tuple[tuple[str, float], ...] = ()
    problem = ("", "")
    if published not in _SETS:
        found = f"Mediaeval 2013 set: expected {' or '.join(_SETS)}, found {published!r}"
        problem = ("broken_metadata", found)
    elif static is None:
        problem = ("missing_metadata", "is not in static_annotations.csv")
    else:
        try:
            values = tuple((name, _mean(static, name)) for name in ("arousal", "valence"))
        except ValueError as error:
            problem = ("broken_metadata", str(error))
    return Item(
        id=f"{number:04d}",
        split=split,
        labels=(),
        audio=(
            f"clips_45seconds/{number}.mp3",
            f"clips_45sec/clips_45seconds/{number}.mp3",
            f"audio/{number}.mp3",
            f"{number}.mp3",
        ),
        values=values,
        artist=song["Artist"] or None,
        problem=problem,
    )


def _mean(static: dict[str, str], name: str) -> float:
    text = static[f"mean_{name}"]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"mean_{name}: expected a number, found {text!r}")
    return value
