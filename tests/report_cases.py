"""Summaries of all kinds for reports, small and with numbers that can be worked out by hand."""

from __future__ import annotations

import copy
import itertools
from typing import Any

from summaries import spread, sweep_summary

# differences of λ = 0.25 from the base: task or average, metric, difference, interval, Holm's p
EFFECTS = (
    ("makam", None, "roc_auc", 0.10, (0.04, 0.16), 0.01),
    ("makam", None, "average_precision", 0.15, (0.05, 0.25), 0.2),
    ("western", None, "roc_auc", -0.01, (-0.03, 0.01), 1.0),
    ("western", None, "average_precision", -0.01, (-0.02, -0.001), 0.4),
    (None, "all", "mean", 0.0575, (0.02, 0.09), 0.01),
)


def told_sweep(**changes: Any) -> dict[str, Any]:
    """Return a sweep of one λ with differences, band and notes: λ = 0.25 is chosen."""
    summary = sweep_summary()
    summary["space"] = {"kind": "shared", "axes": ["λ"]}
    summary["reference"] = "base"
    summary["cultures"] = [{"name": name, "weight": 1.0} for name in ("makam", "lyra")]
    summary["interpolation"] = []
    names = [row["name"] for row in summary["rows"] if row["name"] != "base"]
    summary["differences"] = {
        "reference": "base",
        "confidence": 0.95,
        "resamples": 10_000,
        "seed": 0,
        "seeds": 2,
        "smallest_holm_p": 0.001,
        "entries": [entry(name, *effect) for name in names for effect in EFFECTS],
    }
    selection = summary["selection"]
    curve = selection["curve"]
    for point, (low, high) in zip(
        curve, ((0.01, 0.09), (0.0, 0.0), (-0.01, 0.05), (0.1, 0.2)), strict=True
    ):
        point.update(low=low, high=high, in_band=low <= 0)
    members = [point["row"] for point in curve if point["in_band"]]
    selection["band"] = {
        "confidence": 0.95,
        "resamples": 1000,
        "members": members,
        "of": len(curve),
        "runs": [[0.25, 0.5]],
    }
    for row in summary["rows"]:
        row.setdefault("interpolated", False)
    return {**summary, **changes}


def entry(name, task, average, metric, difference, interval, holm_p) -> dict[str, Any]:
    return {
        "models": [name, "base"],
        "task": task,
        "average": average,
        "metric": metric,
        "difference": difference,
        "mean_of_seeds": difference,
        "percentile": list(interval),
        "bca": list(interval),
        "p": 0.001,
        "holm_p": holm_p,
        "sign_flip_p": "not possible",
        "tracks": 5,
        "seeds": 2,
        "resamples": 10_000,
        "seed": 0,
    }


def told_evaluation() -> dict[str, Any]:
    """Return an evaluation of three models, the first of them the reference."""
    summary = told_sweep()
    keep = ("seeds", "tasks", "differences", "reference", "notes")
    rows = [dict(row, kind="model", scale=None, weight_average=False) for row in summary["rows"]]
    return {"kind": "evaluate", **{key: summary[key] for key in keep}, "rows": rows[:3]}


def told_landscape() -> dict[str, Any]:
    """Return a sweep of two λ on a 3 by 3 grid with a search on two goals.

    The goal is ``0.5 + 0.1 makam - 0.05 lyra``: the best point is makam 1, lyra 0, a culture alone.
    """
    summary = told_sweep()
    axes = ["makam", "lyra"]
    rows = [row for row in summary["rows"] if row["kind"] != "merge"]
    merge = next(row for row in summary["rows"] if row["kind"] == "merge")
    curve = []
    for place in itertools.product((0.0, 0.5, 1.0), repeat=2):
        scales = dict(zip(axes, place, strict=True))
        name = "λ: " + ", ".join(f"{axis} {scale:g}" for axis, scale in scales.items())
        name = "base" if not any(place) else "makam" if place == (1.0, 0.0) else name
        goal = 0.5 + 0.1 * place[0] - 0.05 * place[1]
        curve.append(
            {
                "row": name,
                "scale": None,
                "scales": scales,
                "parameters": {},
                "interpolated": name.startswith("λ"),
                "broken": [],
                "valid": spread([goal, goal + 0.01]),
                "low": 0.01,
                "high": 0.02,
                "in_band": name == "makam",
            }
        )
        if name.startswith("λ"):
            row = copy.deepcopy(merge)
            row.update(name=name, scale=None, scales=scales, parameters={}, interpolated=True)
            row["weight_average"] = place == (0.5, 0.5)
            rows.append(row)
    for row in rows:
        if row["kind"] != "merge":
            row["scale"] = None
    summary["rows"] = rows
    summary["space"] = {"kind": "per_culture", "axes": axes}
    summary["selection"].update(
        scale=None,
        scales={"makam": 1.0, "lyra": 0.0},
        row="makam",
        curve=curve,
        inside_maximum=None,
        band={"confidence": 0.95, "resamples": 1000, "members": ["makam"], "of": 9, "runs": []},
    )
    trials = [
        {
            "number": number,
            "row": point["row"],
            "scales": point["scales"],
            "values": [point["valid"]["mean"] * 100, 60.0 - 10 * point["scales"]["makam"]],
        }
        for number, point in enumerate(curve)
    ]
    front = [trials[0], trials[3], trials[6]]
    summary["search"] = {
        "sampler": "nsga",
        "axes": axes,
        "trials": trials,
        "goals": ["mean(non_western)", "mean(western)"],
        "pareto_front": front,
    }
    return summary


