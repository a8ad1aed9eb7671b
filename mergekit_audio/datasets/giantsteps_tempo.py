"""GiantSteps tempo: the tempo of electronic dance music."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from mergekit_audio.datasets._files import Faults
from mergekit_audio.datasets._tempo import read_bpm
from mergekit_audio.datasets.base import Item, Listing, PublicDataset, Source, TaskKind

_CHECKOUT = "giantsteps-tempo-dataset"
_FILE = re.compile(r"(?P<name>\d+)\.LOFI\.mp3")
_FOLDS = {
    **dict.fromkeys((f"fold{number:02d}.txt" for number in range(1, 8)), "train"),
    "fold08.txt": "valid",
    "fold09.txt": "test",
    "fold10.txt": "test",
}


class GiantstepsTempo(PublicDataset):
    """The tempo in beats a minute of 664 previews of 2 minutes.

    The corpus is usually only tested on; the repository has ten folds but no split. Here folds 1 to
    7 train, 8 validates, 9 and 10 test: our own choice. Read with the published annotations; no
    recording was at hand.
    """

    license: ClassVar[str] = "annotations: CC-BY-SA-4.0 as mirdata states; audio: Beatport's"
    citation: ClassVar[str] = (
        "Knees, Faraldo, Herrera, Vogl, Böck, Hörschläger, Le Goff, Two Data Sets for Tempo "
        "Estimation and Key Detection in Electronic Dance Music Annotated from User Corrections, "
        "ISMIR 2015; version 2: Schreiber, Müller, A Crowdsourced Experiment for Tempo Estimation "
        "of Electronic Dance Music, ISMIR 2018"
    )
    terms_url: ClassVar[str] = "https://github.com/GiantSteps/giantsteps-tempo-dataset"
    title: ClassVar[str] = "GiantSteps, tempo"
    kind: ClassVar[TaskKind] = "tempo"
    western: ClassVar[bool] = True
    splits: ClassVar[Mapping[str, int]] = {"train": 465, "valid": 67, "test": 132}
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            "annotations and folds",
            f"git clone {terms_url}",
            f"{_CHECKOUT}/annotations_v2/tempo/<id>.LOFI.bpm, {_CHECKOUT}/splits/fold01.txt, …",
        ),
        Source(
            "recordings (1 GB)",
            "audio_dl.sh in the repository",
            f"{_CHECKOUT}/audio/<id>.LOFI.mp3",
            "previews of 2 minutes; the script compares their md5",
        ),
    )
    notes: ClassVar[str] = (
        "The split is ours, and folds are random by recording: scores are no published benchmark. "
        "Version 2 found no tempo in 3041381, 3041383 and 1327052."
    )

    name: Literal["giantsteps_tempo"] = "giantsteps_tempo"
    """The dataset's name, its module's."""
    culture: Literal["western"] = "western"
    """The tradition."""
    annotations: Literal["v1", "v2"] = "v2"
    """Those of Knees and others (2015), or of Schreiber and Müller (2018)."""

    def labels(self) -> tuple[str, ...]:
        """Return no label: the task's value is ``tempo_bpm``."""
        return ()

    def read(self, raw: Path) -> Listing:
        """Read the folds and a BPM file for each recording; see `PublicDataset.read`."""
        faults = Faults(raw)
        splits = _splits(faults)
        faults.raise_if_any(f"expected a checkout of {self.terms_url} in the raw folder")
        folder = "annotations/tempo" if self.annotations == "v1" else "annotations_v2/tempo"
        items = []
        for name, split in sorted(splits.items()):
            file = f"{folder}/{name}.LOFI.bpm"
            tempo_bpm, problem = read_bpm(raw, f"{_CHECKOUT}/{file}", file)
            values = () if tempo_bpm is None else (("tempo_bpm", tempo_bpm),)
            audio = (f"{_CHECKOUT}/audio/{name}.LOFI.mp3", f"audio/{name}.LOFI.mp3")
            items.append(Item(name, split, (), audio, values=values, problem=problem))
        return Listing(tuple(items), files=tuple(faults.read))


def _splits(faults: Faults) -> dict[str, str]:
    splits: dict[str, str] = {}
    for fold, split in _FOLDS.items():
        text = faults.text(f"{_CHECKOUT}/splits/{fold}", f"splits/{fold}")
        for line, row in enumerate((text or "").splitlines(), start=1):
            match = _FILE.fullmatch(row.strip())
            if not row.strip():
                continue
            if match is None:
                faults.add(faults.read[-1], f"expected <id>.LOFI.mp3, found {row.strip()!r}", line)
            elif match["name"] in splits:
                faults.add(faults.read[-1], f"{match['name']!r} is in another fold already", line)
            else:
                splits[match["name"]] = split
    return splits
