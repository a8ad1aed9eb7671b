"""Checkpoints and mergekit recipes for compare_mergekit.py: all methods, all ways to say things."""

from __future__ import annotations

import json
import textwrap
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

MODELS = ("base", "a", "b", "c")
WIDTH, INNER, LAYERS = 48, 96, 5


@dataclass(frozen=True)
class Recipe:
    """A recipe, the tool that runs it, and how its output is compared.

    Parameters
    ----------
    name, text
        Its name and YAML.
    tool
        ``flat`` for mergekit-pytorch (weight files), ``layered`` for mergekit-yaml (folders).
    base
        The folder of the base's weights.
    random
        The method draws at random: distributions are compared.
    last_places
        bfloat16 output: units in the last place that may differ; 0: float32 output.
    rounding
        The share of elements that mergekit's own float32 rounding may move by more than the
        tolerance (near-collinear short vectors, thresholds); its float64 twin has to agree.
    """

    name: str
    text: str
    tool: Literal["flat", "layered"] = "flat"
    base: str = "hubert/base"
    random: bool = False
    last_places: float = 0
    rounding: float = 0


def write_checkpoints(root: Path) -> None:
    """Write base, a, b, c of a HuBERT and of a Llama, float32, under ``hubert`` and ``llama``."""
    configs = {
        "hubert": {
            "architectures": ["HubertModel"],
            "model_type": "hubert",
            "num_hidden_layers": LAYERS,
            "hidden_size": WIDTH,
            "intermediate_size": INNER,
        },
        "llama": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "num_hidden_layers": LAYERS,
            "hidden_size": WIDTH,
            "intermediate_size": INNER,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 96,
            "tie_word_embeddings": False,
        },
    }
    from safetensors.numpy import save_file

    for family, shapes in {"hubert": _hubert(), "llama": _llama()}.items():
        for model in MODELS:
            folder = root / family / model
            folder.mkdir(parents=True, exist_ok=True)
            tensors = {name: _values(name, shape, model) for name, shape in shapes.items()}
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
            (folder / "config.json").write_text(json.dumps(configs[family]), encoding="utf-8")

    _write_adapter(root / "llama" / "adapter")


def _write_adapter(folder: Path) -> None:
    """Write a LoRA adapter of rank 4 for the Llama's q_proj and down_proj."""
    from safetensors.numpy import save_file

    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "./llama/base",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "down_proj"],
    }
    tensors = {}
    for name, shape in _llama().items():
        if name.endswith(("q_proj.weight", "down_proj.weight")):
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{stem}.lora_A.weight"] = _values(f"{name} A", (4, shape[1]), "base")
            tensors[f"{stem}.lora_B.weight"] = _values(f"{name} B", (shape[0], 4), "base")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


def _values(name: str, shape: tuple[int, ...], model: str) -> np.ndarray:
    """Return N(0, 0.05²), for a, b, c with N(0, 0.01²) added to nine elements of ten."""
    base = np.random.default_rng(zlib.crc32(name.encode())).normal(0, 0.05, shape)
    if model != "base":
        noise = np.random.default_rng(zlib.crc32(f"{model} {name}".encode()))
        base = base + noise.normal(0, 0.01, shape) * (noise.random(shape) < 0.9)
    return base.astype(np.float32)


