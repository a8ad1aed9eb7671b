"""Make codes of whole segments: one segment a core on CPUs, batches of equal ones on a GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mergekit_audio.audio.prepared import PreparedTrack, Segment
from mergekit_audio.errors import InputError
from mergekit_audio.files import explain_os_errors, staged_file
from mergekit_audio.teachers.base import OpenTeacher

# EnCodec needs about 0.4 GB of activations for a segment of 30 s.
_GPU_BATCH = 8


@dataclass(frozen=True)
class TokenJob:
    """The file to write, and the sound whose codes go into it."""

    path: Path
    track: PreparedTrack
    segment: Segment


def make_tokens(
    teacher: OpenTeacher, name: str, jobs: Sequence[TokenJob], *, device: str, workers: int
) -> Iterator[TokenJob]:
    """Write a file ``[T, K]`` uint16 for each job, and yield the jobs as they are done.

    Each file appears whole, so that a kill loses only what was in hand. On a CPU a segment is
    computed alone and by one thread, whatever the number of workers and of segments that are still
    to be made: its codes are the same bits each time. On a GPU segments of equal length share a
    batch, and codes at near-ties may depend on it.

    Parameters
    ----------
    teacher, name
        The open teacher, and its name for messages.
    jobs
        What is to be made, in the order in which it is begun.
    device
        Where the teacher computes.
    workers
        Segments made at a time on a CPU, at least 1.

    Raises
    ------
    InputError
        Sound can't be read, codes do not fit 16 bits, or a file can't be written.
    """
    if device != "cpu":
        for batch in _batches(jobs, _GPU_BATCH):
            _make(teacher, name, batch, device)
            yield from batch
        return
    with _one_core_each():
        if workers <= 1 or len(jobs) <= 1:
            for job in jobs:
                _make(teacher, name, [job], device)
                yield job
            return
        pool = ThreadPoolExecutor(
            min(workers, len(jobs)), "tokens", initializer=torch.set_num_threads, initargs=(1,)
        )
        try:
            futures = {pool.submit(_make, teacher, name, [job], device): job for job in jobs}
            for future in as_completed(futures):
                future.result()
                yield futures.pop(future)
        finally:
            pool.shutdown(cancel_futures=True)


def _batches(jobs: Sequence[TokenJob], size: int) -> Iterator[list[TokenJob]]:
    """Yield the jobs in batches of one length, the lengths in order."""
    by_length: dict[int, list[TokenJob]] = {}
    for job in jobs:
        by_length.setdefault(job.segment.stop - job.segment.start, []).append(job)
    for _, same in sorted(by_length.items()):
        for first in range(0, len(same), size):
            yield same[first : first + size]


def _make(teacher: OpenTeacher, name: str, batch: Sequence[TokenJob], device: str) -> None:
    waves = [job.track.wave(job.segment.start, job.segment.stop) for job in batch]
    with torch.no_grad():
        codes = teacher.targets(torch.from_numpy(np.stack(waves)).to(device)).cpu().numpy()
    if codes.min(initial=0) < 0 or codes.max(initial=0) > np.iinfo(np.uint16).max:
        raise InputError(
            f"teacher {name}: codes from {codes.min()} to {codes.max()} do not fit 16 bits"
        )
    for job, own in zip(batch, codes.astype(np.uint16), strict=True):
        with (
            explain_os_errors(job.path),
            staged_file(job.path) as staging,
            open(staging, "wb") as stream,
        ):
            np.save(stream, np.ascontiguousarray(own))


@contextlib.contextmanager
def _one_core_each() -> Iterator[None]:
    """Let torch use one thread in each Python thread, and put its number back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
