"""The HuBERT family: encoders of speech, 16 kHz in and 50 frames a second out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mergekit_audio.backbones.base import Backbone, PrefixNames
from mergekit_audio.errors import InputError
from mergekit_audio.registry import did_you_mean

if TYPE_CHECKING:
    import torch
    from torch import nn


class Hubert(Backbone):
    """HuBERT (arXiv 2106.07447) as released: facebook/hubert-base-ls960, -large-ll60k, -xlarge."""

    name: Literal["hubert"] = "hubert"
    attention: Literal["auto", "eager", "sdpa"] = "auto"
    """How attention is computed: `auto` takes `eager` for training on a CPU with attention dropout
    and `sdpa` otherwise, as for `mert`, which has the same layers."""

    sample_rate_hz: ClassVar[int] = 16_000
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
            A ``config.json`` as a dict, of model type ``hubert``. ``feat_extract_norm`` says
            whether the front has one group norm (base) or a layer norm in each layer (large),
            ``do_stable_layer_norm`` where the encoder's layer norms are.
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
            (every missing, unexpected or wrongly shaped tensor is listed).
        ValueError
            Neither ``state`` nor ``seed`` is given.
        """
        from mergekit_audio.backbones._hubert import build_hubert, hubert_config

        self.check(config)
        settings = hubert_config(
            config,
            attention=self._attention_for(config, device=device, training=training),
            sample_rate_hz=self.sample_rate_hz,
            hop_length=self.hop_length,
            receptive_field=self.receptive_field,
            backbone=self.name,
        )
        return build_hubert(settings, state, seed=seed).to(device).train(training)

    def check(self, config: Mapping[str, Any]) -> None:
        """Check that a ``config.json`` is HuBERT's and not MERT's, which has the same tensors.

        Raises
        ------
        InputError
            Its model type is another.
        """
        found = config.get("model_type", self.name)
        if found != self.name:
            raise InputError(
                f"config.json: model_type is {found!r}, and the backbone is 'hubert' "
                f"({self.sample_rate_hz} Hz)",
                "choose the backbone that belongs to this checkpoint, such as `name: mert`",
            )

    def preset(self, name: str) -> dict[str, Any]:
        """Return the ``config.json`` of a preset: ``base``, ``large`` or ``tiny``.

        Raises
        ------
        InputError
            There is no such preset.
        """
        if name not in _PRESETS:
            raise InputError(
                f"hubert has no preset {name!r}; it has {', '.join(sorted(_PRESETS))}",
                did_you_mean(name, _PRESETS),
            )
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in (_COMMON | _PRESETS[name]).items()
        }

    def hidden_states(self, model: nn.Module, wave: torch.Tensor) -> torch.Tensor:
        """Return what enters the first layer and what leaves every layer, in float32.

        Index 0 is the projection with its position added, index ``l`` the output of layer ``l``.
        (In the large models' pre-norm layout the last one is before the final layer norm.)

        Parameters
        ----------
        model
            A model of :meth:`build` in evaluation mode.
        wave
            Waveforms at 16 kHz, shape ``[B, S]``, S at least 400 samples, without padding.

        Returns
        -------
        torch.Tensor
            Shape ``[B, L, T, D]`` with T = 1 + (S - 400) // 320.

        Raises
        ------
        ValueError
            A part of the model is in training mode.
        InputError
            The waveforms are not ``[B, S]`` or are shorter than one frame.
        """
        from mergekit_audio.backbones._hubert import all_hidden_states

        return all_hidden_states(model, wave, self.receptive_field)

    def last_layer(self, config: Mapping[str, Any]) -> int:
        """Return the number of the last hidden state: 12 of base, 24 of large."""
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

    def _attention_for(self, config: Mapping[str, Any], *, device: str, training: bool) -> str:
        if self.attention != "auto":
            return self.attention
        has_dropout = float(config.get("attention_dropout", 0.1)) > 0
        return "eager" if training and has_dropout and device.startswith("cpu") else "sdpa"


_COMMON: dict[str, Any] = {
    "architectures": ["HubertModel"],
    "model_type": "hubert",
    "apply_spec_augment": True,
    "bos_token_id": 1,
    "conv_dim": (512, 512, 512, 512, 512, 512, 512),
    "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
    "conv_stride": (5, 2, 2, 2, 2, 2, 2),
    "eos_token_id": 2,
    "feat_extract_activation": "gelu",
    "feat_proj_layer_norm": True,
    "hidden_act": "gelu",
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-05,
    "mask_feature_length": 10,
    "mask_feature_prob": 0.0,
    "mask_time_length": 10,
    "mask_time_prob": 0.05,
    "num_conv_pos_embedding_groups": 16,
    "num_conv_pos_embeddings": 128,
    "pad_token_id": 0,
    "torch_dtype": "float32",
}

_PRESETS: dict[str, dict[str, Any]] = {
    "base": {
        "activation_dropout": 0.1,
        "attention_dropout": 0.1,
        "conv_bias": False,
        "do_stable_layer_norm": False,
        "feat_extract_norm": "group",
        "feat_proj_dropout": 0.1,
        "hidden_dropout": 0.1,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "layerdrop": 0.1,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
    },
    "large": {
        "activation_dropout": 0.0,
        "attention_dropout": 0.0,
        "conv_bias": True,
        "do_stable_layer_norm": True,
        "feat_extract_norm": "layer",
        "feat_proj_dropout": 0.0,
        "hidden_dropout": 0.0,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "layerdrop": 0.0,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
    },
    "tiny": {
        "activation_dropout": 0.0,
        "attention_dropout": 0.0,
        "conv_bias": False,
        "conv_dim": (16, 32, 32, 48, 64, 64, 64),
        "do_stable_layer_norm": False,
        "feat_extract_norm": "group",
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
