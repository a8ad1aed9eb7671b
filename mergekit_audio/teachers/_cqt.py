"""The constant-Q transform by one FFT of the clip, and the teacher that reconstructs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from mergekit_audio.errors import InputError
from mergekit_audio.teachers._digest import teacher_digest
from mergekit_audio.teachers._frames import HOP_LENGTH, SAMPLE_RATE_HZ, frame_count
from mergekit_audio.teachers.base import OpenTeacher

_LOG_GAIN = 100.0
# Spectra of kernels are cut off where they fall below this share of their peak, which costs less
# than 1e-4 of the largest magnitude.
_SPECTRUM_FLOOR = 3e-5


class OpenCqt(OpenTeacher):
    """The CQT teacher ready to work.

    Parameters
    ----------
    settings
        ``bins``, ``bins_per_octave``, ``lowest_hz`` and ``magnitude`` of the recipe.
    device
        Where it computes.
    """

    def __init__(self, settings: Mapping[str, Any], device: str) -> None:
        self.bins = int(settings["bins"])
        self.logarithmic = settings["magnitude"] == "log"
        self.transform = ConstantQ(
            self.bins, int(settings["bins_per_octave"]), float(settings["lowest_hz"]), device
        )
        self.digest = teacher_digest({"teacher": "cqt", **settings}, {})

    @torch.no_grad()
    def targets(self, wave: torch.Tensor) -> torch.Tensor:
        """Return the magnitudes ``[B, T, F]`` of waveforms ``[B, S]``, float32."""
        magnitude = self.transform(wave)
        return torch.log1p(_LOG_GAIN * magnitude) if self.logarithmic else magnitude

    def head(self, hidden_size: int) -> nn.Module:
        """Return a new linear head ``[N, D] -> [N, F]``."""
        return nn.Linear(hidden_size, self.bins)

    def loss(
        self, head: nn.Module, frames: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return Σ_n mean_f (prediction_nf - target_nf)², and the same as ``mse`` to log."""
        difference = head(frames).float() - target
        total = difference.square().mean(dim=-1).sum()
        return total, {"mse": total.detach()}


