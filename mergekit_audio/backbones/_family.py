"""What encoders of HuBERT's layout share: one model class, its parts, presets and hidden states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mergekit_audio.backbones.base import Backbone, PrefixNames
from mergekit_audio.errors import InputError
from mergekit_audio.registry import did_you_mean

if TYPE_CHECKING:
    import torch
    from torch import nn


class HubertLayout(Backbone):
    """An encoder that `transformers.HubertModel` computes; a family says its rate and presets."""

    name: str
    """The family's name, its module's."""
    attention: Literal["auto", "eager", "sdpa"] = "auto"
    """How attention is computed: `auto` takes the faster one by `benchmarks/attention.py`, `eager`
    for training on a CPU with attention dropout and `sdpa` otherwise. Time of sdpa over eager on
    2 CPU cores: 95M training 1.38 in bf16 and 0.95 to 0.99 in fp32, 95M inference 0.95 at 5 s and
    0.59 at 30 s, tiny training (no dropout) 0.83."""

    hop_length: ClassVar[int] = 320
    receptive_field: ClassVar[int] = 400
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Configurations by name; tuples become lists."""
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
            (true: before attention; false: after it), ``feat_extract_norm`` whether the front has
            one group norm or a layer norm in each layer.
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
            The configuration is refused by ``check``, or the tensors are not exactly the model's
            (every missing, unexpected or wrongly shaped tensor is listed).
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
            backbone=self.name,
        )
        model = build_hubert(settings, state, seed=seed).to(device)
        return model.train(training)

    def preset(self, name: str) -> dict[str, Any]:
        """Return the ``config.json`` of a preset.

        Raises
        ------
        InputError
            There is no such preset.
        """
        if name not in self.presets:
            raise InputError(
                f"{self.name} has no preset {name!r}; it has {', '.join(sorted(self.presets))}",
                did_you_mean(name, self.presets),
            )
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in self.presets[name].items()
        }

    def hidden_states(self, model: nn.Module, wave: torch.Tensor) -> torch.Tensor:
        """Return what enters the first layer and what leaves every layer, in float32.

        Index 0 is the projection with its position added, index ``l`` the output of layer ``l``.
        (Where layer norms are before attention the last one is before the final layer norm.)

        Parameters
        ----------
        model
            A model of :meth:`build` in evaluation mode.
        wave
            Waveforms ``[B, S]`` at ``sample_rate_hz``, S at least 400 samples, without padding.

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
        """Return the number of the last hidden state, which is that of the layers."""
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
