"""Log-mel frames at the backbone's rate, in float64 so that codes do not hang on rounding."""

from __future__ import annotations

import numpy as np
import torch

from mergekit_audio.teachers._frames import SAMPLE_RATE_HZ, centred_windows, frame_count

_FLOOR = 1e-8
_LOWEST_HZ = 30.0
_FRAMES_AT_ONCE = 256


class LogMel:
    """x [B, S] → ln max(mel(|rfft(w · x_t)|² / (Σw / 2)²), 1e-8), shape ``[B, T, M]``.

    A full-scale sinusoid has power 1 before the mel filters. Frames are centred on the backbone's.

    Parameters
    ----------
    mel_bins
        M triangular filters, equally spaced on the HTK mel scale from 30 Hz to 12 kHz.
    window
        Samples of the Hann window, even.
    device
        Where it computes.
    """

    def __init__(self, mel_bins: int, window: int, device: str = "cpu") -> None:
        self.window = torch.hann_window(window, dtype=torch.float64).to(device)
        self.filters = torch.from_numpy(mel_filters(mel_bins, window)).to(device)
        self.scale = float(2.0 / self.window.sum())

    def __call__(self, wave: torch.Tensor) -> torch.Tensor:
        """Return the log-mel frames of waveforms ``[B, S]``, in float64."""
        frames = centred_windows(wave.to(self.window.device), len(self.window))
        blocks = [self._block(block) for block in torch.split(frames, _FRAMES_AT_ONCE, dim=1)]
        log_mel = torch.cat(blocks, dim=1)
        assert log_mel.shape[1] == frame_count(wave.shape[-1])
        return log_mel

    def at(self, wave: torch.Tensor, frames: torch.Tensor | None) -> torch.Tensor:
        """Return the log-mel frames ``[N, M]`` of a waveform ``[S]`` at ``frames [N]``, or all."""
        if frames is None:
            return self(wave.unsqueeze(0))[0]
        windows = centred_windows(wave.to(self.window.device).unsqueeze(0), len(self.window))
        return self._block(windows[0, frames.to(self.window.device)])

    def _block(self, frames: torch.Tensor) -> torch.Tensor:
        spectrum = torch.fft.rfft(frames.double() * self.window) * self.scale
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.log(torch.clamp(power @ self.filters, min=_FLOOR))


def mel_filters(mel_bins: int, window: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return triangles of height 1 over the FFT's frequencies, shape ``[window / 2 + 1, M]``."""
    highest = SAMPLE_RATE_HZ / 2
    edges = _hz(np.linspace(_mel(_LOWEST_HZ), _mel(highest), mel_bins + 2))
    frequencies = np.linspace(0.0, highest, window // 2 + 1)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    filters: np.ndarray[tuple[int, int], np.dtype[np.float64]] = np.maximum(
        0.0, np.minimum(rising, falling)
    )
    return filters


def _mel(hz: float) -> float:
    return float(2595.0 * np.log10(1.0 + hz / 700.0))


def _hz(
    mel: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    hz: np.ndarray[tuple[int], np.dtype[np.float64]] = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return hz
