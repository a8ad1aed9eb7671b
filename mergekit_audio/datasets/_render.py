"""Render a clip: melody, second voice, accompaniment, drums and a room, mixed to level."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft
import soxr

from mergekit_audio.datasets import _curves
from mergekit_audio.datasets._curves import Curves
from mergekit_audio.datasets._melody import Score, Stroke, compose
from mergekit_audio.datasets._plan import ClipPlan
from mergekit_audio.datasets._voices import (
    RATE_HZ,
    Instrument,
    Wave,
    lowpass,
    make_instrument,
    sound,
)

_OCTAVE = 1200.0


@dataclass(frozen=True)
class Clip:
    """A rendered clip: float32 ``[S]`` or ``[S, 2]`` in [-1, 1] at ``rate_hz``."""

    wave: Wave
    rate_hz: int


@dataclass(frozen=True)
class _Artist:
    """What an artist's clips share: instruments, drums, room and microphone."""

    lead: dict[str, Instrument]
    pad: Instrument
    drums: dict[str, Wave]
    echo_s: float
    echo_gain: float
    hiss: float
    tone: float
    rate_hz: int
    stereo: bool


@dataclass(frozen=True)
class _Layer:
    """One part of the mix; ``place`` is from -1 (left) to 1 (right)."""

    wave: Wave
    gain: float
    place: float


def render(plan: ClipPlan, duration_s: float) -> Clip:
    """Render a clip of ``duration_s`` seconds; a function of its arguments alone."""
    generator = plan.generator()
    artist = _artist(plan)
    score = compose(plan, duration_s, generator)
    samples = round(duration_s * RATE_HZ)
    lead_register = -_OCTAVE * float(generator.integers(0, 2))
    instrument = artist.lead[plan.lead]
    wave = _melody(plan, score, instrument, lead_register, duration_s, generator)
    layers = [_Layer(wave[:samples], 1.0, 0.1)]
    if plan.second is not None:
        gain = float(generator.uniform(0.5, 0.8))
        instrument = artist.lead[plan.second]
        wave = _melody(plan, score, instrument, -_OCTAVE - lead_register, duration_s, generator)
        layers.append(_Layer(wave[:samples], gain, -0.5))
    backing = _backing(plan, score, artist, duration_s, generator)
    if backing is not None:
        layers.append(_Layer(backing[:samples], float(generator.uniform(0.3, 0.5)), 0.5))
    if score.strokes:
        layers.append(_Layer(_drum_track(score.strokes, artist, samples), 1.0, -0.2))
    return _record(layers, artist, generator)


def _artist(plan: ClipPlan) -> _Artist:
    generator = plan.artist_generator()
    families = ("bowed", "flute", "plucked", "reed", "voice")
    lead = {family: make_instrument(family, generator) for family in families}
    low_hz, high_hz = float(generator.uniform(60, 130)), float(generator.uniform(180, 420))
    return _Artist(
        lead=lead,
        pad=make_instrument("pad" if generator.random() < 0.5 else "plucked", generator),
        drums={"low": _drum(low_hz, generator), "high": _drum(high_hz, generator)},
        echo_s=float(generator.uniform(0.15, 0.5)),
        echo_gain=float(generator.uniform(0.02, 0.25)),
        hiss=10 ** float(generator.uniform(-3.2, -2.2)),
        tone=float(generator.uniform(-0.3, 0.45)),
        rate_hz=(22_050, 24_000, 32_000, 44_100, 48_000)[int(generator.integers(5))],
        stereo=bool(generator.random() < 0.25),
    )


def _melody(
    plan: ClipPlan,
    score: Score,
    instrument: Instrument,
    register: float,
    duration_s: float,
    generator: np.random.Generator,
) -> Wave:
    tonic = plan.tonic_cents + register
    ornament = plan.tradition.ornament
    curves = _curves.melodic(
        score.notes, plan.scale, ornament, instrument, tonic, duration_s, generator
    )
    return _play(instrument, curves, generator)


def _play(instrument: Instrument, curves: Curves, generator: np.random.Generator) -> Wave:
    return sound(instrument, curves.pitch_hz, curves.level, curves.brightness, generator)


def _backing(
    plan: ClipPlan,
    score: Score,
    artist: _Artist,
    duration_s: float,
    generator: np.random.Generator,
) -> Wave | None:
    """Play a drone, chords, or neither: the tradition only says how often."""
    chance = float(generator.random())
    drone = chance < plan.tradition.drone_share
    chords = not drone and chance < plan.tradition.drone_share + plan.tradition.chord_share
    tonic = plan.tonic_cents - _OCTAVE
    parts: list[tuple[list[float], list[float]]] = []
    if drone:
        fifth = min(plan.scale.cents, key=lambda cents: abs(cents - 702.0))
        beat_s = float(generator.uniform(0.5, 1.0))
        held = artist.pad.decay_s is None
        count = 1 if held else int(duration_s / (4 * beat_s)) + 1
        for place, string in enumerate((fifth - _OCTAVE, 0.0, 0.0, -_OCTAVE)):
            starts = [0.0] if held else [beat_s * (4 * k + place) for k in range(count)]
            parts.append((starts, [tonic + string] * count))
    elif chords and score.chords:
        starts = [chord.start_s for chord in score.chords]
        for voice in range(3):
            cents = [tonic + plan.scale.pitch(chord.degrees[voice]) for chord in score.chords]
            parts.append((starts, cents))
    if not parts:
        return None
    waves = [
        _play(artist.pad, _curves.stepwise(starts, cents, artist.pad, duration_s), generator)
        for starts, cents in parts
    ]
    return _mix(waves, [1.0 / math.sqrt(len(waves))] * len(waves))


