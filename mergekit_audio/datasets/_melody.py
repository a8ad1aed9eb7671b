"""Compose a clip: the notes of its melody, the strokes of its drums, the roots of its chords."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from mergekit_audio.datasets._plan import ClipPlan
from mergekit_audio.datasets._rhythms import STROKES, Metre
from mergekit_audio.datasets._scales import Scale

# Where the melody is drawn to over a section (time in [0, 1] -> place in the octave), by motion;
# "dominant" stands for the scale's own.
_Place = float | str
_COURSES: dict[str, tuple[tuple[float, _Place], ...]] = {
    "rising": ((0.0, 0.0), (0.4, "dominant"), (0.7, 1.0), (1.0, 0.0)),
    "falling": ((0.0, 1.0), (0.5, "dominant"), (1.0, 0.0)),
    "arched": ((0.0, "dominant"), (0.35, 1.0), (0.65, "dominant"), (1.0, 0.0)),
}
_SECTION_S = 10.0
_PHRASE_S = 4.0
_BELOW, _ABOVE = 2, 2  # degrees outside of the octave
_STROKE_LOST, _STROKE_ADDED, _STROKE_JITTER_S = 0.1, 0.08, 0.004


@dataclass(frozen=True)
class Note:
    """One note; ``degree`` counts over octaves, ``falling``: the note before was higher."""

    start_s: float
    end_s: float
    degree: int
    falling: bool
    accent: float


@dataclass(frozen=True)
class Stroke:
    """One stroke on the ``low`` or ``high`` drum."""

    start_s: float
    drum: str
    gain: float


@dataclass(frozen=True)
class Chord:
    """Three degrees that sound together until the next chord."""

    start_s: float
    degrees: tuple[int, int, int]


@dataclass(frozen=True)
class Score:
    """All that is played in ``[0, duration_s)``."""

    notes: tuple[Note, ...]
    strokes: tuple[Stroke, ...]
    chords: tuple[Chord, ...]


@dataclass(frozen=True)
class _Slot:
    """A place for a note: its time, how strong it is, whether it ends a phrase."""

    start_s: float
    end_s: float
    strong: bool
    closing: bool


def compose(plan: ClipPlan, duration_s: float, generator: np.random.Generator) -> Score:
    """Compose a clip.

    Parameters
    ----------
    plan
        What the clip is to be.
    duration_s
        Its length in seconds.
    generator
        Source of all that is left open by the plan.
    """
    style, tradition = plan.style, plan.tradition
    if plan.metre is None:
        slots = _free_slots(duration_s, style.density, generator)
        bars = [slot.start_s for slot in slots if slot.strong]
        strokes: list[Stroke] = []
    else:
        pulse_s = 60.0 / (generator.uniform(*tradition.pulses_per_minute) * style.tempo)
        cycle_s = pulse_s * plan.metre.pulses
        first_s = -generator.uniform(0.0, cycle_s)
        bars = [first_s + cycle_s * k for k in range(math.ceil((duration_s - first_s) / cycle_s))]
        slots = _metred_slots(plan.metre, bars, pulse_s, style.density, generator)
        drums = generator.random() < style.percussion_share
        strokes = _strokes(plan.metre, bars, pulse_s, generator) if drums else []
    notes = _notes(plan.scale, slots, generator)
    return Score(
        notes=tuple(n for n in notes if n.end_s > 0.05 and n.start_s < duration_s - 0.05),
        strokes=tuple(stroke for stroke in strokes if 0.0 <= stroke.start_s < duration_s),
        chords=tuple(_chords(plan.scale, notes, bars, generator)),
    )


def _metred_slots(
    metre: Metre,
    bars: list[float],
    pulse_s: float,
    density: float,
    generator: np.random.Generator,
) -> list[_Slot]:
    """Let notes start with the metre's groups; a group may be split into pulses, or held on."""
    bars_a_phrase = max(1, round(_PHRASE_S / (pulse_s * metre.pulses)))
    starts = [0, *itertools.accumulate(metre.groups)]
    slots: list[_Slot] = []
    for number, bar_s in enumerate(bars):
        last_bar = (number + 1) % bars_a_phrase == 0
        for place, pulses in enumerate(metre.groups):
            closing = last_bar and place == len(metre.groups) - 1
            shape = [pulses] if closing else _shape(pulses, density, generator)
            held = place > 0 and not closing and generator.random() < 0.12
            at = bar_s + pulse_s * starts[place]
            for k, length in enumerate(shape):
                end = at + pulse_s * length
                if held and k == 0 and slots and not slots[-1].closing:
                    before = slots.pop()
                    slots.append(_Slot(before.start_s, end, before.strong, False))
                else:
                    slots.append(_Slot(at, end, k == 0, closing))
                at = end
    return slots


