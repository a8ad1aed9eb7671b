"""Decode a recording, or a window of it, to mono float32 at one sample rate."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr

from mergekit_audio.audio import integrity, mpeg
from mergekit_audio.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE_RATE_HZ = 24_000
DECODER = f"2 libsndfile-{soundfile.__libsndfile_version__} soxr-{soxr.__version__} HQ"
"""Names what the samples depend on besides the file; part of the store's keys."""

_FORMATS = ("FLAC", "MP3", "OGG", "RF64", "WAV", "WAVEX")
_LARGEST_SAMPLE = 32.0  # 30 dB above full scale: overshoot is less, whole numbers are more
_BLOCK_SAMPLES = 1 << 14
_WINDOW_TOLERANCE_S = 1.0
_MP3_TOLERANCE_SAMPLES = 2 * 1152
_MP3_PREROLL_S = 2.0  # a frame takes bits of the 511 bytes before it: half a second at 8 kbit/s
_SAMPLE_RATES_HZ = (4_000, 768_000)
_CONVERT = "convert it first: ffmpeg -i INPUT OUTPUT.flac"
_CUT = (
    "the file seems cut or damaged: copy or download it again; if it is meant to end there, "
    "save it anew (ffmpeg -i INPUT OUTPUT.flac)"
)


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """A recording that is read from front to back.

    ``SoundFile.read`` seeks to where it already is, after each call. In an MP3 that throws away the
    bits that the next frame takes from the frames before it, and the next frame is heard as noise.
    """

    def seekable(self) -> bool:
        return False


class RecordingError(InputError):
    """One recording can't be used; ``problem`` says why, without the path."""

    def __init__(self, path: Path, problem: str, hint: str = "") -> None:
        super().__init__(f"{path}: {problem}", hint)
        self.path = path
        self.problem = problem


def decode(
    path: Path,
    *,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    start_s: float | None = None,
    end_s: float | None = None,
) -> NDArray[np.float32]:
    """Decode ``[start_s, end_s)`` of a recording, mix it to mono by the mean and resample it.

    Parameters
    ----------
    path
        A WAV, FLAC, OGG (Vorbis or Opus) or MP3 file, of any sample rate and number of channels.
    sample_rate_hz
        Of the result; the resampler is soxr's HQ.
    start_s, end_s
        In seconds of the file; ``None`` means its beginning and its end. Only the window is read
        (of an MP3 also two seconds before it). An end up to one second behind the file's end means
        that end.

    Returns
    -------
    wave
        float32, shape ``[S]``, nominally in [-1, 1], S = round(seconds · ``sample_rate_hz``) ± 1.

    Raises
    ------
    RecordingError
        The file is missing, empty, not a recording, cut, holds samples that are no sound, or does
        not reach the window (an ``InputError`` that names the file).
    """
    blocks = decode_blocks(path, sample_rate_hz=sample_rate_hz, start_s=start_s, end_s=end_s)
    return np.concatenate(list(blocks))


