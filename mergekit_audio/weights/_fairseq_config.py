"""The ``config.json`` of a fairseq MERT or HuBERT: its own settings, checked against its shapes."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mergekit_audio.errors import InputError
from mergekit_audio.weights._placeholder import plain, shown

Shapes = Mapping[str, tuple[int, ...]]

PREPROCESSOR = {
    "do_normalize": False,
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": True,
    "sampling_rate": 24000,
}
"""The input that MERT was trained on: 24 kHz, not normalised."""

_CONVOLUTIONS = "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2"
_FIXED: dict[str, Any] = {
    "architectures": ["MERTModel"],
    "model_type": "mert_model",
    "apply_spec_augment": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "feat_extract_activation": "gelu",
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
_SHARES = (
    *("dropout", "attention_dropout", "activation_dropout", "dropout_input"),
    "encoder_layerdrop",
)
_TEXT_LIMIT, _CONVOLUTIONS_LIMIT, _NUMBER_BITS = 2000, 100, 64
_HINT = "the file is not one of MERT's or HuBERT's pre-training, or it is of another variant"


def config_of(path: Path, content: Mapping[str, Any], shapes: Shapes) -> dict[str, Any]:
    """Return the ``config.json`` of a fairseq checkpoint.

    Sizes come from the tensors; the places of layer norms (``layer_norm_first``), the number of
    attention heads, strides, dropouts and ``attention_relax`` from the settings in the file, or
    from fairseq's defaults where older settings do not name them. Attention relaxation (32 in
    MERT-v1-330M) computes softmax((s/32 - max s/32) · 32) = softmax(s): it is kept in the config,
    and a softmax in float32 gives the same.

    Parameters
    ----------
    path
        The file, for messages.
    content
        What the file holds: ``cfg`` (its ``model`` part) or ``args``.
    shapes
        The tensors' shapes by HF name.

    Raises
    ------
    InputError
        The settings are missing, or contradict the tensors, or ask for what ``HubertModel`` does
        not compute (deepnorm, another activation).
    """
    settings = _settings(path, content)
    if "encoder_attention_heads" not in settings:
        raise InputError(
            f"{path}: its settings name no encoder_attention_heads, which no tensor tells",
            "take the file as its authors published it",
        )
    kernels, strides = _convolutions(path, settings, shapes)
    hidden = shapes["feature_projection.projection.weight"][0]
    position = shapes["encoder.pos_conv_embed.conv.weight_v"]
    layers = sum(
        name.startswith("encoder.layers.") and name.endswith("attention.q_proj.weight")
        for name in shapes
    )
    faults = [
        f"{name} is {_told(settings[name])}, expected {expected!r}"
        for name, expected in (
            ("deepnorm", False),
            ("activation_fn", "gelu"),
            ("encoder_embed_dim", hidden),
            ("encoder_layers", layers),
        )
        if settings.get(name) not in (None, expected)
    ]
    extractor = settings.get("extractor_mode", "default")
    if extractor not in ("default", "layer_norm"):
        faults.append(f"extractor_mode is {_told(extractor)}, expected 'default' or 'layer_norm'")
    faults += [
        f"{name} is {_told(settings[name])}, expected a number from 0 to 1"
        for name in _SHARES
        if not _is_number(settings.get(name, 0), 0, 1)
    ]
    if not _is_number(settings.get("attention_relax", -1), -1e9, 1e9):
        faults.append(f"attention_relax is {_told(settings['attention_relax'])}, expected a number")
    if not isinstance(settings.get("layer_norm_first", False), bool):
        faults.append(
            f"layer_norm_first is {_told(settings['layer_norm_first'])}, expected true or false"
        )
    heads = settings["encoder_attention_heads"]
    if type(heads) is not int or heads < 1 or hidden % heads:
        faults.append(f"encoder_attention_heads is {_told(heads)}, which does not divide {hidden}")
    if hidden % position[1]:
        faults.append(
            f"encoder.pos_conv.0.weight_v has shape {list(position)}, whose groups do not divide "
            f"{hidden}"
        )
    if faults:
        raise InputError(
            f"{path}: its settings can't be used:\n" + "\n".join(f"  {each}" for each in faults),
            _HINT,
        )
    return _FIXED | {
        "activation_dropout": float(settings.get("activation_dropout", 0.0)),
        "attention_dropout": float(settings.get("attention_dropout", 0.1)),
        "attention_relax": float(settings.get("attention_relax", -1.0)),
        "conv_bias": "feature_extractor.conv_layers.0.conv.bias" in shapes,
        "conv_dim": [
            shapes[f"feature_extractor.conv_layers.{i}.conv.weight"][0] for i in range(len(kernels))
        ],
        "conv_kernel": kernels,
        "conv_stride": strides,
        "deepnorm": False,
        "do_stable_layer_norm": bool(settings.get("layer_norm_first", False)),
        "feat_extract_norm": "group" if extractor == "default" else "layer",
        "feat_proj_dropout": float(settings.get("dropout_input", 0.0)),
        "hidden_dropout": float(settings.get("dropout", 0.1)),
        "hidden_size": hidden,
        "intermediate_size": shapes["encoder.layers.0.feed_forward.intermediate_dense.weight"][0],
        "layerdrop": float(settings.get("encoder_layerdrop", 0.0)),
        "num_attention_heads": heads,
        "num_conv_pos_embedding_groups": hidden // position[1],
        "num_conv_pos_embeddings": position[2],
        "num_hidden_layers": layers,
    }


def _settings(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    cfg = plain(content.get("cfg"))
    model = cfg.get("model") if isinstance(cfg, dict) else None
    found = model if isinstance(model, dict) and model else plain(content.get("args"))
    if not isinstance(found, dict) or not found:
        raise InputError(
            f"{path}: holds no settings of its model (cfg.model or args), so nothing tells where "
            "its layer norms are",
            "take the file as fairseq saved it",
        )
    return {name: value for name, value in found.items() if value is not None}


def _convolutions(
    path: Path, settings: Mapping[str, Any], shapes: Shapes
) -> tuple[list[int], list[int]]:
    text = settings.get("conv_feature_layers", _CONVOLUTIONS)
    try:
        rows = _rows(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise InputError(
            f"{path}: conv_feature_layers is {_told(text)}, expected a list of "
            "(width, kernel, stride)",
            _HINT,
        ) from None
    for i, (width, kernel, _) in enumerate(rows):
        name = f"feature_extractor.conv_layers.{i}.conv.weight"
        found = shapes.get(name, ())
        if (found[:1], found[2:]) != ((width,), (kernel,)):
            raise InputError(
                f"{path}: {name} has shape {list(found)}, and conv_feature_layers asks for width "
                f"{width} and kernel {kernel}",
                _HINT,
            )
    return [kernel for _, kernel, _ in rows], [stride for _, _, stride in rows]


def _rows(text: Any) -> list[tuple[int, int, int]]:
    if not isinstance(text, str) or len(text) > _TEXT_LIMIT:
        raise ValueError("no short text")
    rows = [(a, b, c) for a, b, c in _list_of(ast.parse(text, mode="eval").body)]
    if any(type(each) is not int or each < 1 for row in rows for each in row):
        raise ValueError("sizes that are not whole numbers above 0")
    return rows


def _list_of(node: ast.expr) -> list[Any]:
    """Return the list of a sum of lists and of lists times numbers, as fairseq writes it."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _list_of(node.left) + _list_of(node.right)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        times = ast.literal_eval(node.right)
        if type(times) is not int or not 0 < times < 100:
            raise ValueError("a list times something else than a small number")
        part = _list_of(node.left)
        if len(part) * times > _CONVOLUTIONS_LIMIT:
            raise ValueError("too many convolutions")
        return part * times
    return list(ast.literal_eval(node))


def _is_number(value: Any, least: float, greatest: float) -> bool:
    """Whether a value is a number in bounds; NaN is in none."""
    return isinstance(value, (int, float)) and least <= value <= greatest


def _told(value: Any) -> str:
    """Return a setting as a short text, however large it is."""
    if isinstance(value, (list, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > _NUMBER_BITS:
        return f"a number of {value.bit_length()} bits"
    return repr(shown(value)) if isinstance(value, str) else shown(repr(value))
