"""What the synthetic clips sound like, measured from the samples and compared with theory."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import soxr

from mergekit_audio.datasets._curves import melodic
from mergekit_audio.datasets._melody import compose
from mergekit_audio.datasets._plan import plan_clip
from mergekit_audio.datasets._render import render
from mergekit_audio.datasets._rhythms import CARNATIC, HINDUSTANI, LYRA, MAKAM, WESTERN
from mergekit_audio.datasets._scales import MAKAM as MAKAMS
from mergekit_audio.datasets._traditions import TRADITIONS
from mergekit_audio.datasets._voices import FAMILIES, make_instrument, sound

# Commas of the Arel-Ezgi-Uzdilek theory above the tonic, written out by hand; in brackets on the
# way down.
RAST = (0, 9, 17, 22, 31, 40, 48, 44)
HICAZ = (0, 5, 17, 22, 31, 39, 44)
HUSEYNI = (0, 8, 13, 22, 31, 39, 44, 35)
NIHAVEND = (0, 9, 13, 22, 31, 35, 44)
THEORY = {"rast": RAST, "hicaz": HICAZ, "huseyni": HUSEYNI, "nihavend": NIHAVEND}


def clips_of(culture: str, scale: str, count: int):
    plans = (plan_clip(culture, "train", index, 0) for index in range(200))
    return [plan for plan in plans if plan.scale.name == scale][:count]


def mono(plan, duration_s: float = 10.0) -> np.ndarray:
    clip = render(plan, duration_s)
    wave = clip.wave if clip.wave.ndim == 1 else clip.wave.mean(axis=1)
    wave = soxr.resample(wave, clip.rate_hz, 24_000)
    return wave.astype(np.float64)


def peaks_in_cents(plan, size: int = 8192) -> tuple[np.ndarray, np.ndarray]:
    """Cents above the tonic (modulo the octave) and amplitudes of spectral peaks, 130 to 900 Hz."""
    wave = mono(plan)
    starts = range(0, len(wave) - size, 1200)
    frames = np.stack([wave[s : s + size] * np.hanning(size) for s in starts])
    logs = np.log(np.abs(np.fft.rfft(frames, axis=1)) + 1e-9)
    middle, left, right = logs[:, 1:-1], logs[:, :-2], logs[:, 2:]
    loud = middle > logs.max(axis=1, keepdims=True) - 2.5
    frame, bin_ = np.nonzero((middle > left) & (middle > right) & loud)
    a, b, c = left[frame, bin_], middle[frame, bin_], right[frame, bin_]
    hertz = (bin_ + 1 + 0.5 * (a - c) / (a - 2 * b + c)) * 24_000 / size
    inside = (hertz > 130) & (hertz < 900)
    tonic_hz = 220.0 * 2 ** (plan.tonic_cents / 1200)
    return (1200 * np.log2(hertz[inside] / tonic_hz)) % 1200, np.exp(b[inside])


def share_near(cents: np.ndarray, weights: np.ndarray, degrees: np.ndarray, width: float) -> float:
    distance = np.abs((cents[:, None] - degrees + 600) % 1200 - 600).min(axis=1)
    return float(weights[distance < width].sum() / weights.sum())


@pytest.fixture(scope="module")
def heard() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    result = {}
    for name in THEORY:
        found = [peaks_in_cents(plan) for plan in clips_of("makam", name, 8)]
        result[name] = tuple(np.concatenate(parts) for parts in zip(*found, strict=True))
    return result


@pytest.mark.parametrize("name", sorted(THEORY))
def test_makam_sounds_its_commas(heard, name: str):
    cents, weights = heard[name]
    degrees = np.array(THEORY[name]) * 1200 / 53
    chance = 2 * 20 * len(degrees) / 1200
    assert share_near(cents, weights, degrees, 20.0) > max(0.7, 2 * chance)
    for degree in degrees[:7]:
        offset = (cents - degree + 600) % 1200 - 600
        near = np.abs(offset) < 20
        assert weights[near].sum() > 0.02 * weights.sum(), degree
        assert abs(np.average(offset[near], weights=weights[near])) < 6.0, degree


def test_makams_are_told_apart_by_their_commas(heard):
    for name, (cents, weights) in heard.items():
        own = share_near(cents, weights, np.array(THEORY[name]) * 1200 / 53, 11.0)
        for other in THEORY:
            if other != name:
                theirs = share_near(cents, weights, np.array(THEORY[other]) * 1200 / 53, 11.0)
                assert own > theirs + 0.05, (name, other)


def test_segah_third_of_rast_is_not_the_tempered_one(heard):
    cents, weights = heard["rast"]
    near = np.abs(cents - 385) < 22
    assert np.average(cents[near], weights=weights[near]) == pytest.approx(17 * 1200 / 53, abs=5)


def test_table_of_makams_is_the_theory():
    for scale in MAKAMS:
        if scale.name in THEORY:
            commas = np.array(scale.cents) * 53 / 1200
            np.testing.assert_allclose(commas, THEORY[scale.name][:7], atol=1e-9)


@pytest.mark.parametrize(
    "metre", [*WESTERN, *MAKAM, *HINDUSTANI, *CARNATIC, *LYRA], ids=lambda m: m.name
)
def test_groups_fill_the_cycle(metre):
    assert sum(metre.groups) == metre.pulses
    assert metre.pattern[0] in "DdTt"


def test_aksak_strokes_come_in_cycles_of_nine():
    plans = (plan_clip("makam", "train", index, 0) for index in range(200))
    plan = next(plan for plan in plans if plan.metre and plan.metre.name == "aksak")
    score = compose(plan, 30.0, np.random.default_rng(3))
    lows = np.array([stroke.start_s for stroke in score.strokes if stroke.drum == "low"])
    # D-ttD-T-T: the low strokes are 4 and 5 pulses apart, in turn.
    gaps = np.diff(lows)
    pulse_s = np.median(gaps[:-1] + gaps[1:]) / 9
    pulses = gaps / pulse_s
    assert np.abs(pulses - np.rint(pulses)).max() < 0.15
    assert set(np.rint(pulses)) == {4.0, 5.0}
    starts = np.array([note.start_s for note in score.notes if note.start_s > 0])
    grid = (starts - lows[0]) / (pulse_s / 2)
    assert np.median(np.abs(grid - np.rint(grid))) < 0.1


def test_unmetred_forms_have_no_drums():
    for index in range(30):
        plan = plan_clip("hindustani", "train", index, 0)
        strokes = compose(plan, 10.0, plan.generator()).strokes
        assert bool(strokes) == (plan.style.name != "alap")
        assert any(tag.startswith("tala--") for tag in plan.tags) == (plan.style.name != "alap")


def test_carnatic_notes_sway_and_western_ones_do_not():
    flute = make_instrument("flute", np.random.default_rng(0))
    spread = {}
    for culture, scale in (("carnatic", "kalyani"), ("western", "ionian")):
        (plan,) = clips_of(culture, scale, 1)
        score = compose(plan, 10.0, np.random.default_rng(1))
        curves = melodic(
            score.notes,
            plan.scale,
            TRADITIONS[culture].ornament,
            flute,
            0.0,
            10.0,
            plan.generator(),
        )
        cents = 1200 * np.log2(curves.pitch_hz / 220.0)
        table = np.array([plan.scale.pitch(degree) for degree in range(-8, 16)])
        spread[culture] = np.mean(np.abs(cents[:, None] - table).min(axis=1) > 35)
    assert spread["carnatic"] > 2 * spread["western"]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_voice_plays_the_pitch_that_it_is_given(family: str):
    instrument = make_instrument(family, np.random.default_rng(5))
    size = 2001
    wave = sound(
        instrument,
        np.full(size, 331.7),
        np.ones(size),
        np.full(size, 0.5),
        np.random.default_rng(0),
    )
    assert wave.shape == (48_000,)
    assert wave.dtype == np.float32
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(wave.size)))
    harmonics = spectrum[: 24 * 700].copy()
    peak = int(harmonics[600:730].argmax()) + 600
    assert peak / 2 == pytest.approx(331.7, abs=0.5)
    assert np.sqrt(np.mean(wave**2)) == pytest.approx(1.0, abs=0.35)


def test_clip_is_a_function_of_its_plan():
    plan = plan_clip("carnatic", "test", 3, 11)
    np.testing.assert_array_equal(render(plan, 1.5).wave, render(plan, 1.5).wave)
    other = plan_clip("carnatic", "test", 3, 12)
    assert other.generator().random() != plan.generator().random()


def test_a_changed_sound_needs_another_version():
    # These figures belong to version 1: raise SYNTHESISER_VERSION when they have to change.
    from mergekit_audio.datasets._corpus import SYNTHESISER_VERSION

    plans = [plan_clip("makam", "valid", index, 0) for index in range(32)]
    text = "\n".join(f"{plan.id} {plan.tonic_cents} {plan.tags}" for plan in plans)
    wave = mono(plans[0], 2.0)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert (SYNTHESISER_VERSION, digest) == (1, "8aa5a622f72fec41")
    assert np.sqrt(np.mean(wave**2)) == pytest.approx(0.240, abs=0.003)
    assert np.abs(wave).max() == pytest.approx(0.879, abs=0.01)
