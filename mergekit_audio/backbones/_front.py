"""HuBERT's convolutional front as matrix products over time, faster and smaller on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

# Values of a convolution's input that are computed at a time, so that what lies between two
# convolutions stays in the processor's caches: 1,024 frames of output at 512 channels.
_CHUNK_VALUES = 1 << 20


def front_frames(front: Any, wave: torch.Tensor) -> torch.Tensor:
    """Return the features ``[B, T, C]`` of waveforms ``[B, S]``.

    On a CPU a front in the layout of HuBERT base (group norm of single channels in the first layer,
    no biases, GELU) is computed with time before channels. There a convolution is a matrix product
    of overlapping rows, no copy of its input is made, and only what enters a GELU is kept for the
    way back. Group norm goes into the first convolution's taps, since mean and variance of a
    filtered wave are those of the wave: with w the taps of a channel, μ and Σ the mean and the
    covariance of the wave's windows x_t,

        norm(w · x_t) = γ / √(wᵀ Σ w + ε) · w · (x_t - μ) + β.

    Other fronts and devices take the modules' own way, which gives the same numbers but for
    rounding.

    Parameters
    ----------
    front
        The ``feature_extractor`` of a ``transformers.HubertModel``.
    wave
        Waveforms; gradients do not flow into them.

    Returns
    -------
    torch.Tensor
        Shape ``[B, T, C]``, in the type of autocast where that is on.
    """
    layers = list(front.conv_layers)
    if wave.device.type != "cpu" or not _is_hubert_base(layers):
        own: torch.Tensor = front(wave).transpose(1, 2)
        return own
    dtype = layers[0].conv.weight.dtype
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
    with torch.autocast("cpu", enabled=False):
        windows, taps = _normalised_taps(layers[0], wave)
        second = layers[1].conv
        before = _FirstTwo.apply(windows, taps, second.weight, second.stride[0], dtype)  # type: ignore[no-untyped-call]
        for layer in layers[2:]:
            before = _GeluConvolution.apply(before, layer.conv.weight, layer.conv.stride[0])  # type: ignore[no-untyped-call]
        return functional.gelu(before)


def _is_hubert_base(layers: list[Any]) -> bool:
    from transformers.activations import GELUActivation

    norm = getattr(layers[0], "layer_norm", None)
    return (
        len(layers) > 1
        and isinstance(norm, nn.GroupNorm)
        and norm.num_groups == norm.num_channels
        and norm.affine
        and not any(hasattr(layer, "layer_norm") for layer in layers[1:])
        and all(layer.conv.bias is None for layer in layers)
        and all(layer.conv.kernel_size[0] >= layer.conv.stride[0] for layer in layers)
        and all(isinstance(layer.activation, GELUActivation) for layer in layers)
    )


def _normalised_taps(layer: Any, wave: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return windows ``[B, T, K + 1]``, and taps ``[B, K + 1, C]`` that filter and normalise them.

    The last column of the windows is 1 and the last tap is β. Statistics are in float64, since
    neighbouring samples of music are nearly equal and many filters cancel them.
    """
    weight, norm = layer.conv.weight[:, 0], layer.layer_norm
    windows = wave.detach().to(weight.dtype).unfold(-1, weight.shape[1], layer.conv.stride[0])
    exact = windows.double()
    centred = exact - exact.mean(dim=1, keepdim=True)
    covariance = centred.transpose(1, 2) @ centred / windows.shape[1]
    variance = ((weight.double() @ covariance) * weight.double()).sum(dim=-1).clamp_min(0.0)
    gain = norm.weight.double() * torch.rsqrt(variance + norm.eps)
    taps = (gain.unsqueeze(-1) * weight.double()).transpose(1, 2).to(weight.dtype)
    bias = norm.bias.expand(wave.shape[0], 1, -1)
    ones = torch.ones_like(windows[..., :1])
    return torch.cat([centred.to(weight.dtype), ones], dim=-1), torch.cat([taps, bias], dim=1)


