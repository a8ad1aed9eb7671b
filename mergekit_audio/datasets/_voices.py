"""One voice: a wavetable instrument that follows a curve of pitch and an envelope.

Pitch and envelope are laid out 1,000 times a second and drawn linearly between; the phase is a
32-bit integer that wraps, so that a voice has no drift and is the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Wave = NDArray[np.float32]
Float = TypeVar("Float", np.float32, np.float64)

RATE_HZ = 24_000
CONTROL_HZ = 1_000
_STEP = RATE_HZ // CONTROL_HZ
_TABLE_BITS = 13
_HIGHEST_PARTIAL_HZ = 10_500.0
_MOST_PARTIALS = 28


@dataclass(frozen=True)
class Family:
    """How a family of instruments starts, holds and ends a note.

    Parameters
    ----------
    attack_s, release_s
        Ranges of the ramps at a note's start and end.
    decay_s
        Range of the time constant of a note's decay; ``None`` when it is held.
    breath
        Range of the noise beside the tone, relative to it.
    vibrato_cents
        Greatest depth of the vibrato.
    """

    attack_s: tuple[float, float]
    release_s: tuple[float, float]
    decay_s: tuple[float, float] | None
    breath: tuple[float, float]
    vibrato_cents: float


FAMILIES = {
    "bowed": Family((0.04, 0.09), (0.05, 0.09), None, (0.01, 0.05), 18.0),
    "flute": Family((0.03, 0.07), (0.04, 0.07), None, (0.05, 0.15), 12.0),
    "plucked": Family((0.002, 0.006), (0.03, 0.06), (0.2, 0.6), (0.0, 0.01), 0.0),
    "reed": Family((0.012, 0.035), (0.03, 0.05), None, (0.0, 0.03), 8.0),
    "voice": Family((0.04, 0.09), (0.06, 0.1), None, (0.01, 0.04), 25.0),
    "pad": Family((0.05, 0.2), (0.1, 0.3), None, (0.0, 0.01), 0.0),
}


@dataclass(frozen=True)
class Instrument:
    """One player's instrument of a family: the values drawn within the family's ranges.

    ``dark`` and ``bright`` are amplitudes of partials 1, 2, …, at a soft and a strong tone;
    ``formants_hz`` is empty unless the family sings.
    """

    family: str
    attack_s: float
    release_s: float
    decay_s: float | None
    breath: float
    vibrato_cents: float
    vibrato_hz: float
    dark: NDArray[np.float64]
    bright: NDArray[np.float64]
    phases: NDArray[np.float64]
    formants_hz: tuple[float, ...]


def make_instrument(family: str, generator: np.random.Generator) -> Instrument:
    """Draw one instrument of a family of `FAMILIES`."""
    kind = FAMILIES[family]
    partial = np.arange(1, _MOST_PARTIALS + 1, dtype=np.float64)
    tilt = float(generator.uniform(-0.2, 0.2))
    unevenness = np.exp(0.35 * generator.standard_normal(_MOST_PARTIALS))
    place = float(generator.uniform(0.1, 0.3))
    formants: tuple[float, ...] = ()
    if family == "flute":
        dark, bright = partial ** -(2.6 + tilt), partial ** -(1.7 + tilt)
    elif family == "reed":
        odd = np.where(partial % 2 == 1, 1.0, float(generator.uniform(0.1, 0.5)))
        dark, bright = odd * partial ** -(1.2 + tilt), odd * partial ** -(0.6 + tilt)
    elif family == "plucked":
        comb = np.abs(np.sin(np.pi * place * partial)) + 0.05
        dark, bright = comb * partial ** -(2.0 + tilt), comb * partial ** -(0.9 + tilt)
    elif family == "voice":
        dark, bright = partial ** -(1.3 + tilt), partial ** -(0.8 + tilt)
        formants = tuple(
            float(generator.uniform(low, high))
            for low, high in ((350, 800), (900, 1900), (2400, 3200))
        )
    else:
        dark, bright = partial ** -(1.4 + tilt), partial ** -(0.8 + tilt)
    return Instrument(
        family=family,
        attack_s=float(generator.uniform(*kind.attack_s)),
        release_s=float(generator.uniform(*kind.release_s)),
        decay_s=None if kind.decay_s is None else float(generator.uniform(*kind.decay_s)),
        breath=float(generator.uniform(*kind.breath)),
        vibrato_cents=float(generator.uniform(0.0, kind.vibrato_cents)),
        vibrato_hz=float(generator.uniform(4.5, 6.5)),
        dark=dark * unevenness,
        bright=bright * unevenness,
        phases=generator.uniform(0.0, 2 * np.pi, _MOST_PARTIALS),
        formants_hz=formants,
    )


def sound(
    instrument: Instrument,
    pitch_hz: NDArray[np.float64],
    level: NDArray[np.float64],
    brightness: NDArray[np.float64],
    generator: np.random.Generator,
) -> Wave:
    """Play one voice.

    Parameters
    ----------
    instrument
        What plays.
    pitch_hz, level, brightness
        Curves at `CONTROL_HZ`, shape ``[N]``; level in [0, 1], brightness in [0, 1].
    generator
        Source of the breath noise.

    Returns
    -------
    wave
        Shape ``[(N - 1) · 24]`` at 24 kHz, with the root mean square of 1 at full level.
    """
    dark, bright = _tables(instrument, float(np.median(pitch_hz)), float(pitch_hz.max()))
    turns = pitch_hz * (2.0**32 / RATE_HZ)
    phase = np.cumsum(upsample(turns).astype(np.uint32), dtype=np.uint32)
    index = (phase >> np.uint32(32 - _TABLE_BITS)).astype(np.intp)
    wave: Wave = np.take(bright - dark, index)
    wave *= upsample(brightness.astype(np.float32))
    wave += np.take(dark, index)
    if instrument.breath > 0.002:
        noise = generator.standard_normal(wave.size, dtype=np.float32)
        wave += np.float32(instrument.breath) * lowpass(noise, 0.55)
    wave *= upsample(level.astype(np.float32))
    return wave


def upsample(curve: NDArray[Float]) -> NDArray[Float]:
    """Draw a control curve ``[N]`` linearly to audio rate, ``[(N - 1) · 24]``, in its dtype."""
    ramp = (np.arange(_STEP) / _STEP).astype(curve.dtype)
    lines = np.diff(curve)[:, None] * ramp
    lines += curve[:-1, None]
    return lines.ravel()


def lowpass(wave: Wave, pole: float) -> Wave:
    """Filter by y[t] = (1 - pole) x[t] + pole y[t - 1]."""
    filtered: Wave = lfilter(
        np.array([1.0 - pole], np.float32), np.array([1.0, -pole], np.float32), wave
    )
    return filtered


def _tables(instrument: Instrument, middle_hz: float, top_hz: float) -> tuple[Wave, Wave]:
    """Return one period of the dark and of the bright tone, cut below the Nyquist frequency."""
    count = int(np.clip(_HIGHEST_PARTIAL_HZ // top_hz, 1, _MOST_PARTIALS))
    partial_hz = middle_hz * np.arange(1, count + 1)
    gain = np.ones(count)
    if instrument.formants_hz:
        widths = (90.0, 130.0, 220.0)
        gain = np.full(count, 0.05)
        for formant, width in zip(instrument.formants_hz, widths, strict=True):
            gain += 1.0 / (1.0 + ((partial_hz - formant) / width) ** 2)
    size = 1 << _TABLE_BITS
    turn = np.exp(1j * instrument.phases[:count])
    tables = []
    for amplitudes in (instrument.dark, instrument.bright):
        spectrum = np.zeros(size // 2 + 1, dtype=np.complex128)
        shape = amplitudes[:count] * gain
        spectrum[1 : count + 1] = turn * shape / np.sqrt(0.5 * np.sum(shape**2)) * (size / 2)
        tables.append(np.fft.irfft(spectrum, size).astype(np.float32))
    return tables[0], tables[1]