def _shape(pulses: int, density: float, generator: np.random.Generator) -> list[float]:
    """Split a group into notes, in pulses: whole, long and short, or every pulse; four as 2 + 2."""
    if pulses > 3:
        return _shape(2, density, generator) + _shape(pulses - 2, density, generator)
    if generator.random() > density:
        return [pulses]
    shapes: list[list[float]] = [[1.0] * pulses, [pulses - 1.0, 1.0]]
    if pulses == 2:
        shapes.append([1.0, 0.5, 0.5])
    return shapes[int(generator.integers(len(shapes)))]


def _free_slots(duration_s: float, density: float, generator: np.random.Generator) -> list[_Slot]:
    """Lay out notes without a metre: log-normal lengths, a long one at each phrase's end."""
    slots: list[_Slot] = []
    at = -float(generator.uniform(0.0, 1.0))
    phrase_s = 0.0
    while at < duration_s:
        closing = phrase_s > _PHRASE_S * generator.uniform(0.6, 1.2)
        median_s = 1.2 if closing else 0.6 - 0.3 * density
        length = float(np.clip(median_s * math.exp(0.5 * generator.standard_normal()), 0.12, 2.0))
        slots.append(_Slot(at, at + length, phrase_s == 0.0 or closing, closing))
        at += length
        phrase_s = 0.0 if closing else phrase_s + length
    return slots


def _notes(scale: Scale, slots: list[_Slot], generator: np.random.Generator) -> list[Note]:
    """Walk over the degrees in small steps, drawn to the scale's course and its stresses."""
    count = len(scale.cents)
    degrees = np.arange(-_BELOW, count + _ABOVE + 1)
    index = degrees % count
    stress = np.where(index == 0, 1.6, np.where(index == scale.dominant, 2.0, 1.0))
    rests = np.where(index == 0, 3.0, np.where(index == scale.dominant, 1.0, 0.0))
    course = [
        (time, count * (scale.dominant / count if place == "dominant" else float(place)))
        for time, place in _COURSES[scale.motion]
    ]
    times, places = zip(*course, strict=True)
    lag_s = float(generator.uniform(0.0, _SECTION_S))
    before = round(float(np.interp(lag_s / _SECTION_S, times, places)))
    notes: list[Note] = []
    for slot in slots:
        section = ((slot.start_s + lag_s) % _SECTION_S) / _SECTION_S
        target = float(np.interp(section, times, places))
        weights = (
            np.exp(-0.5 * ((degrees - target) / 2.2) ** 2 - np.abs(degrees - before) / 1.4)
            * np.where(degrees == before, 0.4, 1.0)
            * (rests if slot.closing else stress if slot.strong else 1.0)
        )
        edges = np.cumsum(weights)
        chosen = int(np.searchsorted(edges, generator.random() * edges[-1], side="right"))
        degree = int(degrees[min(chosen, len(degrees) - 1)])
        accent = (1.0 if slot.strong else 0.72) * float(generator.uniform(0.88, 1.0))
        gap_s = 0.15 * (slot.end_s - slot.start_s) if slot.closing else 0.0
        notes.append(Note(slot.start_s, slot.end_s - gap_s, degree, degree < before, accent))
        before = degree
    return notes


def _strokes(
    metre: Metre, bars: list[float], pulse_s: float, generator: np.random.Generator
) -> list[Stroke]:
    """Play the pattern with lost and added strokes, uneven gains and small errors of time."""
    strokes = []
    for bar_s in bars:
        chance = generator.random(metre.pulses)
        jitter = generator.normal(0.0, _STROKE_JITTER_S, metre.pulses)
        level = generator.uniform(0.75, 1.0, metre.pulses)
        for pulse, letter in enumerate(metre.pattern):
            if letter == "-":
                if chance[pulse] >= _STROKE_ADDED:
                    continue
                letter = "t"
            elif letter.islower() and chance[pulse] < _STROKE_LOST:
                continue
            drum, gain = STROKES[letter]
            start_s = bar_s + pulse_s * pulse + float(jitter[pulse])
            strokes.append(Stroke(start_s, drum, gain * float(level[pulse])))
    return strokes


def _chords(
    scale: Scale, notes: list[Note], bars: list[float], generator: np.random.Generator
) -> list[Chord]:
    """Give each bar a chord of the scale's stacked thirds that holds its first note."""
    count = len(scale.cents)
    chords = []
    for bar_s in bars:
        sounding = next((note.degree for note in notes if note.end_s > bar_s), 0)
        roots = [(sounding - step) % count for step in (0, 2, 4)]
        weights = np.array([3.0 if root in (0, scale.dominant) else 1.0 for root in roots])
        edges = np.cumsum(weights)
        root = roots[int(np.searchsorted(edges, generator.random() * edges[-1], side="right"))]
        chords.append(Chord(max(0.0, bar_s), (root, root + 2, root + 4)))
    return chords
