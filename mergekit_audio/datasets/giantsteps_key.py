"""GiantSteps: the key of electronic dance music; trained on MTG-Keys, tested on GiantSteps key."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from mergekit_audio.audio.foreign import TONICS, key_label
from mergekit_audio.datasets._files import Faults
from mergekit_audio.datasets.base import Finding, Item, Listing, PublicDataset, Source, TaskKind

_TRAIN, _TEST = "giantsteps-mtg-key-dataset", "giantsteps-key-dataset"
_TRAIN_SHARE, _SHARES = 100, 116
_CERTAIN = "2"
_HINT = f"expected checkouts of GiantSteps/{_TRAIN} and GiantSteps/{_TEST} in the raw folder"


class GiantstepsKey(PublicDataset):
    """The key of 2-minute previews: 923 to train, 236 to validate (MTG-Keys), 604 to test.

    Of MTG-Keys the recordings with one key and full confidence count, as in Korzeniowski and Widmer
    (2018). An artist validates when sha1(name in lower case) mod 116 is 100 or more; so do those
    who made a recording with a validating artist, and those who made one with these (jukemir's
    rule, which MARBLE uses). The result was compared with jukemir's list of 1,763 recordings: the
    same splits and keys. No recording was at hand.
    """

    license: ClassVar[str] = (
        "annotations: none stated (GiantSteps+ CC-BY-SA-4.0); audio: Beatport's"
    )
    citation: ClassVar[str] = (
        "Knees, Faraldo, Herrera, Vogl, Böck, Hörschläger, Le Goff, Two Data Sets for Tempo "
        "Estimation and Key Detection in Electronic Dance Music Annotated from User Corrections, "
        "ISMIR 2015; MTG-Keys: Faraldo, Jordà, Herrera, AES Conference on Semantic Audio 2017"
    )
    terms_url: ClassVar[str] = "https://github.com/GiantSteps/giantsteps-key-dataset"
    title: ClassVar[str] = "GiantSteps, key"
    kind: ClassVar[TaskKind] = "key"
    western: ClassVar[bool] = True
    splits: ClassVar[Mapping[str, int]] = {"train": 923, "valid": 236, "test": 604}
    checksums: ClassVar[Mapping[str, str]] = {
        "annotations.txt": "0cdc4480a74e3eb2be6a38ad474bbf82434874ce2d419d718117080e82944550",
        "beatport_metadata.txt": "56c92617e72669e82189de0e4f774d57f23d078b45d67734f716835432ab7182",
    }
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            "training and validation (MTG-Keys)",
            f"git clone https://github.com/GiantSteps/{_TRAIN}",
            f"{_TRAIN}/annotations/annotations.txt, beatport_metadata.txt",
        ),
        Source(
            "test (GiantSteps key)",
            f"git clone https://github.com/GiantSteps/{_TEST}",
            f"{_TEST}/annotations/key/<id>.LOFI.key",
        ),
        Source(
            "recordings",
            "audio_dl.sh in each of the two repositories",
            f"{_TRAIN}/audio/<id>.LOFI.mp3, {_TEST}/audio/<id>.LOFI.mp3",
            "previews of 2 minutes; the scripts compare their md5",
        ),
    )
    notes: ClassVar[str] = (
        "604 test recordings as in jukemir and MARBLE; peft-music and mirdata (GiantSteps+) have "
        "600. Whole previews stand in the manifest: chunks of 30 s with the rest dropped are "
        "jukemir's clips. One recording scores once, with the mean over its chunks."
    )

    name: Literal["giantsteps_key"] = "giantsteps_key"
    """The dataset's name, its module's."""
    culture: Literal["western"] = "western"
    """The tradition."""

    def labels(self) -> tuple[str, ...]:
        """Return the 24 keys ``key--<tonic> <mode>``, sorted."""
        return tuple(sorted(f"key--{tonic} {mode}" for tonic in TONICS for mode in _MODES))

    def read(self, raw: Path) -> Listing:
        """Read both tables of MTG-Keys and the key files of the test set."""
        faults = Faults(raw)
        rows = _annotations(faults)
        artists = _artists(faults)
        tables = tuple(faults.read)
        tests = _test_keys(faults)
        faults.raise_if_any(_HINT)
        splits = artist_splits(artists)
        items, findings = [], []
        for name, row in rows.items():
            if name not in artists:
                findings.append(Finding("missing_metadata", name, "no beatport_metadata.txt row"))
            elif row.confidence != _CERTAIN or "/" in row.key:
                reason = f"key {row.key!r} with confidence {row.confidence}"
                findings.append(Finding("not_one_label", name, reason))
            else:
                split = splits[artists[name][0]]
                items.append(_item(name, split, row.key, ", ".join(artists[name])))
        items += [_item(name, "test", key, None) for name, key in tests.items()]
        return Listing(tuple(items), tuple(findings), tables)


class _Annotation(NamedTuple):
    """What a person found of a recording of MTG-Keys."""

    key: str
    confidence: str


_MODES = ("major", "minor")


def artist_splits(artists: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Return ``train`` or ``valid`` for each artist, from the artists of each recording.

    Artists that made a recording with a validating one validate as well; this is done twice, in
    the order of the recordings.
    """
    splits = {artist: _by_hash(artist) for names in artists.values() for artist in names}
    for _ in range(2):
        for names in artists.values():
            if any(splits[artist] == "valid" for artist in names):
                splits.update(dict.fromkeys(names, "valid"))
    return splits


