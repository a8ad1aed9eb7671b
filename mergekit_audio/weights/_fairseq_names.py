"""fairseq's names of the tensors of MERT: those of the HF layout, and which are needed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

CODEBOOK_TEACHER, CQT_TEACHER = "encodec", "cqt"

DROPPED = re.compile(r"encoder_cqt_model\.spec_layer\..+")
HEADS = {
    "final_proj.weight": f"{CODEBOOK_TEACHER}.final_proj.weight",
    "final_proj.bias": f"{CODEBOOK_TEACHER}.final_proj.bias",
    "encoder_cqt_model.fc.weight": f"{CQT_TEACHER}.weight",
    "encoder_cqt_model.fc.bias": f"{CQT_TEACHER}.bias",
}
EMBEDDINGS = "label_embs_concat"
_LAYER = r"encoder\.layers\.([0-9]+)\."
_NAMES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"mask_emb", "masked_spec_embed"),
        (
            r"feature_extractor\.conv_layers\.([0-9]+)\.0\.(weight|bias)",
            r"feature_extractor.conv_layers.\1.conv.\2",
        ),
        (  # the group norm of layer 0, or a layer norm of each
            r"feature_extractor\.conv_layers\.([0-9]+)\.2(?:\.1)?\.(weight|bias)",
            r"feature_extractor.conv_layers.\1.layer_norm.\2",
        ),
        (r"layer_norm\.(weight|bias)", r"feature_projection.layer_norm.\1"),
        (r"post_extract_proj\.(weight|bias)", r"feature_projection.projection.\1"),
        (r"encoder\.pos_conv\.0\.(bias|weight_g|weight_v)", r"encoder.pos_conv_embed.conv.\1"),
        (r"encoder\.layer_norm\.(weight|bias)", r"encoder.layer_norm.\1"),
        (
            _LAYER + r"self_attn\.([qkv]|out)_proj\.(weight|bias)",
            r"encoder.layers.\1.attention.\2_proj.\3",
        ),
        (_LAYER + r"self_attn_layer_norm\.(weight|bias)", r"encoder.layers.\1.layer_norm.\2"),
        (_LAYER + r"fc1\.(weight|bias)", r"encoder.layers.\1.feed_forward.intermediate_dense.\2"),
        (_LAYER + r"fc2\.(weight|bias)", r"encoder.layers.\1.feed_forward.output_dense.\2"),
        (_LAYER + r"final_layer_norm\.(weight|bias)", r"encoder.layers.\1.final_layer_norm.\2"),
    )
)
_NEEDED = (
    "mask_emb",
    "layer_norm.weight",
    "layer_norm.bias",
    "post_extract_proj.weight",
    "post_extract_proj.bias",
    "encoder.pos_conv.0.bias",
    "encoder.pos_conv.0.weight_g",
    "encoder.pos_conv.0.weight_v",
    "encoder.layer_norm.weight",
    "encoder.layer_norm.bias",
    "feature_extractor.conv_layers.0.2.weight",
    "feature_extractor.conv_layers.0.2.bias",
)
_NEEDED_OF_A_LAYER = tuple(
    f"{part}.{kind}"
    for part in (
        *(f"self_attn.{each}_proj" for each in ("q", "k", "v", "out")),
        *("self_attn_layer_norm", "fc1", "fc2", "final_layer_norm"),
    )
    for kind in ("weight", "bias")
)


def hf_name(name: str) -> str | None:
    """Return the HF name of a tensor by fairseq's, or None when it has no place there."""
    for pattern, replacement in _NAMES:
        if match := pattern.fullmatch(name):
            return match.expand(replacement)
    return None


def dimensions(name: str) -> int:
    """Return how many sizes a tensor has, by its HF name or its head's."""
    if ".conv." in name and not name.endswith("bias"):
        return 3
    matrix = name == EMBEDDINGS or (name.endswith(".weight") and "layer_norm" not in name)
    return 2 if matrix else 1


def missing_names(model: Mapping[Any, Any]) -> list[str]:
    """Return the tensors that a model's other tensors ask for, by fairseq's names."""

    def count(pattern: str) -> int:
        """Return how many layers there are: they are to be numbered 0, 1, …."""
        found = (re.match(pattern, name) for name in model if isinstance(name, str))
        return max(1, len({match.group(1) for match in found if match}))

    needed = [*_NEEDED]
    for layer in range(count(_LAYER)):
        needed += [f"encoder.layers.{layer}.{part}" for part in _NEEDED_OF_A_LAYER]
    for layer in range(count(r"feature_extractor\.conv_layers\.([0-9]+)\.")):
        needed.append(f"feature_extractor.conv_layers.{layer}.0.weight")
    if EMBEDDINGS in model or "final_proj.weight" in model:
        needed += [EMBEDDINGS, "final_proj.weight", "final_proj.bias"]
    if any(str(name).startswith("encoder_cqt_model.fc.") for name in model):
        needed += ["encoder_cqt_model.fc.weight", "encoder_cqt_model.fc.bias"]
    layered = "feature_extractor.conv_layers.0.2.1.weight" in model
    if layered:  # a layer norm in each convolution instead of one group norm
        needed = [name.replace(".0.2.", ".0.2.1.") for name in needed]
    return [name for name in needed if name not in model]
