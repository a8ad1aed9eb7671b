"""Recipes of mergekit-pytorch for compare_mergekit.py: every method, filters, dtypes, edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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


_FLOAT64 = "dtype: float64\nout_dtype: float32"
# della can't rank axes of length 1: everything that has one keeps all of its elements.
_DELLA = (
    "weight: 0.5, density: [{filter: conv_layers.0.conv, value: 1.0}, "
    "{filter: original0, value: 1.0}, {value: 0.6}], epsilon: 0.2"
)
_DARE = "weight: 0.4, density: 0.5|weight: 0.4, density: 0.3|weight: -0.2, density: 0.8"
_TIES = "weight: 1.0, density: 0.5|weight: 0.7, density: 0.3|weight: -0.4, density: 0.9"
_CRUMBS = "weight: 0.6, density: 0.7, gamma: 0.02|weight: 0.3, density: 0.9"

FLAT: tuple[Recipe, ...] = (
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
        "edge_ties_densities",
        "ties",
        own="weight: 1, density: "
        + "|weight: 1, density: ".join("01")
        + "|weight: 1, density: 1.5",
    ),
    _flat("edge_ties_one_model", "ties", "a", own="weight: 0.7, density: 0.2"),
    _flat("edge_crumbs_gamma", "breadcrumbs", own="weight: 1, density: 0.95, gamma: 0.2"),
    _flat(
        "edge_crumbs_densities",
        "breadcrumbs_ties",
        own="weight: 1, density: 0|weight: 1, density: 2|weight: 1, gamma: 0",
    ),
    _flat("edge_sce_none", "sce", shared="select_topk: 0"),
    _flat("edge_sce_more_than_all", "sce", shared="select_topk: 1.5"),
    _flat(
        "edge_sum_zero",
        "task_arithmetic",
        "a b",
        own="weight: 1|weight: -1",
        shared="normalize: true",
    ),
    _flat("edge_weights_zero", "ties", own="weight: 0"),
    _flat("edge_linear_one_model", "linear", "a", own="weight: -2", base=False),
    _flat("edge_nuslerp_sum_zero", "nuslerp", "a b", own="weight: 1|weight: -1"),
    _flat("edge_nuslerp_negative", "nuslerp", "a b", own="weight: 1.5|weight: -0.5"),
    _flat("edge_multislerp_one_model", "multislerp", "a", own="weight: 0.5"),
    _flat("edge_karcher_one_model", "karcher", "a", base=False),
    _flat("edge_ram_none", "ram", shared="epsilon: 0"),
    _flat("edge_ramplus_base_only_r", "ramplus_tl", "a", shared="r: 1, alpha: 2"),
    _flat("edge_nearswap_zero", "nearswap", "a", shared="t: 0"),
    _flat("edge_slerp_outside", "slerp", "a", shared="t: 1.4"),
    _flat(
        "edge_dare_densities",
        "dare_linear",
        own="weight: 0.5, density: 0|weight: 0.5, density: 1|weight: 0.3, density: 1.2",
    ),
    _flat("edge_della_one", "della", own="weight: 0.5, density: 1"),
    _flat(
        "edge_lambda_negative",
        "della_linear",
        own="weight: 0.5",
        shared="lambda: -0.4, normalize: true",
    ),
    _flat("dtypes_mixed", "ties", "b half", own="weight: 1, density: 0.4", more=""),
    Recipe(
        "dtypes_half_base",
        "merge_method: linear\nmodels:\n"
        "  - {model: ./hubert/half/model.safetensors, parameters: {weight: 0.3}}\n"
        "  - {model: ./hubert/b/model.safetensors, parameters: {weight: 0.8}}\n",
    ),
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
)
