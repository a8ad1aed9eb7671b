"""Chroma frames at the backbone's rate: energy by pitch class, whatever the octave."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from mergekit_audio.teachers._frames import SAMPLE_RATE_HZ, centred_windows

_FRAMES_AT_ONCE = 256
_TUNING_HZ = 440.0
_CENTRE_HZ = 880.0
_WIDTH_OCTAVES = 2.0
# A frame whose loudest class lies 80 dB below that of a full-scale tone counts as silent.
_SILENCE = 1e-8


class Chroma:
    """x [B, S] → c_t / max c_t with c_t = W |rfft(w · x_t) · 2 / Σw|², shape ``[B, T, M]``.

    W are the filters of :func:`chroma_filters`. Silent frames are zero. Frames are centred on the
    backbone's.

    Parameters
    ----------
    chroma_bins
        M pitch classes of an octave; class 0 is A at 440 Hz.
    window
        Samples of the Hann window, even.
    device
        Where it computes.
    """

    def __init__(self, chroma_bins: int, window: int, device: str = "cpu") -> None:
        self.window = torch.hann_window(window, dtype=torch.float64).to(device)
        self.filters = torch.from_numpy(chroma_filters(chroma_bins, window)).to(device)
        self.scale = float(2.0 / self.window.sum())

    def __call__(self, wave: torch.Tensor) -> torch.Tensor:
        """Return the chroma frames of waveforms ``[B, S]``, in float64."""
        frames = centred_windows(wave.to(self.window.device), len(self.window))
        blocks = [self._block(block) for block in torch.split(frames, _FRAMES_AT_ONCE, dim=1)]
        return torch.cat(blocks, dim=1)

    def at(self, wave: torch.Tensor, frames: torch.Tensor | None) -> torch.Tensor:
        """Return the chroma frames ``[N, M]`` of a waveform ``[S]`` at ``frames [N]``, or all."""
        if frames is None:
            return self(wave.unsqueeze(0))[0]
        windows = centred_windows(wave.to(self.window.device).unsqueeze(0), len(self.window))
        return self._block(windows[0, frames.to(self.window.device)])

    def _block(self, frames: torch.Tensor) -> torch.Tensor:
        spectrum = torch.fft.rfft(frames.double() * self.window) * self.scale
        energy = (spectrum.real.square() + spectrum.imag.square()) @ self.filters
        loudest = energy.amax(dim=-1, keepdim=True)
        return torch.where(loudest > _SILENCE, energy / loudest.clamp(min=_SILENCE), 0.0)


def chroma_filters(chroma_bins: int, window: int) -> npt.NDArray[np.float64]:
    """Return how much each frequency of the FFT adds to each class, ``[window / 2 + 1, M]``.

    Frequency k at p_k = M · log2(f_k / 440) bins adds to class m in proportion to
    exp(-2 (d / b_k)²), where d is the distance from p_k to m round the octave and
    b_k = max(p_{k+1} - p_k, 1) the frequency's own width; the weights of a frequency have the norm
    exp(-(log2(f_k / 880) / 2)² / 2), which favours the middle octaves. 0 Hz adds nothing.

    References
    ----------
    The filters of librosa's ``librosa.filters.chroma`` with its defaults, apart from 0 Hz and from
    the first class, which is C there.
    """
    hertz = np.arange(1, window // 2 + 2) * (SAMPLE_RATE_HZ / window)
    places = chroma_bins * np.log2(hertz / _TUNING_HZ)
    widths = np.maximum(np.diff(places), 1.0)[:, None]
    distance = places[:-1, None] - np.arange(chroma_bins)
    half = round(chroma_bins / 2)
    distance = np.remainder(distance + half, chroma_bins) - half
    bumps = np.exp(-2.0 * (distance / widths) ** 2)
    octaves = np.log2(hertz[:-1, None] / _CENTRE_HZ) / _WIDTH_OCTAVES
    bumps *= np.exp(-0.5 * octaves**2) / np.linalg.norm(bumps, axis=1, keepdims=True)
    filters: npt.NDArray[np.float64] = np.concatenate([np.zeros((1, chroma_bins)), bumps])
    return filters
