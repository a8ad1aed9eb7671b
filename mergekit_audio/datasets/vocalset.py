"""VocalSet: who sings, or with which technique."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from mergekit_audio.datasets.base import Item, Listing, PublicDataset, Source, TaskKind
from mergekit_audio.errors import InputError

_SINGERS = (*(f"f{n}" for n in range(1, 10)), *(f"m{n}" for n in range(1, 12)))
_TECHNIQUES = (
    "belt",
    "breathy",
    "inhaled",
    "lip_trill",
    "spoken",
    "straight",
    "trill",
    "trillo",
    "vibrato",
    "vocal_fry",
)
_OTHER_FOLDERS = (
    "fast_forte",
    "fast_piano",
    "forte",
    "messa",
    "pp",
    "slow_forte",
    "slow_piano",
)
_TEST_SINGERS = ("f2", "f8", "m3", "m5", "m10")
_LEFT_OUT = {
    "vibrato": (
        "f2_scales_vibrato_a(1).wav",
        "caro_vibrato.wav",
        "dona_vibrato.wav",
        "row_vibrato.wav",
        "slow_vibrato_arps.wav",
    ),
}
_SEED, _VALID_SHARE, _TEST_SHARE = 42_617, 0.4, 0.2
_ROOTS = ("FULL", "data_by_singer", "VocalSet1-2/data_by_singer")
_SINGER_FOLDER = re.compile(r"(female|male)(\d+)")
_PREFIX = re.compile(r"[fm]\d+_")


class Vocalset(PublicDataset):
    """Who of 20 people sings, or which of 10 techniques, in recordings of a cappella exercises.

    The splits follow MARBLE v1: techniques are tested on the singers f2, f8, m3, m5 and m10; else
    recordings are shuffled by their place among the sorted ones of their technique's folder with
    NumPy's legacy generator and seed 42617 (40 % of the rest validate; of the singers' task 20 %
    test). MARBLE cuts out silence first, and places without any sound left would shift its draw:
    whether the lists agree is not verified. It then cuts 3-s clips at 44.1 kHz; here whole
    recordings stand in the manifest. No recording was at hand, and version 1.2 may name files
    otherwise than the version that MARBLE read.
    """

    license: ClassVar[str] = "CC-BY-4.0"
    citation: ClassVar[str] = (
        "Wilkins, Seetharaman, Wahl, Pardo, VocalSet: A Singing Voice Dataset, ISMIR 2018"
    )
    terms_url: ClassVar[str] = "https://zenodo.org/records/1193957"
    title: ClassVar[str] = "VocalSet"
    kind: ClassVar[TaskKind] = "multiclass"
    western: ClassVar[bool] = True
    splits: ClassVar[dict[str, int]] = {}
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            "recordings (2.2 GB)",
            "https://zenodo.org/records/1193957 (VocalSet.zip)",
            "FULL/<female1-9 or male1-11>/<exercise>/<technique>/<name>.wav; of version 1.2 "
            "VocalSet1-2/data_by_singer/<singer>/…",
            "5 files of vibrato are doubles or not of the published table, and are left out",
        ),
    )
    notes: ClassVar[str] = (
        "Training and validation share singers; the singers' task shares them by its nature. No "
        "split is published; compare only with scores on this one."
    )

    name: Literal["vocalset"] = "vocalset"
    """The dataset's name, its module's."""
    culture: Literal["western"] = "western"
    """The tradition."""
    label: Literal["singer", "technique"] = "singer"
    """What is predicted."""

    def labels(self) -> tuple[str, ...]:
        """Return ``singer--<f1 to m11>`` or ``technique--value``, sorted."""
        values = _SINGERS if self.label == "singer" else _TECHNIQUES
        return tuple(sorted(f"{self.label}--{value}" for value in values))

    def read(self, raw: Path) -> Listing:
        """Look through the singers' folders; see `PublicDataset.read`."""
        recordings = _recordings(raw)
        if not recordings:
            raise InputError(
                f"{raw}: holds no FULL/<singer>/<exercise>/<technique>/<name>.wav",
                "unpack VocalSet.zip there",
            )
        splits = _split(recordings)[self.label]
        items = []
        for one in recordings:
            if self.label == "technique" and one.technique not in _TECHNIQUES:
                continue
            value = one.singer if self.label == "singer" else one.technique
            artist = one.singer if self.label == "technique" else None
            label = f"{self.label}--{value}"
            items.append(Item(one.id, splits[one], (label,), (one.place,), artist=artist))
        return Listing(tuple(items))


class Recording(NamedTuple):
    """A recording, and its place among the sorted ones of its technique."""

    id: str
    place: str
    singer: str
    technique: str
    number: int


def _recordings(raw: Path) -> list[Recording]:
    """Return the recordings by technique and by name; a name without its singer gets one."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    root = next((raw / root for root in _ROOTS if (raw / root).is_dir()), raw / _ROOTS[0])
    for path in root.glob("*/*/*/*.wav"):
        folder = _SINGER_FOLDER.fullmatch(path.parts[-4])
        technique = path.parts[-2]
        if folder is None or technique not in (*_TECHNIQUES, *_OTHER_FOLDERS):
            continue
        singer = f"{folder[1][0]}{folder[2]}"
        if path.name.startswith(".") or path.name in _LEFT_OUT.get(technique, ()):
            continue
        name = path.name if _PREFIX.match(path.name) else f"{singer}_{path.name}"
        place = path.relative_to(raw).as_posix()
        found.setdefault(technique, []).append((name, place, singer))
    return [
        Recording(place.removesuffix(".wav"), place, singer, technique, number)
        for technique in sorted(found)
        for number, (_, place, singer) in enumerate(sorted(found[technique]))
    ]


def _split(recordings: Sequence[Recording]) -> dict[str, dict[Recording, str]]:
    """Return the splits of both tasks; one generator draws for techniques, then for singers."""
    from numpy.random import RandomState

    generator = RandomState(_SEED)

    def draw(rows: Sequence[Recording], share: float) -> frozenset[int]:
        numbers = sorted({one.number for one in rows})
        order = generator.permutation(len(numbers))[: math.ceil(share * len(numbers))]
        return frozenset(numbers[place] for place in order)

    sung = [one for one in recordings if one.technique in _TECHNIQUES]
    tested = {one for one in sung if one.singer in _TEST_SINGERS}
    valid = draw([one for one in sung if one not in tested], _VALID_SHARE)
    techniques = {
        one: "test" if one in tested else "valid" if one.number in valid else "train"
        for one in sung
    }
    test = draw(recordings, _TEST_SHARE)
    valid = draw([one for one in recordings if one.number not in test], _VALID_SHARE)
    singers = {
        one: "test" if one.number in test else "valid" if one.number in valid else "train"
        for one in recordings
    }
    return {"technique": techniques, "singer": singers}