def _by_hash(artist: str) -> str:
    digest = hashlib.sha1(artist.lower().encode("utf-8"), usedforsecurity=False).hexdigest()
    return "train" if int(digest, 16) % _SHARES < _TRAIN_SHARE else "valid"


def _annotations(faults: Faults) -> dict[str, _Annotation]:
    rows = {}
    place = f"{_TRAIN}/annotations/annotations.txt"
    columns = ("ID", "MANUAL KEY", "C")
    for line, row in faults.table(columns, place, "annotations/annotations.txt", delimiter="\t"):
        name = row["ID"].strip()
        if not name.isdecimal():
            faults.add(place, f"ID: expected a number, found {name!r}", line)
        elif name in rows:
            faults.add(place, f"{name!r} is listed twice", line)
        else:
            rows[name] = _Annotation(row["MANUAL KEY"].strip(), row["C"].strip())
    return rows


def _artists(faults: Faults) -> dict[str, tuple[str, ...]]:
    place = f"{_TRAIN}/annotations/beatport_metadata.txt"
    return {
        row["ID"].strip(): tuple(artist.strip() for artist in row["ARTIST"].strip().split(","))
        for _, row in faults.table(
            ("ID", "ARTIST"), place, "annotations/beatport_metadata.txt", delimiter="\t"
        )
    }


def _test_keys(faults: Faults) -> dict[str, str]:
    """Return the key of each test recording as its file says."""
    place = f"{_TEST}/annotations/key"
    files = sorted((faults.raw / place).glob("*.LOFI.key"))
    if not files:
        faults.add(place, "holds no <id>.LOFI.key")
    keys = {}
    for file in files:
        name = file.name.partition(".")[0]
        text = faults.text(f"{place}/{file.name}")
        if not name.isdecimal():
            faults.add(f"{place}/{file.name}", "expected a number before .LOFI.key")
        keys[name] = (text or "").strip()
    return keys


def _item(name: str, split: str, key: str, artist: str | None) -> Item:
    label = key_label(re.sub(r"\s+", " ", key))
    folder = _TEST if split == "test" else _TRAIN
    file = f"{name}.LOFI.mp3"
    return Item(
        id=name,
        split=split,
        labels=(label,) if label else (),
        audio=(f"{folder}/audio/{file}", f"{folder}/{file}", f"audio/{file}", file),
        artist=artist,
        problem=("", "") if label else ("broken_metadata", f"no key: {key!r}"),
    )
