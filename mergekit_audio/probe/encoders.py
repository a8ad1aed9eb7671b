"""A frozen encoder by the content of its weights, built only as deep as its layers are needed."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mergekit_audio.backbones.base import Backbone
from mergekit_audio.errors import InputError
from mergekit_audio.files import canonical_json, sha256_of_text
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.digest import tensor_digest
from mergekit_audio.weights.dtypes import from_torch

if TYPE_CHECKING:
    import torch
    from torch import nn

PREPROCESSOR_NAME = "preprocessor_config.json"


@dataclass(frozen=True)
class FrozenEncoder:
    """Weights with a configuration, from a file or from memory.

    Parameters
    ----------
    backbone
        The model family.
    config
        The ``config.json``.
    names
        The canonical names of all tensors, sorted.
    digest_of
        The digest of a tensor's name, dtype, shape and bytes.
    tensor
        A tensor by name.
    """

    backbone: Backbone
    config: Mapping[str, Any]
    names: tuple[str, ...]
    digest_of: Callable[[str], str]
    tensor: Callable[[str], torch.Tensor]

    @classmethod
    def of_checkpoint(cls, checkpoint: Checkpoint, backbone: Backbone) -> FrozenEncoder:
        """Return the encoder of a checkpoint (a folder, a weight file, fairseq's file).

        Raises
        ------
        InputError
            It has no config, or its preprocessor says another sample rate than the backbone's.
        """
        if checkpoint.config is None:
            raise InputError(
                f"{checkpoint.folder}: no config.json, so the encoder can't be built",
                "put the model's config.json beside its weights",
            )
        if checkpoint.fairseq is None:
            _require_sample_rate(checkpoint, backbone)
        names = tuple(sorted(checkpoint.index))
        return cls(backbone, checkpoint.config, names, checkpoint.tensor_digest, checkpoint.tensor)

    @classmethod
    def of_state(
        cls, state: Mapping[str, torch.Tensor], config: Mapping[str, Any], backbone: Backbone
    ) -> FrozenEncoder:
        """Return the encoder of tensors in memory, such as a merge's, by canonical name."""

        @functools.cache
        def digest_of(name: str) -> str:
            bits, dtype = from_torch(state[name])
            return tensor_digest(name, dtype, bits)

        return cls(backbone, config, tuple(sorted(state)), digest_of, state.__getitem__)

    @property
    def last_layer(self) -> int:
        """The number of the last hidden state."""
        return self.backbone.last_layer(self.config)

    @property
    def width(self) -> int:
        """D, the features of a frame."""
        return self.backbone.width(self.config)

    def key(self, last_layer: int) -> str:
        """Return the sha256 of what hidden states 0 to ``last_layer`` depend on.

        Weights behind them, the mask vector and settings of training have no part in it, so that
        merges that differ only there share features.
        """
        backbone = self.backbone
        computed = backbone.prefix_names(self.config, self.names, last_layer).computed
        described = {
            "backbone": backbone.model_dump(mode="json"),
            "settings": backbone.computed_settings(self.config),
            "tensors": [self.digest_of(name) for name in computed],
        }
        return sha256_of_text(canonical_json(described))

    def build(self, last_layer: int) -> nn.Module:
        """Return the model that ends with hidden state ``last_layer``, frozen, on the CPU.

        Raises
        ------
        InputError
            The tensors are not exactly those that the config asks for.
        """
        backbone = self.backbone
        held = backbone.prefix_names(self.config, self.names, last_layer).held
        state = {name: self.tensor(name) for name in held}
        config = backbone.prefix(self.config, last_layer)
        return backbone.build(config, state, training=False).requires_grad_(False)


def _require_sample_rate(checkpoint: Checkpoint, backbone: Backbone) -> None:
    path = checkpoint.folder / PREPROCESSOR_NAME
    try:
        found = json.loads(path.read_text("utf-8")).get("sampling_rate")
    except (OSError, ValueError, AttributeError):
        return
    if found is not None and found != backbone.sample_rate_hz:
        raise InputError(
            f"{path}: sampling_rate is {found}, but the backbone {backbone.model_dump()['name']!r} "
            f"takes sound at {backbone.sample_rate_hz} Hz",
            "choose the backbone that belongs to this checkpoint",
        )
