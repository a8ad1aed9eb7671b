"""What benchmarks/merge.py runs: each method as cmerge writes it and, where it has it, mergekit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Parameters
    ----------
    name
        What the line is called.
    method, scale, words
        Of cmerge's recipe, and further words of its command line.
    mergekit, mergekit_model
        mergekit's recipe without its models, and the parameters of each model; None: it has none.
    models
        How many models are merged beside the base.
    counts_base
        mergekit lists the base among the models.
    ignores_base
        mergekit's recipe names no base.
    """

    name: str
    method: Mapping[str, Any]
    mergekit: Mapping[str, Any] | None = None
    mergekit_model: Mapping[str, Any] = field(default_factory=dict)
    models: int = 4
    scale: float = 1.0
    counts_base: bool = False
    ignores_base: bool = False
    words: tuple[str, ...] = ()


def _theirs(name: str, **parameters: Any) -> dict[str, Any]:
    return {"merge_method": name, **({"parameters": parameters} if parameters else {})}


ONE = {"weight": 1.0}
HALF = {"weight": 0.25, "density": 0.5}
MERGEKIT = "mergekit"

CASES = (
    Case(
        "task_arithmetic",
        {"name": "task_arithmetic"},
        _theirs("task_arithmetic", **{"lambda": 0.2}),
        ONE,
        scale=0.2,
    ),
    Case(
        "task_arithmetic 11 λ",
        {"name": "task_arithmetic"},
        scale=0.2,
        words=("--scales", "0:1:0.1"),
    ),
    Case("linear", {"name": "linear"}, _theirs("linear"), ONE, ignores_base=True),
    Case(
        "ties", {"name": "ties", "density": 0.5}, _theirs("ties"), {"weight": 1.0, "density": 0.5}
    ),
    Case(
        "ties per tensor",
        {"name": "ties", "density": 0.5, "semantics": MERGEKIT},
        _theirs("ties"),
        {"weight": 1.0, "density": 0.5},
    ),
    Case("dare_linear", {"name": "dare_linear", "density": 0.5}, _theirs("dare_linear"), HALF),
    Case("dare_ties", {"name": "dare_ties", "density": 0.5}, _theirs("dare_ties"), HALF),
    Case(
        "breadcrumbs",
        {"name": "breadcrumbs", "density": 0.9, "gamma": 0.01},
        _theirs("breadcrumbs"),
        {"weight": 0.25, "density": 0.9, "gamma": 0.01},
    ),
    Case(
        "breadcrumbs_ties",
        {"name": "breadcrumbs_ties", "density": 0.9, "gamma": 0.01},
        _theirs("breadcrumbs_ties"),
        {"weight": 0.25, "density": 0.9, "gamma": 0.01},
    ),
    Case("della", {"name": "della", "density": 0.5, "epsilon": 0.15}),
    Case("della_linear", {"name": "della_linear", "density": 0.5, "epsilon": 0.15}),
    Case("sce", {"name": "sce", "select_topk": 0.5}, _theirs("sce", select_topk=0.5)),
    Case("slerp", {"name": "slerp", "t": 0.5}, _theirs("slerp", t=0.5), models=1, counts_base=True),
    Case("nuslerp", {"name": "nuslerp"}, _theirs("nuslerp"), ONE, models=2),
    Case("multislerp", {"name": "multislerp"}, _theirs("multislerp"), ONE),
    Case("karcher", {"name": "karcher"}, _theirs("karcher"), ignores_base=True),
    Case("model_stock", {"name": "model_stock"}, _theirs("model_stock")),
    Case("ram", {"name": "ram"}, _theirs("ram")),
    Case("ramplus_tl", {"name": "ramplus_tl"}, _theirs("ramplus_tl")),
    Case(
        "nearswap",
        {"name": "nearswap", "t": 0.001},
        _theirs("nearswap", t=0.001),
        models=1,
        counts_base=True,
    ),
    Case(
        "arcee_fusion",
        {"name": "arcee_fusion"},
        _theirs("arcee_fusion"),
        models=1,
        counts_base=True,
    ),
    Case("passthrough", {"name": "passthrough"}, models=1),
    Case("weighted_average", {"name": "weighted_average"}),
    Case("uniform_soup", {"name": "uniform_soup"}),
    Case("wise_ft", {"name": "wise_ft"}, models=1),
    Case("expo", {"name": "expo"}, models=1),
    Case("magmax", {"name": "magmax"}),
    Case("lines", {"name": "lines"}),
    Case("consensus", {"name": "consensus"}),
    Case("tall_mask", {"name": "tall_mask", "task": "makam"}),
    Case("emr", {"name": "emr"}),
    Case("pcb", {"name": "pcb"}),
    Case("localize_and_stitch", {"name": "localize_and_stitch"}),
    Case("tsv_m", {"name": "tsv_m"}),
    Case("iso_c", {"name": "iso_c"}),
    Case("iso_cts", {"name": "iso_cts"}),
    Case("knots per tensor", {"name": "knots", "scope": "tensor"}),
    Case("wudi exact", {"name": "wudi", "solver": "exact"}),
)
"""Spectral and iterative methods take minutes at full size; the rest take seconds."""
