"""The FFT-based CQT against sums in the time domain, tones, and its frames' places."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from mergekit_audio.errors import InputError
from mergekit_audio.teachers.cqt import Cqt

RATE = 24_000


def opened(**settings):
    return Cqt(**settings).open(None, root=Path())


def direct(wave, bins, per_octave, frames, lowest):
    """|√l Σ x[320t + n] conj(w[n] exp(2πi n f / fs)) / Σw|, sample by sample, in float64."""
    quality = 1 / (2 ** (1 / per_octave) - 1)
    result = np.zeros((len(frames), len(bins)))
    for column, k in enumerate(bins):
        frequency = lowest * 2 ** (k / per_octave)
        length = int(np.ceil(quality * RATE / frequency))
        n = np.arange(-((length + 1) // 2), length - (length + 1) // 2)
        window = np.sin(np.pi * np.arange(length) / length) ** 2
        kernel = window * np.exp(-2j * np.pi * n * frequency / RATE) / window.sum()
        for row, t in enumerate(frames):
            places = np.abs(320 * t + n)  # reflected at the start …
            places = np.where(places >= len(wave), 2 * len(wave) - 2 - places, places)  # … and end
            result[row, column] = np.sqrt(length) * abs((wave[places] * kernel).sum())
    return result


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({"bins": 84, "bins_per_octave": 12}, 2.0),
        ({"bins": 336, "bins_per_octave": 48}, 1.1),
        ({"bins": 40, "bins_per_octave": 24, "lowest_hz": 220.0}, 0.31),
    ],
)
def test_the_same_as_sums_in_the_time_domain(settings, seconds):
    generator = np.random.default_rng(0)
    time = np.arange(int(seconds * RATE)) / RATE
    tones = [0.2 * np.sin(2 * np.pi * f * time + f) for f in (55.0, 233.1, 441.0, 1234.5)]
    wave = np.sum(tones, axis=0) + 0.1 * generator.standard_normal(len(time))
    found = opened(**settings, magnitude="linear").targets(torch.from_numpy(wave).float()[None])[0]
    count = 1 + (len(wave) - 400) // 320
    assert found.shape == (count, settings["bins"])
    assert found.dtype == torch.float32
    frames = sorted({0, 1, count // 3, count // 2, count - 1})
    bins = range(0, settings["bins"], 7)
    lowest = settings.get("lowest_hz", 32.7)
    expected = direct(wave, bins, settings["bins_per_octave"], frames, lowest)
    difference = np.abs(found[frames][:, bins].numpy() - expected)
    assert difference.max() < 1e-4 * expected.max()
    assert difference.mean() < 3e-4 * expected.mean()


def cqt1992v2(wave, frames):
    """MERT's CQT as nnAudio's CQT1992v2 makes it, step by step, in float64, at some frames."""
    bins, per_octave, lowest, hop = 336, 48, 32.7, 320
    quality = 1.0 / (2 ** (1 / per_octave) - 1)
    kernel_width = 2 ** int(np.ceil(np.log2(np.ceil(quality * RATE / lowest))))
    assert kernel_width == 65_536
    padded = np.pad(wave, kernel_width // 2, mode="reflect")
    frequencies = lowest * 2.0 ** (np.arange(bins) / per_octave)
    result = np.zeros((len(frames), bins))
    for column, frequency in enumerate(frequencies):
        length = int(np.ceil(quality * RATE / frequency))
        start = int(np.ceil(kernel_width / 2 - length / 2)) - length % 2
        n = np.arange(-length // 2, length // 2)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)  # periodic
        kernel = window * np.exp(2j * np.pi * n * frequency / RATE) / length
        kernel /= np.abs(kernel).sum()
        pieces = np.stack([padded[hop * t + start :][:length] for t in frames])
        real, imaginary = pieces @ kernel.real, -(pieces @ kernel.imag)
        result[:, column] = np.sqrt(real**2 + imaginary**2) * np.sqrt(length)
    return result


def five_seconds(kind):
    generator = np.random.default_rng(1)
    time = np.arange(5 * RATE) / RATE
    if kind == "noise":
        return 0.1 * generator.standard_normal(len(time))
    notes = [(hertz, begin) for begin, hertz in enumerate((41.2, 98.0, 220.3, 466.2, 1046.5))]
    return sum(
        0.15 / harmonic * np.sin(2 * np.pi * harmonic * hertz * time) * np.exp(-abs(time - begin))
        for hertz, begin in notes
        for harmonic in (1, 2, 3, 4)
    )


@pytest.mark.parametrize("kind", ["noise", "notes"])
def test_merts_cqt_is_cqt1992v2_to_2e_4_of_the_peak(kind):
    wave = five_seconds(kind)
    found = opened().targets(torch.from_numpy(wave).float()[None])[0].numpy()
    assert found.shape == (374, 336)
    frames = sorted({*range(0, 374, 23), 1, 2, 371, 372, 373})
    expected = cqt1992v2(wave, frames)
    peak = expected.max()
    assert np.abs(found[frames] - expected).max() < 2e-4 * peak
    assert np.abs(found[frames] - expected).mean() < 2e-4 * expected.mean()


@pytest.mark.parametrize("kind", ["noise", "notes"])
def test_the_same_as_nnaudio(kind):
    pytest.importorskip("nnAudio", reason="nnAudio is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nnAudio.features.cqt import CQT1992v2

        theirs = CQT1992v2(
            sr=RATE, hop_length=320, fmin=32.7, n_bins=336, bins_per_octave=48, verbose=False
        )
    wave = torch.from_numpy(five_seconds(kind)).float()[None]
    expected = theirs(wave)[0].T[:374]
    difference = (opened().targets(wave)[0] - expected).abs()
    assert difference.max() < 2e-4 * expected.max()


@pytest.mark.parametrize("bin_of_tone", [7, 30, 57, 82])
def test_a_tone_of_a_bins_frequency_peaks_there(bin_of_tone):
    frequency = 32.7 * 2 ** (bin_of_tone / 12)
    wave = 0.3 * torch.sin(
        2 * torch.pi * frequency * torch.arange(48_000, dtype=torch.float64) / RATE
    )
    magnitude = opened(bins=84, bins_per_octave=12, magnitude="linear").targets(wave[None])[0]
    middle = magnitude[60]
    assert middle.argmax() == bin_of_tone
    length = np.ceil(RATE / frequency / (2 ** (1 / 12) - 1))
    assert middle[bin_of_tone].item() == pytest.approx(0.15 * np.sqrt(length), rel=2e-3)


def test_frames_are_centred_on_every_320th_sample():
    wave = torch.zeros(1, 36_000)
    wave[0, 320 * 40] = 1.0
    high = opened(bins=84, bins_per_octave=12, magnitude="linear").targets(wave)[0, :, -12:]
    assert (high.argmax(dim=0) == 40).all()
    torch.testing.assert_close(high[39], high[41], rtol=1e-2, atol=1e-4)


def test_the_log_magnitude_and_its_gain():
    wave = 0.1 * torch.randn(2, 30_000, generator=torch.Generator().manual_seed(0))
    linear = opened(bins=84, bins_per_octave=12).targets(wave)
    log = opened(bins=84, bins_per_octave=12, magnitude="log").targets(wave)
    np.testing.assert_allclose(log, np.log(1 + 100 * linear.double().numpy()), rtol=1e-5)
    assert (
        opened(bins=84, bins_per_octave=12, magnitude="log")
        .targets(torch.zeros(1, 30_000))
        .abs()
        .max()
        == 0
    )


def test_clips_of_a_batch_and_lengths_do_not_mix():
    teacher = opened(bins=84, bins_per_octave=12)
    waves = 0.1 * torch.randn(3, 30_000, generator=torch.Generator().manual_seed(0))
    together = teacher.targets(waves)
    other = teacher.targets(waves[:, :20_000])
    assert other.shape == (3, 62, 84)
    apart = torch.cat([teacher.targets(wave[None]) for wave in waves])
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-5)
    assert torch.equal(teacher.targets(waves), together)


@pytest.mark.parametrize(("samples", "frames"), [(120_000, 374), (120_079, 374), (120_080, 375)])
def test_as_many_frames_as_the_backbone(samples, frames):
    teacher = opened(bins=12, bins_per_octave=12, lowest_hz=440.0)
    assert teacher.targets(torch.zeros(1, samples)).shape == (1, frames, 12)


def test_the_head_is_linear_and_the_loss_its_mean_squared_error_summed_over_frames():
    teacher = opened(bins=84, bins_per_octave=12)
    head = teacher.head(16)
    assert sorted(name for name, _ in head.named_parameters()) == ["bias", "weight"]
    generator = torch.Generator().manual_seed(0)
    frames, target = torch.randn(9, 16, generator=generator), torch.rand(9, 84, generator=generator)
    loss, sums = teacher.loss(head, frames, target)
    weight, bias = (p.detach().double().numpy() for p in (head.weight, head.bias))
    expected = (
        ((frames.double().numpy() @ weight.T + bias - target.double().numpy()) ** 2).mean(1).sum()
    )
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert sums["mse"].item() == loss.item()
    assert not sums["mse"].requires_grad
    assert loss.requires_grad


def test_the_digest_follows_the_settings_that_decide_targets():
    digests = [
        opened(**settings).digest
        for settings in (
            {"bins": 84, "bins_per_octave": 12},
            {"bins": 84, "bins_per_octave": 12, "weight": 3.0},
            {"bins": 83, "bins_per_octave": 12},
            {"bins": 84, "bins_per_octave": 12, "magnitude": "log"},
        )
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_clips_and_settings_that_do_not_work_are_refused():
    with pytest.raises(InputError, match=r"1\.00 s is too short for a CQT from 32\.7 Hz.* 1\.05 s"):
        opened().targets(torch.zeros(1, RATE))
    with pytest.raises(ValidationError, match="above the 12000 Hz"):
        Cqt(bins=120, bins_per_octave=12)
    assert not Cqt().needs_fit
    assert not Cqt.targets_are_cached
    assert (Cqt().bins, Cqt().bins_per_octave, Cqt().lowest_hz) == (336, 48, 32.7)