def decode_blocks(
    path: Path,
    *,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    start_s: float | None = None,
    end_s: float | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Yield what ``decode`` returns block by block, so that hours need no more RAM than seconds.

    Raises
    ------
    RecordingError
        As ``decode``; also after some blocks, when the fault is found there.
    """
    path = Path(path)
    stream, cut = _inspect(path)
    if cut and end_s is None:
        raise RecordingError(path, cut, _CUT)
    with contextlib.ExitStack() as stack:
        recording = stack.enter_context(_open(path, _bytes_of(path, stream, stack)))
        first, last = _window(path, recording, start_s, end_s, cut)
        resampler = None
        if recording.samplerate != sample_rate_hz:
            resampler = soxr.ResampleStream(
                recording.samplerate, sample_rate_hz, 1, dtype="float32", quality="HQ"
            )
        for block in _read(path, recording, first, last):
            yield block if resampler is None else resampler.resample_chunk(block)
        if resampler is not None:
            yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def read_duration(path: Path) -> float:
    """Return a recording's length in seconds by its headers; nothing is decoded.

    Raises
    ------
    RecordingError
        The file is missing, empty, not a recording, or cut.
    """
    path = Path(path)
    stream, cut = _inspect(path)
    if cut:
        raise RecordingError(path, cut, _CUT)
    with contextlib.ExitStack() as stack:
        recording = stack.enter_context(_open(path, _bytes_of(path, stream, stack)))
        return float(recording.frames / recording.samplerate)


def _inspect(path: Path) -> tuple[mpeg.MpegStream | None, str]:
    """Return an MP3's frames, and what is missing at the file's end (a phrase)."""
    try:
        if path.is_dir():
            raise RecordingError(path, "is a folder, not a recording")
        if path.stat().st_size == 0:
            raise RecordingError(path, "is empty (0 bytes)", "copy or download it again")
        kind = integrity.kind_of(path)
        if kind != "mp3":
            return None, integrity.find_cut(path, kind)
        stream = mpeg.scan(path)
        if stream is None:
            raise RecordingError(path, "is not an MP3: it holds no MPEG frames", _CONVERT)
        return stream, stream.cut
    except FileNotFoundError:
        raise RecordingError(path, "no such file") from None
    except OSError as error:
        raise RecordingError(path, f"can't be read ({error.strerror})") from error


def _bytes_of(
    path: Path, stream: mpeg.MpegStream | None, stack: contextlib.ExitStack
) -> str | bytes | io.RawIOBase:
    """Return what libsndfile shall open: the path, or an MP3 with the header that it lacks."""
    if stream is None or stream.promised_frames is not None:
        return os.fsencode(path) if os.name == "posix" else str(path)  # a name may be any bytes
    return mpeg.with_xing_header(stack.enter_context(open(path, "rb")), stream)


def _open(path: Path, source: str | bytes | io.RawIOBase) -> _ForwardFile:
    try:
        recording = _ForwardFile(source)
    except (RuntimeError, TypeError) as error:
        known = path.suffix.lower() in integrity.READABLE_SUFFIXES
        problem = "is not a readable recording" if known else "is not in a supported format"
        raise RecordingError(
            path, f"{problem} (WAV, FLAC, OGG and MP3 are; {_reason(error)})", _CONVERT
        ) from error
    problem = ""
    if recording.format not in _FORMATS:
        problem = f"is {recording.format}; WAV, FLAC, OGG and MP3 are supported"
    elif not _SAMPLE_RATES_HZ[0] <= recording.samplerate <= _SAMPLE_RATES_HZ[1]:
        problem = f"has a sample rate of {recording.samplerate} Hz; 4 to 768 kHz are supported"
    elif recording.frames <= 0:
        problem = "holds no samples"
    if problem:
        recording.close()
        raise RecordingError(path, problem, _CONVERT)
    return recording


def _window(
    path: Path,
    recording: _ForwardFile,
    start_s: float | None,
    end_s: float | None,
    cut: str,
) -> tuple[int, int]:
    """Return the first sample and the one after the last, at the file's own rate."""
    rate, total = recording.samplerate, recording.frames
    first = 0 if start_s is None else round(start_s * rate)
    last = total if end_s is None else round(end_s * rate)
    if cut and last >= total:
        raise RecordingError(path, cut, _CUT)
    if last > total + _WINDOW_TOLERANCE_S * rate:
        raise RecordingError(
            path,
            f"has {total / rate:.2f} s, but the window ends at {end_s} s",
            "correct end_s (are the times in seconds?)",
        )
    last = min(last, total)
    if not 0 <= first < last:
        raise RecordingError(
            path,
            f"has {total / rate:.2f} s, and the window from {start_s} s to {end_s} s holds nothing",
            "correct start_s and end_s (are the times in seconds?)",
        )
    return first, last


def _read(
    path: Path, recording: _ForwardFile, first: int, last: int
) -> Iterator[NDArray[np.float32]]:
    """Yield mono blocks of the file's own rate and check that all of ``[first, last)`` came."""
    rate, position = recording.samplerate, first
    tolerance = _MP3_TOLERANCE_SAMPLES if recording.format == "MP3" else 0
    failure = ""
    try:
        _go_to(recording, first)
        while position < last:
            count = min(_BLOCK_SAMPLES, last - position)
            block = recording.read(count, dtype="float32", always_2d=True)
            if not len(block):
                break
            _require_sound(path, block, position, rate)
            position += len(block)
            yield _mean_of_channels(block)
    except RuntimeError as error:
        failure = f" ({_reason(error)})"
    if position == first or position + tolerance < last or (failure and position < last):
        raise RecordingError(
            path, f"decodes only to {position / rate:.2f} s of {last / rate:.2f} s{failure}", _CUT
        )


def _go_to(recording: _ForwardFile, first: int) -> None:
    """Seek to a sample; in an MP3 to some seconds before it, which are decoded and thrown away."""
    preroll = round(_MP3_PREROLL_S * recording.samplerate) if recording.format == "MP3" else 0
    start = max(0, first - preroll)
    if start:
        recording.seek(start)
    if start < first:
        recording.read(first - start, dtype="float32", always_2d=True)


def _mean_of_channels(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``[S]`` from ``[S, channels]``; ten times faster than a mean over so short an axis."""
    mono = np.ascontiguousarray(block[:, 0])
    for channel in range(1, block.shape[1]):
        mono = mono + block[:, channel]
    return mono / np.float32(block.shape[1])


def _require_sound(path: Path, block: NDArray[np.float32], position: int, rate: int) -> None:
    """Refuse samples that are not numbers, or so large that they must be of another scale."""
    sane = np.abs(block) <= _LARGEST_SAMPLE  # false for NaN
    if sane.all():
        return
    row, channel = (int(index) for index in np.argwhere(~sane)[0])
    value = block[row, channel]
    raise RecordingError(
        path,
        f"the sample at {(position + row) / rate:.3f} s is {value:g}, expected -1 to 1",
        "a float WAV may hold anything: export it again",
    )


def _reason(error: Exception) -> str:
    text = str(getattr(error, "error_string", error))
    return f"libsndfile: {text.strip().rstrip('.').removeprefix('Error : ')}"
