"""Time-averaged hidden states of a HubertModel for inference, layer by layer, in memory that stays.

What is large is written into room that a thread keeps: fresh memory costs a page fault for every
4 KiB, more than the arithmetic on it. Matrix products may be in bfloat16; the residual stream,
layer norms and averages are in float32 all the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from mergekit_audio.backbones._room import Room
from mergekit_audio.backbones._wave_front import WaveFront, in_place

_SOUND_CHANNELS = 16


def require_evaluation(model: nn.Module) -> None:
    """Raise ``ValueError`` when the model or a part of it would drop values or layers.

    Raises
    ------
    ValueError
        A part is in training mode.
    """
    part = next((name for name, each in model.named_modules() if each.training), None)
    if part is not None:
        raise ValueError(
            f"hidden states need a model in evaluation mode, and {part or 'the model'} is in "
            "training mode (dropout, layer drop): call model.eval() first"
        )


class PooledHubert:
    """Computes ``hidden_states(model, wave).mean(dim=2)``, float32 ``[B, L, D]``.

    Any number of threads may call one object, each on waveforms of its own.

    Parameters
    ----------
    model
        A ``transformers.HubertModel`` in evaluation mode. Its weights are copied where they are
        arranged otherwise (q, k and v side by side) or rounded, and shared elsewhere.
    bfloat16
        Compute matrix products, convolutions and attention in bfloat16.

    Raises
    ------
    ValueError
        A part of the model is in training mode.
    """

    def __init__(self, model: Any, *, bfloat16: bool) -> None:
        require_evaluation(model)
        encoder = model.encoder
        self._dtype = torch.bfloat16 if bfloat16 else torch.float32
        self._is_pre_norm = bool(model.config.do_stable_layer_norm)
        with torch.inference_mode():
            self._front = WaveFront(model.feature_extractor, self._dtype)
            self._projection = model.feature_projection
            self._position = _Position(encoder.pos_conv_embed, self._dtype)
            self._norm = encoder.layer_norm
            self._layers = [_Layer(layer, self._dtype) for layer in encoder.layers]
        self._local = threading.local()

    def __call__(self, wave: torch.Tensor) -> torch.Tensor:
        """Return the averages ``[B, L, D]`` of waveforms ``[B, S]``."""
        room = self._room()
        with torch.inference_mode():
            hidden = self._projected(self._front(wave, room))
            hidden = hidden + self._position(hidden)
            if not self._is_pre_norm:
                hidden = self._norm(hidden)
            averages = [hidden.mean(dim=1)]
            for layer in self._layers:
                hidden = (layer.pre_norm if self._is_pre_norm else layer.post_norm)(hidden, room)
                averages.append(hidden.mean(dim=1))
            return torch.stack(averages, dim=1)

    def _projected(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the features in the encoder's width: a float32 norm and a small product."""
        frames = frames.float()
        if self._projection.feat_proj_layer_norm:
            frames = self._projection.layer_norm(frames)
        projected: torch.Tensor = self._projection.projection(frames)
        return projected

    def _room(self) -> Room:
        room: Room | None = getattr(self._local, "room", None)
        if room is None:
            room = self._local.room = Room()
        return room


def is_sound_in_bfloat16(convolution: Any) -> bool:
    """Tell whether a CPU computes a grouped convolution rightly in bfloat16.

    It does with groups of 16 channels or multiples of it, as in the released models; with others
    oneDNN's kernel returns other numbers altogether (seen with torch 2.13 and groups of 8 and 12).
    """
    channels: int = convolution.in_channels // convolution.groups
    return channels % _SOUND_CHANNELS == 0


class _Position:
    """The positional convolution, its weight normalised once instead of at every call.

    In float32 where a CPU computes it wrongly in bfloat16, as of no released model.
    """

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        self._module = module
        weight = module.conv.weight
        is_sound = weight.device.type != "cpu" or is_sound_in_bfloat16(module.conv)
        self._dtype = dtype = dtype if is_sound else torch.float32
        self._weight = module.conv.weight.detach().to(dtype)
        self._bias = module.conv.bias.detach().to(dtype)

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        module = self._module
        if module.batch_norm is not None:
            result: torch.Tensor = module(hidden)
            return result
        conv = module.conv
        frames = functional.conv1d(
            hidden.to(self._dtype).transpose(1, 2),
            self._weight,
            self._bias,
            padding=conv.padding,
            groups=conv.groups,
        )
        activated: torch.Tensor = module.activation(module.padding(frames).float())
        return activated.transpose(1, 2)


class _Linear:
    """A linear layer, or several side by side, that writes into given memory."""

    def __init__(self, modules: list[Any], dtype: torch.dtype) -> None:
        self.weight = torch.cat([each.weight for each in modules]).detach().to(dtype).t()
        self.bias = torch.cat([each.bias for each in modules]).detach().to(dtype)

    def __call__(self, name: str, rows: torch.Tensor, room: Room) -> torch.Tensor:
        shape = (len(rows), self.weight.shape[1])
        out = room(name, shape, self.weight.dtype, rows.device)
        return torch.addmm(self.bias, rows, self.weight, out=out)


class _Layer:
    """One transformer layer."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        attention, forward = layer.attention, layer.feed_forward
        self._heads = attention.num_heads
        self._dtype = dtype
        self._inwards = _Linear([attention.q_proj, attention.k_proj, attention.v_proj], dtype)
        self._outwards = _Linear([attention.out_proj], dtype)
        self._wide = _Linear([forward.intermediate_dense], dtype)
        self._narrow = _Linear([forward.output_dense], dtype)
        self._activation: Callable[[torch.Tensor], torch.Tensor] = in_place(
            forward.intermediate_act_fn
        )
        self._attention_norm = layer.layer_norm
        self._forward_norm = layer.final_layer_norm

    def post_norm(self, hidden: torch.Tensor, room: Room) -> torch.Tensor:
        """Return ``norm(y + forward(y))`` with ``y = norm(x + attention(x))``."""
        hidden = self._attention_norm(hidden + self._attend(hidden, room))
        result: torch.Tensor = self._forward_norm(hidden + self._forward(hidden, room))
        return result

    def pre_norm(self, hidden: torch.Tensor, room: Room) -> torch.Tensor:
        """Return ``y + forward(norm(y))`` with ``y = x + attention(norm(x))``."""
        hidden = hidden + self._attend(self._attention_norm(hidden), room)
        return hidden + self._forward(self._forward_norm(hidden), room)

    def _attend(self, hidden: torch.Tensor, room: Room) -> torch.Tensor:
        clips, frames, width = hidden.shape
        rows = hidden.reshape(-1, width).to(self._dtype)
        parts = self._inwards("qkv", rows, room).view(clips, frames, 3, self._heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        rows = mixed.transpose(1, 2).reshape(-1, width)
        return self._outwards("narrow", rows, room).view(hidden.shape)

    def _forward(self, hidden: torch.Tensor, room: Room) -> torch.Tensor:
        rows = hidden.reshape(-1, hidden.shape[-1]).to(self._dtype)
        wide = self._activation(self._wide("wide", rows, room))
        return self._narrow("narrow", wide, room).view(hidden.shape)
