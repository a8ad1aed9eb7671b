"""The split files of "From West to East" (ISMIR 2023): NPY files of ids, one a split."""

from __future__ import annotations

from mergekit_audio.datasets._files import Faults
from mergekit_audio.datasets.base import SPLITS, Source

CITATION = (
    "Splits: Papaioannou, Benetos, Potamianos, From West to East: Who can understand the music of "
    "the others better?, ISMIR 2023 (arXiv:2307.09795)"
)
_COMMIT = "1f20c2f"


def split_source(folder: str) -> Source:
    """Return what to fetch: the split files of one folder of pxaris/ccml."""
    return Source(
        "split files",
        f"https://github.com/pxaris/ccml/tree/{_COMMIT}/data/{folder}/split",
        "split/train.npy, split/valid.npy, split/test.npy",
    )


def read_splits(faults: Faults) -> dict[str, str]:
    """Return the split of each id; an id that is listed twice is a fault."""
    found: dict[str, str] = {}
    for split in SPLITS:
        place = f"split/{split}.npy"
        for name in faults.names(place, f"{split}.npy"):
            if name in found:
                faults.add(place, f"{name!r} is in {found[name]} already")
            found[name] = split
    return found