def _hubert() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"masked_spec_embed": (WIDTH,)}
    for i, channels in enumerate((1, 32, 32)):
        shapes[f"feature_extractor.conv_layers.{i}.conv.weight"] = (32, channels, 3)
    shapes["feature_extractor.conv_layers.0.layer_norm.weight"] = (32,)
    shapes["feature_projection.projection.weight"] = (WIDTH, 32)
    shapes["feature_projection.projection.bias"] = (WIDTH,)
    kernel = "encoder.pos_conv_embed.conv.parametrizations.weight"
    shapes |= {f"{kernel}.original0": (1, 1, 16), f"{kernel}.original1": (WIDTH, 12, 16)}
    shapes |= {"encoder.layer_norm.weight": (WIDTH,), "encoder.layer_norm.bias": (WIDTH,)}
    for i in range(LAYERS):
        layer = f"encoder.layers.{i}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes[f"{layer}.attention.{part}.weight"] = (WIDTH, WIDTH)
            shapes[f"{layer}.attention.{part}.bias"] = (WIDTH,)
        shapes[f"{layer}.feed_forward.intermediate_dense.weight"] = (INNER, WIDTH)
        shapes[f"{layer}.feed_forward.output_dense.weight"] = (WIDTH, INNER)
        shapes[f"{layer}.final_layer_norm.weight"] = (WIDTH,)
    return shapes


