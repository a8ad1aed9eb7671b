"""What a Ray task of a sweep does on its machine."""

from __future__ import annotations

import functools
import pickle
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from mergekit_audio.errors import DependencyError
from mergekit_audio.lock import environment
from mergekit_audio.sweep.executors.base import Kept, Outcome, Piece
from mergekit_audio.sweep.executors.worker import Bench, sendable


def compute_piece(
    opening: Sequence[Any], versions: Mapping[str, str], piece: Piece, known: Sequence[Kept]
) -> tuple[Outcome, list[Kept]]:
    """Return a piece's outcome and its finished lines.

    Parameters
    ----------
    opening
        Ray's reference of the packed ``Opening``, in a list so that it is fetched only once.
    versions
        The packages of the driver.
    piece, known
        What to compute, and the lines that are there.
    """
    kept: list[Kept] = []
    try:
        _require_same_versions(versions)
        bench = _opened(opening[0])
    except Exception as error:
        return Outcome(error=sendable(error)), []
    outcome = bench.compute(
        piece, known, lambda each: kept.append(each) if isinstance(each, Kept) else None
    )
    return outcome, kept


@functools.lru_cache(maxsize=1)
def _opened(reference: Any) -> Bench:
    """Return the sweep that this process works at; the next task finds it open."""
    import ray
    import torch

    torch.set_num_threads(1)
    return Bench(pickle.loads(ray.get(reference)))


def _require_same_versions(versions: Mapping[str, str]) -> None:
    """Raise ``DependencyError`` where other packages would give other scores."""
    here = environment()
    for package, version in versions.items():
        if package != "python" and here.get(package) != version:
            raise DependencyError(
                f"{package} is {here.get(package)} on the machine {socket.gethostname()}, and "
                f"{version} where the sweep was started",
                "install the same versions on all machines",
            )
