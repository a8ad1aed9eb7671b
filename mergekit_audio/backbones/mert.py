"""The MERT family: HuBERT encoders of music, 24 kHz in and 75 frames a second out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mergekit_audio.backbones.base import Backbone, PrefixNames
from mergekit_audio.errors import InputError
from mergekit_audio.registry import did_you_mean

if TYPE_CHECKING:
    import torch
    from torch import nn


class Mert(Backbone):
    """MERT (arXiv 2306.00107) on `transformers.HubertModel`, which computes what MERT's does."""

    name: Literal["mert"] = "mert"
    attention: Literal["auto", "eager", "sdpa"] = "auto"
    """How attention is computed: `auto` takes the faster one by `benchmarks/attention.py`, `eager`
    for training on a CPU with attention dropout and `sdpa` otherwise. Time of sdpa over eager on
    2 CPU cores: 95M training 1.38 in bf16 and 0.95 to 0.99 in fp32, 95M inference 0.95 at 5 s and
    0.59 at 30 s, tiny training (no dropout) 0.83."""
    layer_norm: Literal["pre", "post"] | None = None
    """What the checkpoint must be: layer norms before attention (MERT-v1-330M) or after it
    (MERT-v1-95M). Null takes what its config says; another value that contradicts it is an error,
    since the weights would load all the same and be destroyed."""

    sample_rate_hz: ClassVar[int] = 24_000
    hop_length: ClassVar[int] = 320
    receptive_field: ClassVar[int] = 400
    parameter_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "front": ("feature_extractor.*",),
        "projection": ("feature_projection.*",),
        "mask": ("masked_spec_embed",),
        "position": ("encoder.pos_conv_embed.*",),
        "norm": ("encoder.layer_norm.*",),
        "encoder": ("encoder.layers.*",),
    }

    def build(
        self,
        config: Mapping[str, Any],
        state: Mapping[str, torch.Tensor] | None,
        *,
        training: bool,
        device: str = "cpu",
        seed: int | None = None,
    ) -> nn.Module:
        """Return the `HubertModel` of a configuration with these weights, in float32.

        Parameters
        ----------
        config
            A ``config.json`` as a dict. ``do_stable_layer_norm`` decides where layer norms are
            (true: before attention, as in the 330M model; false: after it, as in the 95M model).
        state
            Tensors by name, in either spelling of the positional convolution's weight norm;
            ``None`` draws random weights.
        training
            Whether the model starts in training mode (dropout active).
        device
            Where the model lives.
        seed
            Seed of the random weights; needed when ``state`` is ``None``, unused otherwise.

        Raises
        ------
        InputError
            The configuration is not of this family, or the tensors are not exactly the model's
            (every missing, unexpected or wrongly shaped tensor is listed), or its layer norms are
            not where ``layer_norm`` says.
        ValueError
            Neither ``state`` nor ``seed`` is given.
        """
        from mergekit_audio.backbones._hubert import build_hubert, hubert_config

        self.check(config)
        attention = self.attention_for(config, device=device, training=training)
        settings = hubert_config(
            config,
            attention=attention,
            sample_rate_hz=self.sample_rate_hz,
            hop_length=self.hop_length,
            receptive_field=self.receptive_field,
        )
        model = build_hubert(settings, state, seed=seed).to(device)
        return model.train(training)

    def check(self, config: Mapping[str, Any]) -> None:
        """Check that the layer norms of a ``config.json`` are where ``layer_norm`` says.

        Raises
        ------
        InputError
            They are not.
        """
        found = "pre" if config.get("do_stable_layer_norm", False) else "post"
        if self.layer_norm not in (None, found):
            raise InputError(
                f"backbone.layer_norm is {self.layer_norm!r}, and the checkpoint's config.json "
                f"(do_stable_layer_norm) says {found!r}",
                "leave layer_norm out: its weights mean nothing with layer norms elsewhere",
            )

    def preset(self, name: str) -> dict[str, Any]:
        """Return the ``config.json`` of a preset: ``95m``, ``330m`` or ``tiny``.

        Raises
        ------
        InputError
            There is no such preset.
        """
        if name not in _PRESETS:
            raise InputError(
                f"mert has no preset {name!r}; it has {', '.join(sorted(_PRESETS))}",
                did_you_mean(name, _PRESETS),
            )
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in (_COMMON | _PRESETS[name]).items()
        }

    def hidden_states(self, model: nn.Module, wave: torch.Tensor) -> torch.Tensor:
        """Return what enters the first layer and what leaves every layer, in float32.

        Index 0 is the projection with its position added, index ``l`` the output of layer ``l``;
        13 in all at 95M. (In 330M's pre-norm layout the last one is before the final layer norm.)

        Parameters
        ----------
        model
            A model of :meth:`build` in evaluation mode.
        wave
            Waveforms at 24 kHz, shape ``[B, S]``, S at least 400 samples, without padding.

        Returns
        -------
        torch.Tensor
            Shape ``[B, L, T, D]`` with T = 1 + (S - 400) // 320.

        Raises
        ------
        ValueError
            A part of the model is in training mode: layer drop would leave layers out.
        InputError
            The waveforms are not ``[B, S]`` or are shorter than one frame.
        """
        from mergekit_audio.backbones._hubert import all_hidden_states

        return all_hidden_states(model, wave, self.receptive_field)

    def last_layer(self, config: Mapping[str, Any]) -> int:
        """Return the number of the last hidden state: 12 at 95M."""
        from mergekit_audio.backbones._hubert import last_layer

        return last_layer(config)

    def width(self, config: Mapping[str, Any]) -> int:
        """Return D, the features of a frame."""
        return int(config.get("hidden_size", 768))

    def prefix(self, config: Mapping[str, Any], last_layer: int) -> dict[str, Any]:
        """Return the configuration of the first ``last_layer`` layers."""
        return {**config, "num_hidden_layers": last_layer}

    def prefix_names(
        self, config: Mapping[str, Any], names: Iterable[str], last_layer: int
    ) -> PrefixNames:
        """Return which tensors the model of the first layers holds, and which it computes with."""
        from mergekit_audio.backbones._hubert import prefix_names

        return prefix_names(config, names, last_layer)

    def computed_settings(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return what of a configuration the hidden states depend on, beside their number."""
        from mergekit_audio.backbones._hubert import computed_settings

        return computed_settings(config)

    def pooler(self, model: nn.Module, *, bfloat16: bool) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return a function from waveforms ``[B, S]`` to time-averaged states ``[B, L, D]``.

        Raises
        ------
        ValueError
            A part of the model is in training mode.
        """
        from mergekit_audio.backbones._pooled import PooledHubert

        return PooledHubert(model, bfloat16=bfloat16)

    def attention_for(self, config: Mapping[str, Any], *, device: str, training: bool) -> str:
        """Return the field's attention implementation, or the fastest measured for ``auto``."""
        if self.attention != "auto":
            return self.attention
        has_dropout = float(config.get("attention_dropout", 0.1)) > 0
        return "eager" if training and has_dropout and device.startswith("cpu") else "sdpa"


_COMMON: dict[str, Any] = {
    "architectures": ["MERTModel"],
    "model_type": "mert_model",
    "activation_dropout": 0.0,
    "apply_spec_augment": True,
    "bos_token_id": 1,
    "conv_bias": False,
    "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
    "conv_stride": (5, 2, 2, 2, 2, 2, 2),
    "deepnorm": False,
    "eos_token_id": 2,
    "feat_extract_activation": "gelu",
    "feat_extract_norm": "group",
    "feat_proj_layer_norm": True,
    "feature_extractor_cqt": False,
    "feature_extractor_cqt_bins": 336,
    "hidden_act": "gelu",
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-05,
    "mask_feature_length": 10,
    "mask_feature_min_masks": 0,
    "mask_feature_prob": 0.0,
    "mask_time_length": 10,
    "mask_time_min_masks": 2,
    "mask_time_prob": 0.05,
    "pad_token_id": 0,
    "sample_rate": 24000,
    "torch_dtype": "float32",
}

_PRESETS: dict[str, dict[str, Any]] = {
    "95m": {
        "attention_dropout": 0.1,
        "attention_relax": -1.0,
        "conv_dim": (512, 512, 512, 512, 512, 512, 512),
        "do_stable_layer_norm": False,
        "feat_proj_dropout": 0.1,
        "hidden_dropout": 0.1,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "layerdrop": 0.05,
        "num_attention_heads": 12,
        "num_conv_pos_embedding_groups": 16,
        "num_conv_pos_embeddings": 128,
        "num_hidden_layers": 12,
    },
    "330m": {
        "attention_dropout": 0.0,
        "attention_relax": 32.0,
        "conv_dim": (512, 512, 512, 512, 512, 512, 512),
        "do_stable_layer_norm": True,
        "feat_proj_dropout": 0.0,
        "hidden_dropout": 0.0,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "layerdrop": 0.0,
        "num_attention_heads": 16,
        "num_conv_pos_embedding_groups": 16,
        "num_conv_pos_embeddings": 128,
        "num_hidden_layers": 24,
    },
    # Widths and no dropout chosen by speed on one core: forward and backward of a 5-s clip take
    # 32 ms in a batch of 8; equal widths of 64 would take 100 ms, since the first two convolutions
    # run at 4,800 and 2,400 frames a second. Layer norms before attention (as at 330M) and weights
    # of 1/√96 learn in hundreds of steps what the 95M model's settings need thousands for.
    "tiny": {
        "attention_dropout": 0.0,
        "attention_relax": -1.0,
        "conv_dim": (16, 32, 32, 48, 64, 64, 64),
        "do_stable_layer_norm": True,
        "feat_proj_dropout": 0.0,
        "hidden_dropout": 0.0,
        "hidden_size": 96,
        "initializer_range": 0.1,
        "intermediate_size": 256,
        "layerdrop": 0.0,
        "num_attention_heads": 2,
        "num_conv_pos_embedding_groups": 8,
        "num_conv_pos_embeddings": 32,
        "num_hidden_layers": 4,
    },
}
