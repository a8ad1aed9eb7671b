"""The prepared store: every recording decoded once, kept by content, mapped by its users.

``objects/<2>/<key>.pcm`` holds mono 16-bit samples, ``<key>.json`` beside it their number and
digest (or why the recording can't be used); the key is the sha256 of source bytes, window, rate and
decoder. ``sources/<2>/<sha256 of the path>.json`` remembers a file's size, times and sha256, so
that a file that did not change is neither hashed nor decoded again. Every file is written under a
temporary name and renamed, so that any number of processes may prepare the same corpus at once.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mergekit_audio.audio import objects
from mergekit_audio.audio.corpus import Track, load_tracks, printable
from mergekit_audio.audio.decode import SAMPLE_RATE_HZ, RecordingError
from mergekit_audio.audio.objects import Facts, Sound, SourceFile
from mergekit_audio.audio.prepared import PreparedCorpus, PreparedTrack, Segment
from mergekit_audio.audio.report import Finding, PrepareReport
from mergekit_audio.errors import InputError
from mergekit_audio.progress import Progress, ProgressEvent, silent

__all__ = ["PrepareReport", "PreparedCorpus", "PreparedTrack", "Segment", "Store"]

MIN_DURATION_S = 1.0
SILENT_RANGE = 8
"""A recording whose 16-bit samples stay within so many steps (-78 dB of full scale) is silent."""

_Item = TypeVar("_Item")
_Value = TypeVar("_Value")


class Store:
    """A folder of prepared recordings, shared by corpora, recipes and processes.

    Parameters
    ----------
    root
        The folder; made when something is put into it.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def prepare(
        self,
        source: Path,
        *,
        sample_rate_hz: int = SAMPLE_RATE_HZ,
        workers: int = 1,
        min_s: float = MIN_DURATION_S,
        progress: Progress = silent,
    ) -> PreparedCorpus:
        """Decode what the store lacks of a corpus and return its usable tracks with a report.

        Undecodable, silent, too short and duplicated tracks are listed and left out; tracks without
        tags are listed and kept. Of tracks with the same samples the first by id is kept; so are
        different windows of one file. The result does not depend on ``workers``.

        Parameters
        ----------
        source
            A folder of recordings or a manifest, see ``load_tracks``.
        sample_rate_hz
            Of the prepared samples.
        workers
            Threads that hash and decode (both work outside Python's lock).
        min_s
            Shorter tracks are too short, in seconds.
        progress
            Called after each file that was hashed and each track that was decoded.

        Raises
        ------
        InputError
            The corpus can't be read, none of its tracks can be used, or the store can't be written.
        """
        source = Path(source)
        tracks = load_tracks(source)
        with self._explained():
            sources = self._find_sources(tracks, source.name, workers, progress)
            facts = self._find_facts(
                tracks, sources, sample_rate_hz, source.name, workers, progress
            )
        corpus = _classify(source, tracks, sources, facts, sample_rate_hz, min_s)
        if not corpus.tracks:
            lines = corpus.report.lines(most=20)
            raise InputError(
                f"{source}: none of its {len(tracks)} tracks can be used\n" + "\n".join(lines),
                "WAV, FLAC, OGG and MP3 are read; convert others: ffmpeg -i INPUT OUTPUT.flac",
            )
        return corpus

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Say of a store that can't be written what to do about it."""
        hint = "free some space or check the permissions, or choose another store"
        if self.root.exists() and not self.root.is_dir():
            raise InputError(f"{self.root}: can't be a store (Not a directory)", hint)
        try:
            yield
        except InputError as error:
            if isinstance(error.__cause__, OSError):
                raise InputError(error.message, hint) from error
            raise
        except OSError as error:
            raise InputError(f"{self.root}: can't be a store ({error.strerror})", hint) from error

    def _find_sources(
        self, tracks: Sequence[Track], name: str, workers: int, progress: Progress
    ) -> dict[Path, SourceFile | RecordingError]:
        """Return each file's stand and content, hashing those that the store does not know."""
        found: dict[Path, SourceFile | RecordingError] = {}
        unknown = []
        for path in sorted({track.path for track in tracks}):
            known = objects.known_source(self.root, path)
            if known is None:
                unknown.append(path)
            else:
                found[path] = known
        task = f"read {name}"

        def read(path: Path, stop: threading.Event) -> SourceFile | RecordingError:
            return objects.read_source(self.root, path, stop)

        found.update(_work(read, [(path.name, path) for path in unknown], workers, task, progress))
        return found

    def _find_facts(
        self,
        tracks: Sequence[Track],
        sources: dict[Path, SourceFile | RecordingError],
        sample_rate_hz: int,
        name: str,
        workers: int,
        progress: Progress,
    ) -> list[Facts]:
        """Return what is known of each track, decoding those that the store lacks."""
        known: dict[str, Facts] = {}
        keys: list[str] = []
        jobs: list[tuple[str, _Job]] = []
        for track in tracks:
            file = sources[track.path]
            if isinstance(file, RecordingError):
                keys.append(f"{track.path}")
                known[keys[-1]] = Facts(problem=file.problem)
                continue
            key = objects.key_of(file.sha256, track.start_s, track.end_s, sample_rate_hz)
            keys.append(key)
            if key in known:
                continue
            facts = objects.read_facts(self.root, key)
            known[key] = facts or Facts()
            if facts is None:
                jobs.append((track.id, _Job(key, track, file, sample_rate_hz)))

        def decode(job: _Job, stop: threading.Event) -> Facts:
            window = (job.track.start_s, job.track.end_s)
            return objects.make(self.root, job.key, job.file, window, job.sample_rate_hz, stop)

        if jobs:
            objects.remove_abandoned(self.root)
        decoded = _work(decode, jobs, workers, f"decode {name}", progress)
        known.update({job.key: facts for job, facts in decoded.items()})
        return [known[key] for key in keys]


