"""Codes of teachers that need them once a segment: made on first use, kept in the store, mapped."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mergekit_audio.audio.prepared import PreparedTrack, Segment
from mergekit_audio.errors import InputError
from mergekit_audio.files import remove_abandoned
from mergekit_audio.pretrain.tokens import TokenJob, make_tokens
from mergekit_audio.progress import Progress, ProgressEvent, silent
from mergekit_audio.teachers._frames import frame_count
from mergekit_audio.teachers.base import OpenTeacher

UintArray = npt.NDArray[np.uint16]
_HEADER_BYTES = 128
_PARTIAL = ".????????.partial"


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
        Where the teacher works. Codes of a GPU, which may differ from a CPU's at near-ties, lie
        apart in ``<teacher digest>-<device>``.
    """

    def __init__(self, store: Path, name: str, teacher: OpenTeacher, device: str = "cpu") -> None:
        kind = "" if device == "cpu" else f"-{device.split(':')[0]}"
        self.folder = Path(store) / "targets" / f"{teacher.digest}{kind}"
        self.name = name
        self.teacher = teacher
        self.device = device

    def prepare(
        self,
        items: Iterable[tuple[PreparedTrack, Segment]],
        progress: Progress = silent,
        *,
        workers: int = 1,
    ) -> None:
        """Make the codes that are missing; what an earlier, killed run made is kept.

        A segment of 30 s takes 16 bits · 2,249 frames · K: 36 kB with 8 codebooks, 4.3 MB an hour.

        Parameters
        ----------
        items
            Segments with their tracks.
        progress
            Told of every segment that is done.
        workers
            Segments made at a time on a CPU, one thread each.

        Raises
        ------
        InputError
            Sound can't be read, or a file can't be written.
        """
        wanted = {self.path(track, segment): (track, segment) for track, segment in items}
        missing = sorted(path for path, item in wanted.items() if not _is_whole(path, item[1]))
        if not missing:
            return
        self._remove_leftovers()
        task = f"targets of {self.name}"
        progress(ProgressEvent(task, 0, len(missing)))
        jobs = [TokenJob(path, *wanted[path]) for path in missing]
        made = make_tokens(self.teacher, self.name, jobs, device=self.device, workers=workers)
        for done, job in enumerate(made, start=1):
            progress(ProgressEvent(task, done, len(missing), job.track.track.id))

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

    def _remove_leftovers(self) -> None:
        """Remove what killed processes were writing."""
        for partial in sorted(self.folder.glob(f"*/.*{_PARTIAL}")):
            remove_abandoned(partial.with_name(partial.name[1 : -len(_PARTIAL)]))


def _is_whole(path: Path, segment: Segment) -> bool:
    """Whether a file is there and as long as codes of all the segment's frames."""
    try:
        data_bytes = path.stat().st_size - _HEADER_BYTES
    except OSError:
        return False
    frame_bytes = frame_count(segment.stop - segment.start) * np.dtype(np.uint16).itemsize
    return data_bytes > 0 and data_bytes % frame_bytes == 0
