"""Build `transformers.HubertModel` from a checkpoint's own config and tensors, strictly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from mergekit_audio.backbones._pooled import is_sound_in_bfloat16, require_evaluation
from mergekit_audio.backbones.base import PrefixNames
from mergekit_audio.errors import InputError
from mergekit_audio.weights.keys import canonical_name

_MODEL_TYPES = ("mert_model", "mert", "hubert")
_BEYOND_HUBERT = ("deepnorm", "feature_extractor_cqt")


def hubert_config(
    config: Mapping[str, Any],
    *,
    attention: str,
    sample_rate_hz: int,
    hop_length: int,
    receptive_field: int,
    backbone: str = "mert",
) -> Any:
    """Return the `HubertConfig` of a ``config.json``, checking that `HubertModel` computes it.

    Keys that only MERT's own code reads are dropped; SpecAugment is off, since the trainer masks.

    Raises
    ------
    InputError
        Another model family, sampling rate or frame rate, a layout that `HubertModel` can't
        compute (``deepnorm``, ``feature_extractor_cqt``), or a value of the wrong type.
    """
    from transformers import HubertConfig

    model_type = config.get("model_type", _MODEL_TYPES[0])
    if model_type not in _MODEL_TYPES:
        raise InputError(
            f"config.json: model_type is {model_type!r}, expected one of {', '.join(_MODEL_TYPES)}",
            "choose the backbone that belongs to this checkpoint",
        )
    for key in _BEYOND_HUBERT:
        if config.get(key):
            raise InputError(
                f"config.json: {key} is true, which transformers.HubertModel does not compute",
                "use a checkpoint without it; the released MERT-v1 models have none",
            )
    known = HubertConfig().to_dict()
    kept = {key: value for key, value in config.items() if key in known}
    kept |= {
        "model_type": "hubert",
        "apply_spec_augment": False,
        "layerdrop": kept.get("layerdrop", 0.1),
    }
    kept = {key: value for key, value in kept.items() if key not in _SET_BY_TRANSFORMERS}
    try:
        settings = HubertConfig(**kept, attn_implementation=attention)
    except Exception as error:  # huggingface_hub's own kinds of validation error
        raise InputError(
            f"config.json: {error}", "compare it with the model's published config"
        ) from error
    _check_rates(config, settings, sample_rate_hz, hop_length, receptive_field, backbone)
    return settings


def build_hubert(
    settings: Any, state: Mapping[str, torch.Tensor] | None, *, seed: int | None
) -> nn.Module:
    """Return a float32 `HubertModel` on the CPU holding ``state``, or random weights of ``seed``.

    torch's global random state is left as it was. With ``state`` no random weights are drawn first.
    """
    from transformers import HubertModel

    model: nn.Module
    if state is None:
        if seed is None:
            raise ValueError("give the model's weights or the seed to draw them from")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = HubertModel(settings)
        return _with_sound_position(model)
    with torch.device("meta"):
        model = HubertModel(settings)
    own_names = {canonical_name(own): own for own in sorted(model.state_dict())}
    given = {canonical_name(name): tensor for name, tensor in sorted(state.items())}
    _require_same(given, {name: model.state_dict()[own] for name, own in own_names.items()})
    model.to_empty(device="cpu")
    model.load_state_dict({own: given[name] for name, own in own_names.items()}, strict=True)
    return _with_sound_position(model)


def all_hidden_states(model: Any, wave: torch.Tensor, receptive_field: int) -> torch.Tensor:
    """Return what enters the first layer and what leaves every layer, ``[B, L, T, D]`` in float32.

    Raises
    ------
    ValueError
        A part of the model is in training mode: dropout would change values and layer drop leave
        layers out.
    InputError
        The waveforms are not ``[B, S]`` or are shorter than one frame.
    """
    require_evaluation(model)
    if wave.ndim != 2 or wave.shape[1] < receptive_field:
        raise InputError(
            f"waveforms of shape {list(wave.shape)}; expected [clips, samples] with at least "
            f"{receptive_field} samples (one frame)",
            "leave out clips that are too short",
        )
    output = model(wave, output_hidden_states=True)
    return torch.stack([layer.float() for layer in output.hidden_states], dim=1)


def last_layer(config: Mapping[str, Any]) -> int:
    """Return the number of layers, which is the last hidden state's number."""
    return int(config.get("num_hidden_layers", 12))


