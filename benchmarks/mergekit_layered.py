"""Recipes of mergekit-yaml for compare_mergekit.py: layers, slices, modules, adapters."""

from __future__ import annotations

import textwrap

from mergekit_checkpoints import MODELS
from mergekit_recipes import Recipe


def _layered(name: str, text: str, family: str = "llama", **compared: bool | float) -> Recipe:
    """Return a recipe of mergekit-yaml; ``@a`` in the text is the folder of model a."""
    body = textwrap.dedent(text).lstrip()
    for model in MODELS:
        body = body.replace(f"@{model}", f"./{family}/{model}")
    return Recipe(name, body, "layered", f"{family}/base", **compared)  # type: ignore[arg-type]


LAYERED: tuple[Recipe, ...] = (
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
