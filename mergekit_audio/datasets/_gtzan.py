"""What the genres and the tempi of GTZAN share: fault-filtered splits, and where the audio lies."""

from __future__ import annotations

import re

from mergekit_audio.datasets._files import Faults
from mergekit_audio.datasets.base import Finding, Source

GENRES = (
    "blues",
    "classical",
    "country",
    "disco",
    "hiphop",
    "jazz",
    "metal",
    "pop",
    "reggae",
    "rock",
)
CHECKSUMS = {
    "train_filtered.txt": "2b04966cef1486f1a7767b74271533fa23e220388db804a1937835e1fc4fa3fa",
    "valid_filtered.txt": "f8fbee7c52397a0e0f3a91dc54fedecb2e27f5bdc9a9daeab8cb10d077e26956",
    "test_filtered.txt": "09cafa6a89ce0a27f30ed250d56ecb4d03c22fffb5a693f96c7ae655ee02ac72",
}
SPLITS = {"train": 443, "valid": 197, "test": 290}
LICENSE = "none is known; the recordings are their owners'"
CITATION = (
    "Tzanetakis, Cook, Musical genre classification of audio signals, IEEE Transactions on Speech "
    "and Audio Processing 10(5), 2002; splits: Kereliuk, Sturm, Larsen, Deep Learning and Music "
    "Adversaries, IEEE Transactions on Multimedia 17(11), 2015 (arXiv:1507.04761)"
)
SPLIT_SOURCE = Source(
    "fault-filtered split lists",
    "git clone https://github.com/jongpillee/music_dataset_split",
    "GTZAN_split/train_filtered.txt, valid_filtered.txt, test_filtered.txt (or split/…)",
)
AUDIO = Source(
    "recordings (1.2 GB)",
    "http://opihi.cs.uvic.ca/sound/genres.tar.gz (the host has been down; copies are on several "
    "hubs), md5 5b3d6dddb579ab49814ab86dba69e7c7",
    "genres/<genre>/<genre>.<00000-00099>.wav (or .au, or genres_original/…)",
    "30 s, mono, 22.05 kHz; of a copy that is common on hubs, jazz.00054.wav can't be read",
)
FILTERED = "in no list: repeated, distorted, wrongly labelled, or its artist is in another split"

_LINE = re.compile(r"(?P<genre>[a-z]+)/(?P<name>(?P=genre)\.\d{5})\.(?:wav|au)")
_PER_GENRE = 100


def read_splits(faults: Faults) -> dict[str, str]:
    """Return the split of each recording ``blues.00000``; faults are kept."""
    splits: dict[str, str] = {}
    for split in SPLITS:
        name = f"{split}_filtered.txt"
        text = faults.text(f"GTZAN_split/{name}", f"split/{name}", name)
        for line, row in enumerate((text or "").splitlines(), start=1):
            match = _LINE.fullmatch(row.strip())
            if not row.strip():
                continue
            if match is None or match["genre"] not in GENRES:
                problem = f"expected <genre>/<genre>.<number>.wav, found {row.strip()[:60]!r}"
                faults.add(faults.read[-1], problem, line)
            elif match["name"] in splits:
                problem = f"{match['name']!r} is in {splits[match['name']]} already"
                faults.add(faults.read[-1], problem, line)
            else:
                splits[match["name"]] = split
    return splits


def filtered_out(splits: dict[str, str]) -> tuple[Finding, ...]:
    """Return the recordings of the thousand that are in no list: 70 with the published ones."""
    names = [f"{genre}.{number:05d}" for genre in GENRES for number in range(_PER_GENRE)]
    return tuple(Finding("known_broken", name, FILTERED) for name in names if name not in splits)


def audio_places(name: str) -> tuple[str, ...]:
    """Return where a recording may lie."""
    place = f"{name.partition('.')[0]}/{name}.wav"
    return (f"genres/{place}", f"genres_original/{place}", f"audio/{place}", place)
