"""Files of the exact layout that fairseq's MERT pre-training saves, written with torch.save."""

from __future__ import annotations

import argparse
import contextlib
import enum
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

SettingsKind = Literal["namespace", "omegaconf", "plain", "args"]

_PARTS = {
    "attention.": "self_attn.",
    "feed_forward.intermediate_dense": "fc1",
    "feed_forward.output_dense": "fc2",
}


def fairseq_name(name: str) -> str:
    """Return fairseq's name of a tensor of the HF layout, written apart from the package's map."""
    if name == "masked_spec_embed":
        return "mask_emb"
    if name.startswith("feature_projection."):
        part = name.removeprefix("feature_projection.")
        return part.replace("projection.", "post_extract_proj.")
    if name.startswith("encoder.pos_conv_embed.conv."):
        return name.replace("pos_conv_embed.conv", "pos_conv.0")
    if name.startswith("feature_extractor."):
        return name.replace(".conv.weight", ".0.weight").replace(".layer_norm.", ".2.")
    if name.startswith("encoder.layers."):
        head, layer, part = name.split(".", 3)[:2], name.split(".")[2], name.split(".", 3)[3]
        if part.startswith("layer_norm."):
            part = f"self_attn_{part}"
        for old, new in _PARTS.items():
            part = part.replace(old, new)
        return ".".join([*head, layer, part])
    return name


def model_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return fairseq's settings of the model of a ``config.json``, and others of the real files."""
    rows = zip(config["conv_dim"], config["conv_kernel"], config["conv_stride"], strict=True)
    return {
        "_name": "mert",
        "label_rate": 75,
        "extractor_mode": "default",
        "conv_feature_layers": " + ".join(f"[({a},{b},{c})] * 1" for a, b, c in rows),
        "encoder_layers": config["num_hidden_layers"],
        "encoder_embed_dim": config["hidden_size"],
        "encoder_ffn_embed_dim": config["intermediate_size"],
        "encoder_attention_heads": config["num_attention_heads"],
        "activation_fn": "gelu",
        "layer_norm_first": config["do_stable_layer_norm"],
        "dropout": config["hidden_dropout"],
        "attention_dropout": config["attention_dropout"],
        "activation_dropout": 0.0,
        "dropout_input": config["feat_proj_dropout"],
        "dropout_features": config["feat_proj_dropout"],
        "encoder_layerdrop": config["layerdrop"],
        "attention_relax": config["attention_relax"],
        "deepnorm": False,
        "untie_final_proj": True,
        "mask_prob": 0.8,
        "logit_temp": np.float64(0.1),
    }


def make_heads(
    hidden_size: int, *, codebooks: int, rows: int, final_size: int, bins: int, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Return heads under fairseq's names, drawn from a seed."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "label_embs_concat": drawn(codebooks * rows, final_size),
        "final_proj.weight": drawn(codebooks * final_size, hidden_size),
        "final_proj.bias": drawn(codebooks * final_size),
        "encoder_cqt_model.fc.weight": drawn(bins, hidden_size),
        "encoder_cqt_model.fc.bias": drawn(bins),
        "encoder_cqt_model.spec_layer.cqt_kernels_real": drawn(bins, 1, 16),
        "encoder_cqt_model.spec_layer.lenghts": drawn(bins),
    }