def prefix_names(config: Mapping[str, Any], names: Iterable[str], last_layer: int) -> PrefixNames:
    """Return the tensors of the model of ``last_layer`` layers, and those that it computes with.

    The mask vector is never used, and before-attention norms leave the norm behind the last layer
    unused, since hidden states are taken before it.
    """
    held = sorted(name for name in names if _layer_of(name) < last_layer)
    unused = [_MASK_VECTOR]
    unused += [_OUTER_NORM] if config.get("do_stable_layer_norm", False) else []
    computed = (name for name in held if not name.startswith(tuple(unused)))
    return PrefixNames(tuple(held), tuple(computed))


def computed_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that hidden states depend on beside the weights, with their defaults."""
    from transformers import HubertConfig

    default = HubertConfig()
    found = {key: config.get(key, getattr(default, key)) for key in _COMPUTED_SETTINGS}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


def _layer_of(name: str) -> int:
    """Return the layer that a tensor lies in, -1 for those before the first."""
    if not name.startswith(_LAYERS):
        return -1
    number = name.removeprefix(_LAYERS).split(".", 1)[0]
    return int(number) if number.isdecimal() else -1


_LAYERS = "encoder.layers."
_MASK_VECTOR = "masked_spec_embed"
_OUTER_NORM = "encoder.layer_norm."
_COMPUTED_SETTINGS = (
    "conv_bias",
    "conv_dim",
    "conv_kernel",
    "conv_pos_batch_norm",
    "conv_stride",
    "do_stable_layer_norm",
    "feat_extract_activation",
    "feat_extract_norm",
    "feat_proj_layer_norm",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "layer_norm_eps",
    "num_attention_heads",
    "num_conv_pos_embedding_groups",
    "num_conv_pos_embeddings",
)


def _with_sound_position(model: Any) -> nn.Module:
    """Let a positional convolution that CPUs get wrong in bfloat16 be computed in float32."""
    position = model.encoder.pos_conv_embed
    if not is_sound_in_bfloat16(position.conv):
        position.forward = partial(_in_float32_on_cpu, position.forward)
    typed: nn.Module = model
    return typed


def _in_float32_on_cpu(
    forward: Callable[[torch.Tensor], torch.Tensor], hidden: torch.Tensor
) -> torch.Tensor:
    if hidden.device.type != "cpu":
        return forward(hidden)
    with torch.autocast("cpu", enabled=False):
        return forward(hidden.float() if hidden.dtype == torch.bfloat16 else hidden)


_SET_BY_TRANSFORMERS = (
    "transformers_version",
    "architectures",
    "dtype",
    "torch_dtype",
    "model_type",
)


def _check_rates(
    config: Mapping[str, Any],
    settings: Any,
    sample_rate_hz: int,
    hop_length: int,
    receptive_field: int,
    backbone: str,
) -> None:
    hop, field = 1, 1
    for kernel, stride in zip(settings.conv_kernel, settings.conv_stride, strict=True):
        field += (kernel - 1) * hop
        hop *= stride
    found = (int(config.get("sample_rate", sample_rate_hz)), hop, field)
    if found != (sample_rate_hz, hop_length, receptive_field):
        raise InputError(
            f"config.json: {found[0]} Hz, {found[1]} samples a frame, receptive field {found[2]}; "
            f"expected {sample_rate_hz} Hz, {hop_length} and {receptive_field}",
            f"this checkpoint does not belong to the backbone {backbone!r}",
        )


def _require_same(given: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    faults = [f"missing tensor {name}" for name in sorted(expected.keys() - given.keys())]
    faults += [f"unexpected tensor {name}" for name in sorted(given.keys() - expected.keys())]
    faults += [
        f"{name}: shape {list(given[name].shape)}, the config asks for {list(expected[name].shape)}"
        for name in sorted(given.keys() & expected.keys())
        if given[name].shape != expected[name].shape
    ]
    faults += [
        f"{name}: holds {given[name].dtype}, expected floating point"
        for name in sorted(given.keys() & expected.keys())
        if expected[name].is_floating_point() and not given[name].is_floating_point()
    ]
    if faults:
        raise InputError(
            f"the weights do not fit the model's config ({len(faults)} differences):\n"
            + "\n".join(f"  {fault}" for fault in faults),
            "check that config.json belongs to these weights; heads are kept in their own file",
        )
