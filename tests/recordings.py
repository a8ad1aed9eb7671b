"""Write small recordings for tests: tones and noise in the formats that the package reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

SUBTYPES = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}


def tone(
    *,
    duration_s: float = 2.0,
    sample_rate_hz: int = 24_000,
    channels: int = 1,
    frequency_hz: float = 440.0,
    amplitude: float = 0.4,
    noise: float = 0.02,
    seed: int = 0,
) -> np.ndarray:
    """A sine with a little noise, [S, channels]; channel c has frequency_hz * (c + 1)."""
    samples = round(duration_s * sample_rate_hz)
    seconds = np.arange(samples)[:, None] / sample_rate_hz
    wave = amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(1, channels + 1) * seconds)
    generator = np.random.default_rng(seed)
    return (wave + noise * generator.standard_normal(wave.shape)).clip(-1, 1)


def write_recording(
    path: Path,
    wave: np.ndarray | None = None,
    *,
    sample_rate_hz: int = 24_000,
    subtype: str | None = None,
    **tone_arguments: float,
) -> Path:
    """Write ``wave`` ([S] or [S, channels]; else a ``tone``) in the format of the suffix."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if wave is None:
        wave = tone(sample_rate_hz=sample_rate_hz, **tone_arguments)
    file_format, default_subtype = SUBTYPES[path.suffix.lower()]
    soundfile.write(
        path, wave, sample_rate_hz, format=file_format, subtype=subtype or default_subtype
    )
    return path


def cut(path: Path, share: float = 0.5) -> Path:
    """Keep only the first ``share`` of a file's bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path
