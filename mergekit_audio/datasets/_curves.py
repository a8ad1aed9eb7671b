"""Turn notes into what a voice follows: curves of pitch, level and brightness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mergekit_audio.datasets._melody import Note
from mergekit_audio.datasets._plan import TONIC_HZ
from mergekit_audio.datasets._scales import Scale
from mergekit_audio.datasets._traditions import Ornament
from mergekit_audio.datasets._voices import CONTROL_HZ, Instrument

Curve = NDArray[np.float64]

_INTONATION_CENTS = 4.0
_GRACE_S = 0.06
_LONG_S = 0.22
_LEGATO_LEVEL = 0.75


@dataclass(frozen=True)
class Curves:
    """Pitch in Hz, level in [0, 1] and brightness in [0, 1], each ``[N]``."""

    pitch_hz: Curve
    level: Curve
    brightness: Curve


def melodic(
    notes: Sequence[Note],
    scale: Scale,
    ornament: Ornament,
    instrument: Instrument,
    tonic_cents: float,
    duration_s: float,
    generator: np.random.Generator,
) -> Curves:
    """Lay out a melody with its glides, grace notes, oscillations and the instrument's own vibrato.

    ``tonic_cents`` is the voice's tonic above `TONIC_HZ`, octave included.
    """
    size = control_size(duration_s)
    cents, level = np.zeros(size), np.zeros(size)
    chance = generator.random((len(notes), 3))
    detune = _INTONATION_CENTS * generator.standard_normal(len(notes))
    before: float | None = None
    for number, note in enumerate(notes):
        first, last = _frames(note.start_s, note.end_s, size)
        if last <= first:
            continue
        pitch = scale.pitch(note.degree, note.falling) + float(detune[number])
        time = (np.arange(first, last) / CONTROL_HZ) - note.start_s
        long = note.end_s - note.start_s > _LONG_S
        curve = np.full(last - first, pitch)
        glide = before is not None and chance[number, 0] < ornament.glide_share
        if glide and before is not None:
            glide_s = float(generator.uniform(*ornament.glide_s))
            length_s = min(glide_s, 0.6 * (note.end_s - note.start_s))
            curve += (before - pitch) * _smooth_fall(time / length_s)
        elif long and chance[number, 1] < ornament.grace_share:
            neighbour = scale.pitch(note.degree + (1 if chance[number, 2] < 0.7 else -1))
            curve += (neighbour - pitch) * _smooth_fall((time - _GRACE_S) / 0.02)
        sways = note.degree % len(scale.cents) in scale.swaying
        if long and sways and chance[number, 2] < ornament.sway_share:
            rate_hz = float(generator.uniform(*ornament.sway_hz))
            rise = np.clip((time - 0.1) / 0.1, 0.0, 1.0)
            curve += ornament.sway_cents * rise * np.sin(2 * np.pi * rate_hz * (time - 0.1))
        cents[first:last] = curve
        cents[last:] = pitch
        if before is None:
            cents[:first] = curve[0]
        level[first:last] = _note_level(instrument, time, note, tied=glide)
        before = pitch
    at = np.arange(size) / CONTROL_HZ
    cents += instrument.vibrato_cents * np.sin(2 * np.pi * instrument.vibrato_hz * at)
    return Curves(_hertz(cents + tonic_cents), level, 0.15 + 0.85 * level)


def stepwise(
    starts_s: Sequence[float], cents: Sequence[float], instrument: Instrument, duration_s: float
) -> Curves:
    """Plain notes without ornament, each held until the next: chords and drones.

    ``cents`` are above `TONIC_HZ`, tonic and octave included.
    """
    size = control_size(duration_s)
    pitch, level = np.full(size, float(cents[0])), np.zeros(size)
    ends_s = [*starts_s[1:], duration_s]
    for start_s, end_s, value in zip(starts_s, ends_s, cents, strict=True):
        first, last = _frames(start_s, end_s, size)
        if last <= first:
            continue
        pitch[first:] = value
        time = (np.arange(first, last) / CONTROL_HZ) - start_s
        level[first:last] = _note_level(
            instrument, time, Note(start_s, end_s, 0, False, 1.0), tied=False, decay_scale=2.5
        )
    return Curves(_hertz(pitch), level, 0.1 + 0.7 * level)


def control_size(duration_s: float) -> int:
    """Return how many control values cover a duration."""
    return int(np.ceil(duration_s * CONTROL_HZ)) + 1


def _note_level(
    instrument: Instrument, time: Curve, note: Note, *, tied: bool, decay_scale: float = 1.0
) -> Curve:
    """Ramp up, hold or decay, ramp down; a tied note starts from the level of a legato."""
    left_s = note.end_s - note.start_s - time
    rise = np.clip(time / instrument.attack_s, 0.0, 1.0)
    if tied:
        rise = np.maximum(rise, _LEGATO_LEVEL)
    fall = np.clip(left_s / min(instrument.release_s, 0.4 * (note.end_s - note.start_s)), 0.0, 1.0)
    level: Curve = note.accent * rise * fall
    if instrument.decay_s is not None:
        level = level * np.exp(-time / (instrument.decay_s * decay_scale))
    return level


def _smooth_fall(x: Curve) -> Curve:
    """1 before 0, 0 after 1, half a cosine between."""
    fall: Curve = 0.5 + 0.5 * np.cos(np.pi * np.clip(x, 0.0, 1.0))
    return fall


def _frames(start_s: float, end_s: float, size: int) -> tuple[int, int]:
    first, last = round(start_s * CONTROL_HZ), round(end_s * CONTROL_HZ)
    return max(0, first), min(size, last)


def _hertz(cents: Curve) -> Curve:
    hertz: Curve = TONIC_HZ * np.exp2(cents / 1200.0)
    return hertz
