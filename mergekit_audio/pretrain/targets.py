"""Codes of teachers that need them once a segment: made on first use, kept in the store, mapped."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mergekit_audio.audio.prepared import PreparedTrack, Segment
from mergekit_audio.errors import InputError
from mergekit_audio.files import explain_os_errors, staged_file
from mergekit_audio.progress import Progress, ProgressEvent, silent
from mergekit_audio.teachers.base import OpenTeacher

UintArray = npt.NDArray[np.uint16]


class TargetCache:
    """The codes of one teacher, a file a segment, named by the content of audio and teacher.

    ``<store>/targets/<teacher digest>/<track digest>_<start>_<stop>.npy`` holds uint16 ``[T, K]``.

    Parameters
    ----------
    store
        The prepared store's root.
    name
        The teacher's name, for messages.
    teacher
        The open teacher; codes are those of whole segments, as MERT's are of whole files.
    device
        Where the teacher works.
    """

    def __init__(self, store: Path, name: str, teacher: OpenTeacher, device: str = "cpu") -> None:
        self.folder = Path(store) / "targets" / teacher.digest
        self.name = name
        self.teacher = teacher
        self.device = device

    def prepare(
        self, items: Iterable[tuple[PreparedTrack, Segment]], progress: Progress = silent
    ) -> None:
        """Make the codes that are missing."""
        wanted = {self.path(track, segment): (track, segment) for track, segment in items}
        missing = sorted(path for path in wanted if not path.exists())
        task = f"targets of {self.name}"
        for done, path in enumerate(missing):
            track, segment = wanted[path]
            progress(ProgressEvent(task, done, len(missing), track.track.id))
            self._write(path, track, segment)
        if missing:
            progress(ProgressEvent(task, len(missing), len(missing)))

    def read(self, track: PreparedTrack, segment: Segment, first: int, frames: int) -> UintArray:
        """Return the codes ``[frames, K]`` of a crop that starts at frame ``first`` of a segment.

        Raises
        ------
        InputError
            The cached file is damaged or holds too few frames.
        """
        path = self.path(track, segment)
        try:
            codes: Any = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path}: can't read the cached codes of {track.track.id}: {error}",
                f"delete {self.folder}; the same command makes it again",
            ) from error
        first = max(0, min(first, codes.shape[0] - frames))
        if codes.ndim != 2 or codes.dtype != np.uint16 or codes.shape[0] < frames:
            raise InputError(
                f"{path}: expected uint16 codes [at least {frames}, codebooks], "
                f"found {codes.dtype} {list(codes.shape)}",
                f"delete {self.folder}; the same command makes it again",
            )
        crop: UintArray = np.array(codes[first : first + frames])
        return crop

    def path(self, track: PreparedTrack, segment: Segment) -> Path:
        """Return where the codes of a segment are kept."""
        name = f"{track.digest}_{segment.start}_{segment.stop}.npy"
        return self.folder / track.digest[:2] / name

    def _write(self, path: Path, track: PreparedTrack, segment: Segment) -> None:
        wave = torch.from_numpy(np.array(track.wave(segment.start, segment.stop)))
        with torch.no_grad():
            codes = self.teacher.targets(wave.unsqueeze(0).to(self.device))[0].cpu().numpy()
        if codes.min(initial=0) < 0 or codes.max(initial=0) > np.iinfo(np.uint16).max:
            raise InputError(
                f"teacher {self.name}: codes from {codes.min()} to {codes.max()} do not fit 16 bits"
            )
        with explain_os_errors(path), staged_file(path) as staging, open(staging, "wb") as stream:
            np.save(stream, codes.astype(np.uint16))
