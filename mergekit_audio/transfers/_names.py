"""The names of an encoder's parameters that transfers tell apart; no tensors are needed."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from mergekit_audio.transfers.base import Shapes

LINEARS = (
    "attention.q_proj",
    "attention.k_proj",
    "attention.v_proj",
    "attention.out_proj",
    "feed_forward.intermediate_dense",
    "feed_forward.output_dense",
)
"""The six linear maps of an encoder layer."""
NORMS = ("layer_norm", "final_layer_norm")
"""The two layer norms of an encoder layer."""

_ENCODER = (
    "feature_extractor.",
    "feature_projection.",
    "masked_spec_embed",
    "encoder.",
)
_IN_LAYER = re.compile(r"(?:^|\.)encoder\.layers\.\d+\.(?P<part>.+)\.(?P<kind>weight|bias)$")


def is_encoder(name: str) -> bool:
    """Whether a parameter belongs to the encoder (and not to a head)."""
    return name.removeprefix("backbone.").startswith(_ENCODER)


def is_layer_linear(name: str, kind: str) -> bool:
    """Whether a name is the ``weight`` (or ``bias``) of a layer's linear map."""
    found = _IN_LAYER.search(name)
    return found is not None and found["part"] in LINEARS and found["kind"] == kind


def is_layer_norm(name: str, kind: str | None = None) -> bool:
    """Whether a name belongs to one of a layer's norms."""
    found = _IN_LAYER.search(name)
    return found is not None and found["part"] in NORMS and kind in (None, found["kind"])


def layer_prefixes(names: Sequence[str]) -> list[str]:
    """Return ``….encoder.layers.N`` of every layer, in order."""
    found = re.compile(r"^((?:.*\.)?encoder\.layers\.)(\d+)\.")
    layers = {(match[1], int(match[2])) for match in (found.match(name) for name in names) if match}
    return [f"{start}{number}" for start, number in sorted(layers)]


def width(shapes: Shapes) -> int:
    """Return D, the encoder's hidden size: that of the norm of its first layer."""
    first = layer_prefixes(list(shapes))[0]
    return int(shapes[f"{first}.final_layer_norm.weight"][0])


def heads_only(shapes: Shapes, trainable: Sequence[str]) -> dict[str, int]:
    """Return the sizes of the trainable parameters that are not the encoder's."""
    return {name: math.prod(shapes[name]) for name in trainable if not is_encoder(name)}