class _FirstTwo(torch.autograd.Function):
    """The second convolution of the GELU of ``windows · taps``; nothing in between is kept."""

    @staticmethod
    def forward(
        context: Any,
        windows: torch.Tensor,
        taps: torch.Tensor,
        weight: torch.Tensor,
        stride: int,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        kernel = _Kernel(weight, stride, dtype)
        clips, frames, _ = windows.shape
        result = windows.new_empty((clips, kernel.frames(frames), weight.shape[0]), dtype=dtype)
        for clip, out, into in kernel.chunks(clips, result.shape[1]):
            hidden = functional.gelu(windows[clip, into] @ taps[clip]).to(dtype)
            kernel.convolve(hidden, result[clip, out])
        context.save_for_backward(windows, taps, weight)
        context.stride = stride
        return result

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        windows, taps, weight = context.saved_tensors
        gradient = gradients[0].contiguous()
        kernel = _Kernel(weight, context.stride, gradient.dtype)
        of_taps, of_kernel = torch.zeros_like(taps), kernel.zeros()
        with torch.autocast("cpu", enabled=False):
            for clip, out, into in kernel.chunks(len(windows), gradient.shape[1]):
                before = windows[clip, into] @ taps[clip]
                hidden = functional.gelu(before).to(gradient.dtype)
                of_hidden = kernel.back(hidden, gradient[clip, out], of_kernel)
                of_before = torch.ops.aten.gelu_backward(of_hidden.to(before.dtype), before)
                of_taps[clip].addmm_(windows[clip, into].t(), of_before)
        return None, of_taps, kernel.unfolded(of_kernel), None, None


class _GeluConvolution(torch.autograd.Function):
    """The convolution of GELU(x), of which only x is kept."""

    @staticmethod
    def forward(
        context: Any, before: torch.Tensor, weight: torch.Tensor, stride: int
    ) -> torch.Tensor:
        kernel = _Kernel(weight, stride, before.dtype)
        clips, frames, _ = before.shape
        result = before.new_empty((clips, kernel.frames(frames), weight.shape[0]))
        for clip, out, into in kernel.chunks(clips, result.shape[1]):
            kernel.convolve(functional.gelu(before[clip, into]), result[clip, out])
        context.save_for_backward(before, weight)
        context.stride = stride
        return result

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        before, weight = context.saved_tensors
        gradient = gradients[0].contiguous()
        kernel = _Kernel(weight, context.stride, gradient.dtype)
        of_before, of_kernel = torch.zeros_like(before), kernel.zeros()
        shared = kernel.taps - kernel.stride  # frames that two neighbouring chunks read
        with torch.autocast("cpu", enabled=False):
            for clip, out, into in kernel.chunks(len(before), gradient.shape[1]):
                hidden = functional.gelu(before[clip, into])
                of_hidden = kernel.back(hidden, gradient[clip, out], of_kernel)
                chunk = torch.ops.aten.gelu_backward(of_hidden, before[clip, into])
                target = of_before[clip, into]
                target[:shared] += chunk[:shared]
                target[shared:] = chunk[shared:]
        return of_before, kernel.unfolded(of_kernel), None


class _Kernel:
    """A convolution's weight ``[D, C, K]`` as a matrix ``[K · C, D]``, applied to rows of frames.

    A row of ``stride`` neighbouring frames meets as many taps in one product; the taps left over
    meet the next row.
    """

    def __init__(self, weight: torch.Tensor, stride: int, dtype: torch.dtype) -> None:
        self.outputs, self.inputs, self.taps = weight.shape
        self.stride = stride
        self.matrix = weight.detach().permute(2, 1, 0).reshape(-1, self.outputs).to(dtype)
        self.weight_dtype = weight.dtype

    def frames(self, frames_in: int) -> int:
        """Return how many frames come out."""
        return (frames_in - self.taps) // self.stride + 1

    def chunks(self, clips: int, frames_out: int) -> Iterator[tuple[int, slice, slice]]:
        """Yield a clip, frames of the output, and the frames of the input that they see."""
        most = max(1, _CHUNK_VALUES // (self.inputs * self.stride))
        for clip in range(clips):
            for start in range(0, frames_out, most):
                stop = min(start + most, frames_out)
                first, last = start * self.stride, (stop - 1) * self.stride + self.taps
                yield clip, slice(start, stop), slice(first, last)

    def convolve(self, hidden: torch.Tensor, out: torch.Tensor) -> None:
        """Write the convolution of frames ``[n, C]`` to ``out [m, D]``."""
        for number, (rows, part) in enumerate(self._products(hidden, len(out), self.matrix)):
            if number == 0:
                torch.mm(rows, part, out=out)
            else:
                out.addmm_(rows, part)

    def back(
        self, hidden: torch.Tensor, gradient: torch.Tensor, of_matrix: torch.Tensor
    ) -> torch.Tensor:
        """Return the gradient of ``hidden``; add that of the matrix to ``of_matrix``."""
        of_hidden = torch.zeros_like(hidden)
        count = len(gradient)
        parts = zip(
            self._products(hidden, count, of_matrix),
            self._products(of_hidden, count, self.matrix),
            strict=True,
        )
        for number, ((rows, of_part), (of_rows, part)) in enumerate(parts):
            of_part += rows.t() @ gradient
            if number == 0:
                torch.mm(gradient, part.t(), out=of_rows)
            else:
                of_rows += gradient @ part.t()
        return of_hidden

    def zeros(self) -> torch.Tensor:
        """Return room for the gradient of the matrix, in the weight's type."""
        return torch.zeros_like(self.matrix, dtype=self.weight_dtype)

    def unfolded(self, of_matrix: torch.Tensor) -> torch.Tensor:
        """Return the matrix's gradient as the weight's."""
        return of_matrix.view(self.taps, self.inputs, self.outputs).permute(2, 1, 0).contiguous()

    def _products(
        self, frames: torch.Tensor, count: int, matrix: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield rows ``[count, g · C]`` of contiguous frames with the ``g · C`` rows they meet."""
        row = self.stride * self.inputs
        for start in range(0, len(matrix), row):
            part = matrix[start : start + row]
            offset = frames.storage_offset() + start
            yield frames.as_strided((count, len(part)), (row, 1), offset), part