def _llama() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (96, WIDTH),
        "model.norm.weight": (WIDTH,),
        "lm_head.weight": (96, WIDTH),
    }
    for i in range(LAYERS):
        layer = f"model.layers.{i}"
        shapes |= {
            f"{layer}.self_attn.q_proj.weight": (WIDTH, WIDTH),
            f"{layer}.self_attn.k_proj.weight": (WIDTH // 2, WIDTH),
            f"{layer}.self_attn.v_proj.weight": (WIDTH // 2, WIDTH),
            f"{layer}.self_attn.o_proj.weight": (WIDTH, WIDTH),
            f"{layer}.mlp.gate_proj.weight": (INNER, WIDTH),
            f"{layer}.mlp.up_proj.weight": (INNER, WIDTH),
            f"{layer}.mlp.down_proj.weight": (WIDTH, INNER),
            f"{layer}.input_layernorm.weight": (WIDTH,),
            f"{layer}.post_attention_layernorm.weight": (WIDTH,),
        }
    return shapes


def _flat(
    name: str,
    method: str,
    models: str = "a b c",
    *,
    own: str = "",
    shared: str = "",
    base: bool = True,
    more: str = "dtype: float32",
    **compared: bool | float,
) -> Recipe:
    """Return a recipe of mergekit-pytorch; ``own`` are each model's parameters, apart by ``|``."""
    owns = (own.split("|") * 4)[: len(models.split())]
    lines = [f"merge_method: {method}"]
    lines += ["base_model: ./hubert/base/model.safetensors"] if base else []
    lines += ["models:"]
    for model, parameters in zip(models.split(), owns, strict=True):
        entry = f"model: ./hubert/{model}/model.safetensors"
        lines.append(
            f"  - {{{entry}, parameters: {{{parameters}}}}}" if own else f"  - {{{entry}}}"
        )
    lines += [f"parameters: {{{shared}}}"] if shared else []
    return Recipe(name, "\n".join([*lines, more, ""]), **compared)  # type: ignore[arg-type]


def _layered(name: str, text: str, family: str = "llama", **compared: bool | float) -> Recipe:
    """Return a recipe of mergekit-yaml; ``@a`` in the text is the folder of model a."""
    body = textwrap.dedent(text).lstrip()
    for model in MODELS:
        body = body.replace(f"@{model}", f"./{family}/{model}")
    return Recipe(name, body, "layered", f"{family}/base", **compared)  # type: ignore[arg-type]


_FLOAT64 = "dtype: float64\nout_dtype: float32"
# della can't rank axes of length 1: everything that has one keeps all of its elements.
_DELLA = (
    "weight: 0.5, density: [{filter: conv_layers.0.conv, value: 1.0}, "
    "{filter: original0, value: 1.0}, {value: 0.6}], epsilon: 0.2"
)
_DARE = "weight: 0.4, density: 0.5|weight: 0.4, density: 0.3|weight: -0.2, density: 0.8"
_TIES = "weight: 1.0, density: 0.5|weight: 0.7, density: 0.3|weight: -0.4, density: 0.9"
_CRUMBS = "weight: 0.6, density: 0.7, gamma: 0.02|weight: 0.3, density: 0.9"

RECIPES: tuple[Recipe, ...] = (
    _flat("linear", "linear", own="weight: 0.5|weight: 0.3|weight: 1", base=False),
    _flat(
        "linear_sum_negative",
        "linear",
        own="weight: 0.9|weight: 0.3|weight: -0.2",
        shared="normalize: false",
        base=False,
    ),
    _flat("linear_with_base", "linear", "a base", own="weight: 0.7|weight: 0.4"),
    _flat("linear_flat_gradient", "linear", own="weight: [0.2, 0.9]", base=False),
    _flat("slerp", "slerp", "a", shared="t: 0.3"),
    _flat(
        "slerp_filters",
        "slerp",
        "a base",
        shared="t: [{filter: attention, value: 0.9}, {filter: layer_norm, value: 0}, {value: 0.5}]",
    ),
    _flat("nuslerp", "nuslerp", "a b", own="weight: 0.3|weight: 0.9"),
    _flat("nuslerp_no_base", "nuslerp", "a b", own="weight: 0.3|weight: 0.9", base=False),
    _flat(
        "nuslerp_rows",
        "nuslerp",
        "a b",
        own="weight: 0.3|weight: 0.5",
        shared="nuslerp_flatten: false, nuslerp_row_wise: true",
    ),
    _flat(
        "nuslerp_columns",
        "nuslerp",
        "a b",
        own="weight: 0.3|weight: 0.5",
        shared="nuslerp_flatten: false",
        rounding=1e-3,
    ),
    _flat(
        "nuslerp_columns_float64",
        "nuslerp",
        "a b",
        own="weight: 0.3|weight: 0.5",
        shared="nuslerp_flatten: false",
        more=_FLOAT64,
    ),
    _flat("multislerp", "multislerp", own="weight: 0.3|weight: 0.9|weight: 0.5"),
    _flat(
        "multislerp_no_base", "multislerp", own="weight: 0.3|weight: 0.9|weight: 0.5", base=False
    ),
    _flat(
        "multislerp_unnormalized",
        "multislerp",
        own="weight: 0.3|weight: 0.4|weight: 0.5",
        shared="normalize_weights: false, eps: 1.0e-6",
    ),
    _flat("karcher", "karcher", base=False),
    _flat("karcher_steps_base", "karcher", shared="max_iter: 2, tol: 1.0e-4"),
    _flat("task_arithmetic", "task_arithmetic", own="weight: 1.0", shared="lambda: 0.2"),
    _flat(
        "task_arithmetic_normalized",
        "task_arithmetic",
        own="weight: 1.0|weight: 0.5|weight: -0.3",
        shared="normalize: true, lambda: 0.8",
    ),
    _flat(
        "task_arithmetic_filters",
        "task_arithmetic",
        own="weight: [{filter: layers.1., value: 0}, {filter: attention, value: -0.5}, {value: 1}]"
        "|weight: {filter: layer_norm, value: 0.2}|weight: 0.3",
        shared="weight: 0.7, lambda: [{filter: original, value: 0.1}, {value: 0.6}]",
    ),
    _flat("ties", "ties", own="weight: 1.0, density: 0.5"),
    _flat("ties_all", "ties", own=_TIES, shared="normalize: false, rescale: true, lambda: 0.4"),
    _flat("ties_int8_mask", "ties", own=_TIES, shared="int8_mask: true"),
    _flat(
        "ties_filters",
        "ties",
        own="weight: 1, density: [{filter: feed_forward, value: 0.1}, {value: 0.6}]|weight: 0.5",
        shared="density: 0.8",
    ),
    _flat("breadcrumbs", "breadcrumbs", own=_CRUMBS),
    _flat("breadcrumbs_rescaled", "breadcrumbs", own=_CRUMBS, shared="rescale: true, lambda: 0.5"),
    _flat("breadcrumbs_ties", "breadcrumbs_ties", own=_CRUMBS, shared="normalize: true"),
    _flat("sce", "sce"),
    _flat("sce_topk", "sce", shared="select_topk: 0.4"),
    _flat("model_stock", "model_stock"),
    _flat("model_stock_filters", "model_stock", "a b", shared="filter_wise: true", rounding=1e-3),
    _flat(
        "model_stock_filters_float64",
        "model_stock",
        "a b",
        shared="filter_wise: true",
        more=_FLOAT64,
    ),
    _flat("ram", "ram"),
    _flat("ram_epsilon", "ram", shared="epsilon: 0.004"),
    _flat("ramplus_tl", "ramplus_tl", shared="epsilon: 0.004, r: 0.3, alpha: 0.5"),
    _flat("nearswap", "nearswap", "a", shared="t: 0.005"),
    _flat("arcee_fusion", "arcee_fusion", "a", rounding=2e-2),
    _flat("arcee_fusion_float64", "arcee_fusion", "a", more=_FLOAT64),
    _flat("passthrough", "passthrough", "a", base=False),
    _flat(
        "passthrough_scale",
        "passthrough",
        "a",
        own="scale: [{filter: attention, value: 0.5}, {value: 1.1}]",
        base=False,
    ),
    _flat("dare_linear", "dare_linear", own=_DARE, random=True),
    _flat("dare_linear_plain", "dare_linear", own=_DARE, shared="rescale: false", random=True),
    _flat("dare_ties", "dare_ties", own=_DARE, shared="lambda: 0.5", random=True),
    _flat("dare_ties_normalized", "dare_ties", own=_DARE, shared="normalize: true", random=True),
    _flat("della", "della", own=_DELLA, random=True),
    _flat("della_linear", "della_linear", own=_DELLA, shared="lambda: 0.7", random=True),
    _flat(
        "out_dtype_bfloat16",
        "task_arithmetic",
        own="weight: 0.5",
        more="dtype: float32\nout_dtype: bfloat16",
        last_places=1,
    ),
    _flat(
        "dtype_bfloat16",
        "task_arithmetic",
        own="weight: 0.5",
        more="dtype: bfloat16",
        last_places=4,
    ),
    _flat("dtype_absent", "task_arithmetic", own="weight: 0.5", more=""),
    _layered(
        "layers_slerp_gradients",
        """
        merge_method: slerp
        base_model: "@base"
        slices:
          - sources:
              - {model: "@base", layer_range: [0, 5]}
              - {model: "@a", layer_range: [0, 5]}
        parameters:
          t:
            - {filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]}
            - {filter: mlp, value: [1, 0.5, 0.7, 0.3, 0]}
            - {value: 0.5}
        dtype: float32
        """,
    ),
    _layered(
        "layers_linear_gradients",
        """
        merge_method: linear
        models:
          - {model: "@a", parameters: {weight: [0.1, 0.9]}}
          - {model: "@b", parameters: {weight: [{filter: mlp, value: [1, 0]}, {value: 0.4}]}}
        dtype: float32
        """,
    ),
    _layered(
        "layers_ties_gradients",
        """
        merge_method: ties
        base_model: "@base"
        models:
          - {model: "@base"}
          - {model: "@a", parameters: {weight: [0.2, 1.0], density: [1, 0.7, 0.1]}}
          - {model: "@b", parameters: {weight: 0.3}}
        parameters: {density: 0.5, normalize: true, int8_mask: true}
        dtype: float32
        tokenizer_source: null
        """,
    ),
    _layered(
        "slices_task_arithmetic",
        """
        merge_method: task_arithmetic
        base_model: "@base"
        slices:
          - sources:
              - {model: "@base", layer_range: [0, 2]}
              - {model: "@a", layer_range: [0, 2], parameters: {weight: [0, 1]}}
              - {model: "@b", layer_range: [0, 2]}
            parameters: {weight: 0.25}
          - sources:
              - {model: "@base", layer_range: [2, 5]}
              - {model: "@a", layer_range: [2, 5]}
              - {model: "@b", layer_range: [2, 5], parameters: {weight: [1, 0]}}
            parameters: {lambda: 0.5}
        parameters: {weight: 0.9}
        dtype: float32
        """,
    ),
    _layered(
        "slices_frankenmerge",
        """
        merge_method: passthrough
        slices:
          - sources: [{model: "@a", layer_range: [0, 4]}]
          - sources: [{model: "@b", layer_range: [1, 5]}]
        dtype: float32
        """,
    ),
    _layered(
        "slices_self_merge_scale",
        """
        merge_method: passthrough
        slices:
          - sources: [{model: "@a", layer_range: [0, 4]}]
          - sources:
              - model: "@a"
                layer_range: [2, 5]
                parameters:
                  scale: [{filter: o_proj, value: 0.0}, {filter: down_proj, value: 0.5}, {value: 1}]
        dtype: float32
        """,
    ),
    _layered(
        "slices_shifted_linear",
        """
        merge_method: linear
        slices:
          - sources:
              - {model: "@a", layer_range: [0, 3], parameters: {weight: [0.2, 0.8]}}
              - {model: "@b", layer_range: [2, 5], parameters: {weight: 0.5}}
          - sources:
              - {model: "@b", layer_range: [3, 5], parameters: {weight: 1}}
              - {model: "@c", layer_range: [3, 5], parameters: {weight: 2}}
        dtype: float32
        """,
    ),
    _layered(
        "slices_shorter_ties",
        """
        merge_method: ties
        base_model: "@base"
        slices:
          - sources:
              - {model: "@base", layer_range: [0, 3]}
              - {model: "@a", layer_range: [1, 4], parameters: {weight: 1, density: 0.5}}
              - {model: "@b", layer_range: [2, 5], parameters: {weight: 0.5, density: 0.4}}
        dtype: float32
        """,
    ),
    _layered(
        "lora_task_arithmetic",
        """
        merge_method: task_arithmetic
        base_model: "@base"
        models:
          - {model: "@base+./llama/adapter", parameters: {weight: 0.5}}
          - {model: "@a", parameters: {weight: 0.3}}
        dtype: float32
        """,
    ),
    _layered(
        "modules_default",
        """
        merge_method: nuslerp
        modules:
          default:
            models:
              - {model: "@a", parameters: {weight: [0.5, 1]}}
              - {model: "@b"}
            parameters: {weight: 0.4}
        dtype: float32
        """,
    ),
    _layered(
        "layers_bfloat16_out",
        """
        merge_method: linear
        models:
          - {model: "@a", parameters: {weight: 1}}
          - {model: "@b", parameters: {weight: 2}}
        dtype: float32
        out_dtype: bfloat16
        """,
        last_places=1,
    ),
    _layered(
        "hubert_three_modules",
        """
        merge_method: task_arithmetic
        base_model: {model: "@base", override_architecture: NoSuchModel}
        models:
          - model: {model: "@a", override_architecture: NoSuchModel}
            parameters: {weight: [0, 1]}
          - model: {model: "@b", override_architecture: NoSuchModel}
            parameters: {weight: [{filter: attention, value: [1, 0]}, {value: 0.5}]}
        parameters: {lambda: 0.3}
        dtype: float32
        """,
        "hubert",
    ),
    _layered(
        "hubert_modules_named",
        """
        merge_method: dare_linear
        base_model: {model: "@base", override_architecture: NoSuchModel}
        modules:
          encoder.layers:
            models:
              - model: {model: "@a", override_architecture: NoSuchModel}
                parameters: {weight: 0.5, density: [0.2, 0.9]}
          feature_extractor.conv_layers:
            models:
              - model: {model: "@a", override_architecture: NoSuchModel}
                parameters: {weight: 0.1, density: 1}
          default:
            models:
              - model: {model: "@a", override_architecture: NoSuchModel}
                parameters: {weight: 1.0, density: 0.5}
        dtype: float32
        """,
        "hubert",
        random=True,
    ),
)
