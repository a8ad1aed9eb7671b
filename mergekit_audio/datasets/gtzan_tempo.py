"""GTZAN-Rhythm: the tempo of GTZAN's recordings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from mergekit_audio.datasets._files import Faults
from mergekit_audio.datasets._gtzan import (
    AUDIO,
    CHECKSUMS,
    CITATION,
    LICENSE,
    SPLIT_SOURCE,
    SPLITS,
    audio_places,
    filtered_out,
    read_splits,
)
from mergekit_audio.datasets._tempo import read_bpm
from mergekit_audio.datasets.base import Item, Listing, PublicDataset, Source, TaskKind

_ANNOTATIONS = "https://github.com/TempoBeatDownbeat/gtzan_tempo_beat"


class GtzanTempo(PublicDataset):
    """The tempo in beats a minute of GTZAN's recordings, with the fault-filtered splits.

    One file a recording, ``gtzan_<genre>_<number>.bpm``, holds one number. Its form was seen in one
    file (country.00000: 85.53); how many of the 930 recordings have one could not be counted.
    """

    license: ClassVar[str] = LICENSE
    citation: ClassVar[str] = (
        f"{CITATION}; tempo: Marchand, Fresnel, Peeters, GTZAN-Rhythm: Extending the GTZAN "
        "Test-Set with Beat, Downbeat and Swing Annotations, ISMIR 2015, late-breaking"
    )
    terms_url: ClassVar[str] = _ANNOTATIONS
    title: ClassVar[str] = "GTZAN, tempo"
    kind: ClassVar[TaskKind] = "tempo"
    western: ClassVar[bool] = True
    splits: ClassVar[Mapping[str, int]] = SPLITS
    checksums: ClassVar[Mapping[str, str]] = CHECKSUMS
    sources: ClassVar[tuple[Source, ...]] = (
        SPLIT_SOURCE,
        Source(
            "annotations",
            f"git clone {_ANNOTATIONS}",
            "gtzan_tempo_beat/tempo/gtzan_<genre>_<number>.bpm (or gtzan_tempo_beat-main/…, or "
            "tempo/…)",
        ),
        AUDIO,
    )
    notes: ClassVar[str] = (
        "The fault-filtered splits of the genres, as in peft-music's list, which lacks jazz.00031 "
        "and jazz.00054 (442, 196 and 290 recordings) and rounds tempi to whole numbers."
    )

    name: Literal["gtzan_tempo"] = "gtzan_tempo"
    """The dataset's name, its module's."""
    culture: Literal["western"] = "western"
    """The tradition."""

    def labels(self) -> tuple[str, ...]:
        """Return no label: the task's value is ``tempo_bpm``."""
        return ()

    def read(self, raw: Path) -> Listing:
        """Read the three lists and a BPM file for each recording; see `PublicDataset.read`."""
        faults = Faults(raw)
        splits = read_splits(faults)
        faults.raise_if_any("expected the lists of jongpillee/music_dataset_split, GTZAN_split")
        items = []
        for name, split in sorted(splits.items()):
            file = f"tempo/gtzan_{name.replace('.', '_')}.bpm"
            folders = ("gtzan_tempo_beat/", "gtzan_tempo_beat-main/", "")
            tempo_bpm, problem = read_bpm(raw, *(folder + file for folder in folders))
            values = () if tempo_bpm is None else (("tempo_bpm", tempo_bpm),)
            items.append(Item(name, split, (), audio_places(name), values=values, problem=problem))
        return Listing(tuple(items), filtered_out(splits), tuple(faults.read))
