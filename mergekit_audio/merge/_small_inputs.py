"""A small seeded input for one forward pass of a loaded model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mergekit_audio.errors import VerificationError

_SAMPLE_RATE_HZ = 16_000
_AMPLITUDE = 0.1
_TOKENS = 8
_FRAMES = 100
# Waveforms with a channel axis, though the config has no `audio_channels`.
_MONO_CHANNEL = ("dac", "xcodec", "vocos")


def small_input(model: Any, folder: Path) -> dict[str, Any]:
    """Return the keywords of one forward pass, made from the model's config.

    Waveforms: 1 s of noise at the rate of the folder's preprocessor; features: as many frames as
    the config fixes (Whisper's 30 s); text: a few tokens. Encoder-decoders get their first token.

    Raises
    ------
    VerificationError
        The model takes something else.
    """
    import torch

    config = model.config
    noise = torch.Generator().manual_seed(0)
    kind = model.main_input_name
    if kind == "input_values":
        shape = _wave_shape(config, folder)
        inputs = {kind: _AMPLITUDE * torch.randn(shape, generator=noise)}
    elif kind == "input_features":
        inputs = {kind: _AMPLITUDE * torch.randn(_feature_shape(config), generator=noise)}
    elif kind == "input_ids":
        count = int(config.get_text_config().vocab_size)
        inputs = {kind: torch.randint(0, count, (1, _TOKENS), generator=noise)}
    else:
        raise VerificationError(
            f"{folder}: no small input is known for {type(model).__name__}, which takes {kind}",
            "the folder loads; leave out --check-load",
        )
    if getattr(config, "is_encoder_decoder", False):
        first = getattr(config, "decoder_start_token_id", None)
        inputs["decoder_input_ids"] = torch.tensor([[0 if first is None else first]])
    return inputs


def _wave_shape(config: Any, folder: Path) -> tuple[int, ...]:
    if config.model_type == "audio-spectrogram-transformer":
        return (1, config.max_length, config.num_mel_bins)
    samples = _sample_rate_hz(config, folder)
    channels = getattr(config, "audio_channels", None)
    if channels is None and config.model_type in _MONO_CHANNEL:
        channels = 1
    return (1, samples) if channels is None else (1, channels, samples)


def _sample_rate_hz(config: Any, folder: Path) -> int:
    """Return the preprocessor's sampling rate, else the config's, else 16 kHz."""
    path = folder / "preprocessor_config.json"
    values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for rate in (
        values.get("sampling_rate"),
        getattr(config, "sampling_rate", None),
        getattr(config, "sample_rate", None),
    ):
        if isinstance(rate, int) and rate > 0:
            return rate
    return _SAMPLE_RATE_HZ


def _feature_shape(config: Any) -> tuple[int, ...]:
    if config.model_type == "whisper":
        return (1, config.num_mel_bins, 2 * config.max_source_positions)
    for key in ("feature_projection_input_dim", "input_feat_per_channel", "num_mel_bins"):
        if getattr(config, key, None):
            return (1, _FRAMES, getattr(config, key))
    return (1, _FRAMES, 80)
