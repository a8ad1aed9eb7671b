"""Hours of audio prepared in a minute, by format, and how much faster a second prepare is.

    python benchmarks/decode.py [--minutes 3] [--files 4] [--workers 1 2]

Prints plain lines. Recordings are stereo at 44.1 kHz, written into a temporary folder first.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import soxr

from mergekit_audio.audio.store import Store

SAMPLE_RATE_HZ = 44_100
FORMATS = ("wav", "flac", "ogg", "mp3")


def main() -> None:
    """Write recordings, prepare them, print rates and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3.0, help="length of a recording")
    parser.add_argument("--files", type=int, default=4, help="recordings of each format")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="threads")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write_recordings(root / "audio", arguments.files, arguments.minutes * 60)
        for file_format in FORMATS:
            _measure(root, file_format, arguments.workers)


def _measure(root: Path, file_format: str, workers: list[int]) -> None:
    source = root / "audio" / file_format
    started = time.perf_counter()
    for path in sorted(source.iterdir()):
        _decode_at_once(path)
    at_once_s = time.perf_counter() - started
    for count in workers:
        store = Store(root / f"store-{file_format}-{count}")
        started = time.perf_counter()
        corpus = store.prepare(source, workers=count)
        first_s = time.perf_counter() - started
        started = time.perf_counter()
        store.prepare(source, workers=count)
        second_s = time.perf_counter() - started
        print(
            f"{file_format:4}  workers {count}: {corpus.hours / first_s * 60:6.1f} h of audio/min, "
            f"{at_once_s / first_s:4.2f}x a plain soundfile + soxr loop, "
            f"second prepare {first_s / second_s:,.0f}x faster"
        )


def _decode_at_once(path: Path) -> int:
    """Decode as one would without the package: the whole file in memory, nothing kept."""
    wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return int(soxr.resample(wave.mean(axis=1), rate, 24_000).size)


def _write_recordings(folder: Path, files: int, seconds: float) -> None:
    samples = round(seconds * SAMPLE_RATE_HZ)
    time_s = np.arange(samples) / SAMPLE_RATE_HZ
    for number in range(files):
        generator = np.random.default_rng(number)
        wave = 0.05 * generator.standard_normal((samples, 2))
        wave += 0.3 * np.sin(2 * np.pi * (220 + 30 * number) * time_s)[:, None]
        for file_format in FORMATS:
            path = folder / file_format / f"{number}.{file_format}"
            path.parent.mkdir(parents=True, exist_ok=True)
            with soundfile.SoundFile(path, "w", SAMPLE_RATE_HZ, 2) as recording:
                for start in range(0, samples, SAMPLE_RATE_HZ):
                    recording.write(wave[start : start + SAMPLE_RATE_HZ])


if __name__ == "__main__":
    main()