@dataclass(frozen=True)
class _Job:
    key: str
    track: Track
    file: SourceFile
    sample_rate_hz: int


def _work(
    function: Callable[[_Item, threading.Event], _Value],
    items: Sequence[tuple[str, _Item]],
    workers: int,
    task: str,
    progress: Progress,
) -> dict[_Item, _Value]:
    """Call ``function(item, stop)`` for each named item; an error or Ctrl-C stops all."""
    results: dict[_Item, _Value] = {}
    for done, (name, item, value) in enumerate(_completed(function, items, workers), start=1):
        results[item] = value
        progress(ProgressEvent(task, done, len(items), name))
    return results


def _completed(
    function: Callable[[_Item, threading.Event], _Value],
    items: Sequence[tuple[str, _Item]],
    workers: int,
) -> Iterator[tuple[str, _Item, _Value]]:
    stop = threading.Event()
    if workers <= 1 or len(items) <= 1:
        for name, item in items:
            yield name, item, function(item, stop)
        return
    with ThreadPoolExecutor(min(workers, len(items)), thread_name_prefix="prepare") as pool:
        futures = {pool.submit(function, item, stop): (name, item) for name, item in items}
        try:
            for future in as_completed(futures):
                name, item = futures[future]
                yield name, item, future.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _classify(
    source: Path,
    tracks: Sequence[Track],
    sources: dict[Path, SourceFile | RecordingError],
    facts: Iterable[Facts],
    sample_rate_hz: int,
    min_s: float,
) -> PreparedCorpus:
    folder = source if source.is_dir() else source.parent
    kept: list[PreparedTrack] = []
    first: dict[str, list[Track]] = {}
    findings: list[tuple[str, Finding]] = []
    for track, known in zip(tracks, facts, strict=True):
        kind, reason = _fault(known, sample_rate_hz, min_s)
        if known.sound is not None and not kind:
            same = first.setdefault(known.sound.digest, [])
            twin = next((other for other in same if not _are_windows(track, other, sources)), None)
            same.append(track)
            if twin is not None:
                kind, reason = "duplicated", _duplicate_reason(track, twin)
        if kind:
            findings.append((kind, _finding(track, folder, reason)))
            continue
        assert known.sound is not None
        if not track.tags and not track.values:
            findings.append(("untagged", _finding(track, folder, "has no tags")))
        kept.append(PreparedTrack(track, known.sound.samples, known.sound.digest, known.sound.path))
    report = PrepareReport.of(findings)
    return PreparedCorpus(source, sample_rate_hz, tuple(kept), report, tuple(sources))


def _fault(known: Facts, sample_rate_hz: int, min_s: float) -> tuple[str, str]:
    """Return the kind of fault and its reason; two empty texts when the track can be used."""
    if known.sound is None:
        return "undecodable", known.problem
    sound: Sound = known.sound
    seconds = sound.samples / sample_rate_hz
    if seconds < min_s:
        return "too_short", f"{seconds:.2f} s; at least {min_s:g} s are needed"
    if sound.highest - sound.lowest <= SILENT_RANGE:
        return "silent", f"its {seconds:.1f} s stay within {SILENT_RANGE} steps of 16 bits"
    return "", ""


def _are_windows(
    track: Track, other: Track, sources: dict[Path, SourceFile | RecordingError]
) -> bool:
    """Tell whether two tracks are different windows of the same content."""
    here, there = sources[track.path], sources[other.path]
    assert isinstance(here, SourceFile)
    assert isinstance(there, SourceFile)
    windows = {(one.start_s or 0.0, one.end_s) for one in (track, other)}
    return here.sha256 == there.sha256 and len(windows) == 2


def _duplicate_reason(track: Track, twin: Track) -> str:
    notes: list[str] = []
    if track.split != twin.split:
        notes.append(f"split {twin.split or 'none'} there, {track.split or 'none'} here")
    if set(track.tags) != set(twin.tags):
        notes.append("with other tags there")
    if set(track.values) != set(twin.values):
        notes.append("with other values there")
    return f"the same samples as {twin.id}" + (f" ({'; '.join(notes)})" if notes else "")


def _finding(track: Track, folder: Path, reason: str) -> Finding:
    inside: Any = (
        track.path.relative_to(folder) if track.path.is_relative_to(folder) else track.path
    )
    return Finding(track.id, printable(inside), reason)