def told_label_free() -> dict[str, Any]:
    """Return the sweep of one λ with a label-free λ, a λ of similarity, and the loss curve."""
    summary = told_sweep()
    like = next(row for row in summary["rows"] if row["name"] == "λ = 0.5")
    for name, kind in (("label-free (shared)", "label_free"), ("similarity (west)", "similarity")):
        row = copy.deepcopy(like)
        row.update(name=name, kind=kind, scale=None, in_grid=False, weight_average=False)
        row["scales"] = {"makam": 0.4, "lyra": 0.4}
        summary["rows"].append(row)
        summary["differences"]["entries"] += [
            entry(name, None, "all", "mean", 0.02, (-0.01, 0.05), 1.0)
        ]
    curve = [
        {"scale": scale, "loss": 4.0 + scale, "losses": {"makam": 3.0 + scale, "west": 5.0 + scale}}
        for scale in (0.0, 0.5, 1.0)
    ]
    shared = {
        "scales": {"makam": {"all": 0.4}, "lyra": {"all": 0.4}},
        "loss": 3.9,
        "losses": {"makam": 2.9, "west": 4.9},
        "history": [4.2, 3.9],
    }
    summary["label_free"] = {"spaces": {"shared": shared}, "curve": curve}
    return summary


def told_similarity() -> dict[str, Any]:
    """Return the summary of a comparison of three corpora."""
    names = ["makam", "lyra", "western"]
    values = [[0.0 if i == j else 0.1 * (i + j) for j in range(3)] for i in range(3)]
    measure = {
        "values": values,
        "corrected": values,
        "low": values,
        "high": values,
        "floors": [0.01, 0.02, 0.03],
    }
    pair = {"culture": "makam", "corpus": "western", "gain": -0.02, "jensen_shannon": 0.2}
    other = {"culture": "lyra", "corpus": "makam", "gain": 0.01, "jensen_shannon": 0.1}
    return {
        "kind": "similarity",
        "corpora": [{"name": name} for name in names],
        "teacher": {"name": "residual_kmeans"},
        "codebooks": 4,
        "joint": False,
        "resamples": 1000,
        "measures": {"jensen_shannon": measure, "cosine": measure},
        "suggested_scales": {
            "temperature": 0.05,
            "scale": 1.0,
            "targets": {"western": {"makam": 0.4, "lyra": 0.6}},
        },
        "gains": {
            "pairs": [{**each, "cosine": 0.3} for each in (pair, other)],
            "jensen_shannon": None,
            "cosine": None,
        },
    }


def told_geometry() -> dict[str, Any]:
    """Return what inspecting two task vectors gives, without tensors."""
    layers = ["front", "encoder.layers.0", "other"]

    def size(norm: float) -> dict[str, Any]:
        return {
            "norm": norm,
            "relative_norm": norm / 10,
            "max_abs": 0.5,
            "changed_share": 1.0,
            "effective_rank": 4.0,
            "effective_rank_share": 0.25,
        }

    pairs = [
        {"total": size(norm), "groups": [{"name": name, **size(norm)} for name in layers]}
        for norm in (1.0, 2.0)
    ]
    return {
        "pairs": pairs,
        "relations": {
            "models": ["makam", "lyra"],
            "sum_norm": 2.5,
            "cosine": [[1.0, 0.125], [0.125, 1.0]],
            "sign_conflict": [[0.0, 0.45], [0.45, 0.0]],
            "layer_order": layers,
        },
        "suggestion": {"low": 0.1, "high": 0.8, "reasons": ["their sum is 1.7 times as long"]},
    }


def told_lock() -> dict[str, Any]:
    """Return what a lock says of the sweep."""
    return {
        "tool_version": "0.0",
        "recipe_digest": "a" * 64,
        "environment": {"python": "3.12", "torch": "2.0"},
        "inputs": [
            {"name": "base", "source": "models/base", "content_digest": "b" * 64},
            {"name": "cultures.makam", "source": "models/makam", "content_digest": "c" * 64},
            {"name": "cultures.lyra", "source": "models/lyra", "content_digest": "d" * 64},
        ],
        "recipe": {
            "kind": "sweep",
            "seed": 0,
            "base": "models/base",
            "cultures": [
                {"name": "makam", "model": "models/makam", "train": None, "weight": 1.0},
                {"name": "lyra", "model": None, "train": "lyra.yaml", "weight": 2.0},
            ],
            "method": {"name": "task_arithmetic"},
            "space": "shared",
            "groups": [],
            "write_best": False,
            "output": "runs/sweep",
        },
    }