def _drum(pitch_hz: float, generator: np.random.Generator) -> Wave:
    """Make one stroke: a falling sine, two inharmonic overtones and a burst of noise."""
    time = np.arange(round(0.35 * RATE_HZ)) / RATE_HZ
    ring_s = float(generator.uniform(0.05, 0.14))
    bend = float(generator.uniform(0.05, 0.35))
    phase = 2 * np.pi * pitch_hz * (time + bend * 0.03 * (1 - np.exp(-time / 0.03)))
    ratios = (1.0, float(generator.uniform(1.5, 1.7)), float(generator.uniform(2.1, 2.6)))
    tone = sum(
        gain * np.sin(ratio * phase) * np.exp(-time * ratio / ring_s)
        for ratio, gain in zip(ratios, (1.0, 0.4, 0.25), strict=True)
    )
    noise = lowpass(generator.standard_normal(time.size, dtype=np.float32), 0.3)
    wave = tone + float(generator.uniform(0.2, 0.8)) * noise * np.exp(-time / 0.02)
    ramp = np.minimum(1.0, time / 0.001)
    drum: Wave = (wave * ramp).astype(np.float32)
    return drum


def _drum_track(strokes: tuple[Stroke, ...], artist: _Artist, samples: int) -> Wave:
    track = np.zeros(samples + round(0.4 * RATE_HZ), dtype=np.float32)
    for stroke in strokes:
        drum = artist.drums[stroke.drum]
        first = round(stroke.start_s * RATE_HZ)
        track[first : first + drum.size] += np.float32(stroke.gain) * drum
    return track[:samples]


def _record(layers: list[_Layer], artist: _Artist, generator: np.random.Generator) -> Clip:
    """Mix to one or two channels, add room and hiss, tilt the spectrum, set the level, resample."""
    waves = [layer.wave for layer in layers]
    dry = _mix(waves, [layer.gain for layer in layers])
    hiss = generator.standard_normal(dry.size, dtype=np.float32)
    shared = _echo(dry, artist) + np.float32(artist.hiss) * hiss
    sides = (-0.6, 0.6) if artist.stereo else (0.0,)
    channels = [
        _mix(waves, [layer.gain * (1.0 + side * layer.place) for layer in layers]) + shared
        for side in sides
    ]
    toned = np.stack([_tilt(channel, artist.tone) for channel in channels], axis=1)
    peak = 10 ** float(generator.uniform(-0.5, -0.05))
    toned *= np.float32(peak / max(float(np.abs(toned).max()), 1e-9))
    wave = toned if artist.rate_hz == RATE_HZ else soxr.resample(toned, RATE_HZ, artist.rate_hz)
    wave = np.clip(wave, -1.0, 1.0).astype(np.float32)
    return Clip(wave if artist.stereo else wave[:, 0], artist.rate_hz)


def _tilt(wave: Wave, tone: float) -> Wave:
    """Darken (tone > 0) by a one-pole low-pass, or brighten (tone < 0) by its complement."""
    if tone >= 0:
        return lowpass(wave, tone)
    return np.asarray(wave + np.float32(-tone) * (wave - lowpass(wave, 0.7)), dtype=np.float32)


def _echo(wave: Wave, artist: _Artist) -> Wave:
    """Convolve with decaying noise: the room without the direct sound."""
    length = round(2 * artist.echo_s * RATE_HZ)
    time = np.arange(length, dtype=np.float32) / RATE_HZ
    noise = np.random.default_rng(length).standard_normal(length, dtype=np.float32)
    echo = noise * np.exp(-4.0 * time / artist.echo_s, dtype=np.float32)
    echo *= np.float32(artist.echo_gain / np.sqrt(np.sum(echo**2)))
    size = scipy.fft.next_fast_len(wave.size + length, real=True)
    wet = scipy.fft.irfft(scipy.fft.rfft(wave, size) * scipy.fft.rfft(echo, size), size)
    return np.asarray(wet[: wave.size], dtype=np.float32)


def _mix(waves: list[Wave], gains: list[float]) -> Wave:
    total = np.zeros_like(waves[0])
    for wave, gain in zip(waves, gains, strict=True):
        total += np.float32(gain) * wave
    return total
