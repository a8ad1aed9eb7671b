"""HuBERT's convolutional front for inference, as matrix products into memory that stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from mergekit_audio.backbones._front import _Kernel, _normalised_taps
from mergekit_audio.backbones._room import Room


class WaveFront:
    """Computes the features ``[B, T, C]`` of waveforms ``[B, S]``.

    On a CPU time comes before channels, so that a convolution is a matrix product of rows that lie
    there, a norm over channels is one over neighbours, and an activation follows while its input is
    still in the cache. A group norm of single channels over time goes into the first taps (see
    ``_front.front_frames``). Neighbouring chunks that overlap share nothing, since this norm makes
    every frame depend on the whole chunk. Elsewhere the modules compute, with autocast.

    Parameters
    ----------
    front
        The ``feature_extractor`` of a ``transformers.HubertModel``.
    dtype
        Of the products of all layers but the first, which has ten taps and is in float32.
    """

    def __init__(self, front: Any, dtype: torch.dtype) -> None:
        self._front = front
        self._dtype = dtype
        layers = list(front.conv_layers)
        self._is_plain = len(layers) > 1 and all(
            each.conv.kernel_size[0] >= each.conv.stride[0] for each in layers
        )
        self._first = layers[0]
        self._rest = [_Convolution(layer, dtype) for layer in layers[1:]] if self._is_plain else []

    def __call__(self, wave: torch.Tensor, room: Room) -> torch.Tensor:
        """Return the features; they are lost when this thread calls again."""
        if wave.device.type != "cpu" or not self._is_plain:
            is_rounded = self._dtype == torch.bfloat16
            with torch.autocast(wave.device.type, torch.bfloat16, enabled=is_rounded):
                frames: torch.Tensor = self._front(wave).transpose(1, 2)
            return frames
        if len(wave) == 1:
            return self._frames(wave[0], room)[None]
        return torch.stack([self._frames(clip, room).clone() for clip in wave])

    def _frames(self, wave: torch.Tensor, room: Room) -> torch.Tensor:
        begin = _FirstLayer(self._first, wave)
        second, *others = self._rest
        kernel = second.kernel
        shape = (kernel.frames(begin.frames), kernel.outputs)
        result = room("front 0", shape, self._dtype, wave.device)
        for _, out, into in kernel.chunks(1, len(result)):
            second.apply(begin.activated(into).to(self._dtype), result[out])
        for number, layer in enumerate(others, start=1):
            shape = (layer.kernel.frames(len(result)), layer.kernel.outputs)
            following = room(f"front {number % 2}", shape, self._dtype, wave.device)
            for _, out, into in layer.kernel.chunks(1, len(following)):
                layer.apply(result[into], following[out])
            result = following
        return result


class _FirstLayer:
    """The first convolution of one wave, with its norm and activation, some frames at a time."""

    def __init__(self, layer: Any, wave: torch.Tensor) -> None:
        self._norm = getattr(layer, "layer_norm", None)
        self._activation: Callable[[torch.Tensor], torch.Tensor] = in_place(layer.activation)
        conv = layer.conv
        if isinstance(self._norm, nn.GroupNorm):  # takes any bias away again
            windows, taps = _normalised_taps(layer, wave[None])
            self._windows, self._taps, self._bias = windows[0], taps[0], None
            self._norm = None
        else:
            self._windows = wave.unfold(-1, conv.kernel_size[0], conv.stride[0])
            self._taps, self._bias = conv.weight[:, 0].t(), conv.bias
        self.frames = len(self._windows)

    def activated(self, frames: slice) -> torch.Tensor:
        """Return what leaves the layer at some frames, ``[n, C]``."""
        result = self._windows[frames] @ self._taps
        if self._bias is not None:
            result += self._bias
        if self._norm is not None:
            result = self._norm(result)
        return self._activation(result)


class _Convolution:
    """A convolution, its norm over channels if any, and its activation."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        self.kernel = _Kernel(layer.conv.weight, layer.conv.stride[0], dtype)
        bias = layer.conv.bias
        self._bias = None if bias is None else bias.detach().to(dtype)
        self._norm = getattr(layer, "layer_norm", None)
        self._activation = in_place(layer.activation)

    def apply(self, frames: torch.Tensor, out: torch.Tensor) -> None:
        """Write the layer's output for frames ``[n, C]`` to ``out [m, D]``."""
        self.kernel.convolve(frames, out)
        if self._bias is not None:
            out += self._bias
        if self._norm is not None:
            out.copy_(self._activation(self._norm(out.float())))
        elif (activated := self._activation(out)) is not out:
            out.copy_(activated)


def in_place(activation: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a GELU that overwrites its input; other activations are returned as they are."""
    from transformers.activations import GELUActivation

    if not isinstance(activation, GELUActivation):
        other: Callable[[torch.Tensor], torch.Tensor] = activation
        return other
    return torch.ops.aten.gelu_.default