class ConstantQ:
    """|C[k, t]| of C[k, t] = √l_k Σ_n x[320t + n] conj(g_k[n]), scaled as by nnAudio's CQT1992v2.

    g_k[n] = w_k[n] exp(2πi n f_k / 24000) / Σ w_k with f_k = lowest_hz · 2^(k / bins_per_octave),
    w_k a periodic Hann window of l_k = ⌈Q · 24000 / f_k⌉ samples around n = 0, and
    Q = 1 / (2^(1 / bins_per_octave) - 1). The clip is reflected at its ends.

    All frames of a bin come from one spectrum of N samples: every 320th sample of a product's
    inverse FFT is the inverse FFT of the sum of the product's blocks of M = N / 320 frequencies.

    Parameters
    ----------
    bins, bins_per_octave, lowest_hz
        The frequencies f_k.
    device
        Where it computes.
    """

    def __init__(self, bins: int, bins_per_octave: int, lowest_hz: float, device: str) -> None:
        quality = 1.0 / (2.0 ** (1.0 / bins_per_octave) - 1.0)
        self.frequencies = lowest_hz * 2.0 ** (np.arange(bins) / bins_per_octave)
        self.lengths = np.ceil(quality * SAMPLE_RATE_HZ / self.frequencies).astype(np.int64)
        self.padding = int(self.lengths[0] + 1) // 2
        self.device = device
        self._kernels: tuple[int, list[_Band]] = (0, [])

    def __call__(self, wave: torch.Tensor) -> torch.Tensor:
        """Return the magnitudes ``[B, T, F]`` of waveforms ``[B, S]``, T the backbone's frames.

        Raises
        ------
        InputError
            The clip is too short to be reflected by half the longest window.
        """
        samples = wave.shape[-1]
        if samples <= self.padding:
            raise InputError(
                f"a clip of {samples / SAMPLE_RATE_HZ:.2f} s is too short for a CQT from "
                f"{self.frequencies[0]:g} Hz: it needs more than "
                f"{self.padding / SAMPLE_RATE_HZ:.2f} s",
                "raise crop_s, or take fewer bins_per_octave or a higher lowest_hz",
            )
        wave = wave.to(device=self.device, dtype=torch.float32)
        frames_all = _fast_length(-(-(samples + 2 * self.padding) // HOP_LENGTH))
        padded = functional.pad(wave, (self.padding, self.padding), mode="reflect")
        spectrum = torch.fft.rfft(padded, n=frames_all * HOP_LENGTH)
        bands = self._bands(frames_all)
        blocks = max(int(band.blocks.max()) for band in bands) + 1
        spectrum = functional.pad(spectrum, (0, max(0, blocks * frames_all - spectrum.shape[-1])))
        spectrum = spectrum[:, : blocks * frames_all].reshape(-1, blocks, frames_all)
        wanted = frame_count(samples)
        bins = [_frames_of_band(spectrum, band)[..., :wanted] for band in bands]
        return torch.cat(bins, dim=1).transpose(1, 2)

    def _bands(self, frames_all: int) -> list[_Band]:
        """Return the kernels for clips of ``frames_all`` · 320 samples; the last are kept."""
        if self._kernels[0] != frames_all:
            spectra = [
                _kernel_spectrum(float(frequency), int(length), frames_all, self.padding)
                for frequency, length in zip(self.frequencies, self.lengths, strict=True)
            ]
            self._kernels = (frames_all, _group(spectra, self.device))
        return self._kernels[1]


class _Band:
    """Neighbouring bins whose kernels span equally many blocks of the spectrum.

    ``blocks [bins, J]`` says which blocks, ``kernels [bins, J, M]`` holds the spectra there.
    """

    def __init__(self, spectra: list[tuple[int, npt.NDArray[np.complex128]]], device: str) -> None:
        width = spectra[0][1].shape[0]
        first = torch.tensor([block for block, _ in spectra])
        self.blocks = (first[:, None] + torch.arange(width)).to(device)
        stacked = np.stack([kernel for _, kernel in spectra]).astype(np.complex64)
        self.kernels = torch.from_numpy(stacked).to(device)


def _frames_of_band(spectrum: torch.Tensor, band: _Band) -> torch.Tensor:
    folded = (spectrum[:, band.blocks] * band.kernels).sum(dim=2)
    return torch.abs(torch.fft.ifft(folded, dim=-1))


def _kernel_spectrum(
    frequency: float, length: int, frames_all: int, padding: int
) -> tuple[int, npt.NDArray[np.complex128]]:
    """Return the first block, and the blocks ``[J, M]``, of √l / 320 · conj(FFT(g))."""
    size = frames_all * HOP_LENGTH
    first = -((length + 1) // 2)
    positions = np.arange(first, first + length)
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(length) / length)
    kernel = window / window.sum() * np.exp(2j * np.pi * positions * frequency / SAMPLE_RATE_HZ)
    signal = np.zeros(size, dtype=np.complex128)
    # Frame t is centred on sample 320t of the clip, sample 320t + padding of the padded clip.
    signal[(positions + padding) % size] = kernel
    half = size // 2 + 1
    spectrum = np.conj(np.fft.fft(signal)[:half]) * (np.sqrt(length) / HOP_LENGTH)
    loud = np.flatnonzero(np.abs(spectrum) > _SPECTRUM_FLOOR * np.abs(spectrum).max())
    first_block, last_block = loud[0] // frames_all, loud[-1] // frames_all
    padded = np.zeros((last_block + 1) * frames_all, dtype=np.complex128)
    kept = min(len(padded), half)
    padded[:kept] = spectrum[:kept]
    return int(first_block), padded.reshape(-1, frames_all)[first_block:]


def _group(spectra: list[tuple[int, npt.NDArray[np.complex128]]], device: str) -> list[_Band]:
    groups: list[list[tuple[int, npt.NDArray[np.complex128]]]] = []
    for spectrum in spectra:
        if not groups or groups[-1][0][1].shape[0] != spectrum[1].shape[0]:
            groups.append([])
        groups[-1].append(spectrum)
    return [_Band(group, device) for group in groups]


def _fast_length(least: int) -> int:
    """Return the smallest length from ``least`` on whose prime factors are 2, 3 and 5."""
    length = least
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1