def write_fairseq(
    path: Path,
    state: Mapping[str, torch.Tensor],
    config: Mapping[str, Any],
    heads: Mapping[str, torch.Tensor],
    *,
    settings: SettingsKind = "omegaconf",
    zipped: bool = True,
    dictionaries: list[list[str]] | None = None,
    dtype: torch.dtype = torch.float32,
    junk: Any = None,
    **changes: Any,
) -> Path:
    """Write a checkpoint as fairseq's trainer does and return its path.

    Parameters
    ----------
    state, config
        A model in the HF layout.
    heads
        Heads under fairseq's names (``make_heads``).
    settings
        How the settings are kept: ``cfg`` with namespaces, omegaconf's containers or plain
        dictionaries, or the ``args`` of old versions.
    zipped
        The format of torch >= 1.6, or the older one.
    dictionaries
        The symbols of each codebook's dictionary, kept in ``task_state``.
    junk
        Put into ``extra_state``.
    changes
        Settings of the model to replace.
    """
    model = OrderedDict((fairseq_name(name), each.to(dtype)) for name, each in state.items())
    model.update((name, each.to(dtype)) for name, each in heads.items())
    model._metadata = {"": {"version": 1}}  # as Module.state_dict leaves it
    chosen = model_settings(config) | changes
    with _fairseq_modules() as classes:
        content: dict[str, Any] = {
            "args": argparse.Namespace(**chosen) if settings == "args" else None,
            "cfg": None if settings == "args" else _cfg(settings, chosen, classes),
            "model": model,
            "criterion": OrderedDict(),
            "optimizer_history": [
                {
                    "criterion_name": "HubertCriterion",
                    "optimizer_name": "FP16Optimizer",
                    "lr_scheduler_state": {"best": None},
                    "num_updates": 400_000,
                }
            ],
            "task_state": {
                "dictionaries": [
                    classes["Dictionary"](symbols=symbols, count=[1] * len(symbols))
                    for symbols in dictionaries or []
                ]
            },
            "extra_state": {
                "metrics": OrderedDict(meters=np.float32(1.5)),
                "best": np.float64(2.5),
                "previous_training_time": 1.5,
                "junk": junk,
            },
            "last_optimizer_state": {
                "state": {0: {"step": 3, "exp_avg": torch.zeros(3, 2).t()}},
                "param_groups": [{"lr": 5e-4, "betas": (0.9, 0.98)}],
            },
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def _cfg(kind: str, chosen: Mapping[str, Any], classes: Mapping[str, type]) -> Any:
    common = {"fp16": True, "user_dir": "mert_fairseq"}
    if kind == "plain":
        return {"_name": None, "model": dict(chosen), "common": common}
    if kind == "namespace":
        return {"model": argparse.Namespace(**chosen), "common": argparse.Namespace(**common)}
    root = classes["DictConfig"](_parent=None, _content={})
    for name, values in (("model", chosen), ("common", common)):
        part = classes["DictConfig"](_parent=root, _content={})
        for key, value in values.items():
            part._content[key] = classes["AnyNode"](_parent=part, _val=value)
        part._content["ddp_backend"] = classes["AnyNode"](
            _parent=part, _val=classes["Choice"]("c10d")
        )
        root._content[name] = part
    return root


@contextlib.contextmanager
def _fairseq_modules() -> Iterator[dict[str, type]]:
    """Yield classes that pickle under omegaconf's and fairseq's names, gone when the block ends."""

    def holder(module: str, name: str) -> type:
        def __init__(self: Any, **attributes: Any) -> None:  # noqa: N807
            self.__dict__.update(attributes)

        return type(name, (), {"__init__": __init__, "__module__": module})

    choice = enum.Enum("Choice", {"C10D": "c10d"}, module="fairseq.dataclass.constants")
    classes = {
        "DictConfig": holder("omegaconf.dictconfig", "DictConfig"),
        "AnyNode": holder("omegaconf.nodes", "AnyNode"),
        "Dictionary": holder("fairseq.data.dictionary", "Dictionary"),
        "Choice": choice,
    }
    made: dict[str, types.ModuleType] = {}
    for name, each in classes.items():
        parts = each.__module__.split(".")
        for depth in range(1, len(parts) + 1):
            package = ".".join(parts[:depth])
            made.setdefault(package, types.ModuleType(package)).__path__ = []
        setattr(made[each.__module__], name, each)
    before = {name: sys.modules.get(name) for name in made}
    sys.modules.update(made)
    try:
        yield classes
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
