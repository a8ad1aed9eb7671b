"""The files that a corpus was read from, with their sha256, for the lock of what was made of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mergekit_audio.audio.corpus import manifests_of, printable
from mergekit_audio.audio.prepared import PreparedCorpus
from mergekit_audio.files import sha256_of_file


@dataclass(frozen=True)
class Origin:
    """Files of a corpus that share a folder.

    Parameters
    ----------
    source
        The corpus's folder or manifest, or the folder of recordings elsewhere, relative to a root.
    files
        sha256 by name inside the folder (or beside the manifest), as ``printable`` writes it.
    """

    source: str
    files: dict[str, str]


def origins(corpus: PreparedCorpus, root: Path) -> list[Origin]:
    """Return the corpus's own entry and, where recordings lie outside its folder, one for those.

    The manifest and every recording that was looked at count, also those that were left out: once
    mended, they would be a part of the corpus.

    Parameters
    ----------
    root
        The folder that the sources are relative to.
    """
    place = corpus.source
    folder = (place if place.is_dir() else place.parent).resolve()
    own = place if place.exists() else place.parent  # ``folder/X`` means several manifests
    paths = {path.resolve() for path in manifests_of(place)} | {
        path.resolve() for path in corpus.paths if path.is_file()
    }
    inside = sorted(path for path in paths if folder in path.parents)
    outside = sorted(paths - set(inside))
    found = [Origin(_relative(own, root), _hashes(inside, folder))]
    if outside:
        shared = Path(os.path.commonpath([path.parent for path in outside]))
        found.append(Origin(_relative(shared, root), _hashes(outside, shared)))
    return found


def _hashes(paths: Iterable[Path], folder: Path) -> dict[str, str]:
    return {printable(path.relative_to(folder)): sha256_of_file(path) for path in paths}


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path.resolve(), root.resolve())).as_posix()
