"""A small summary of a sweep with numbers that can be worked out by hand."""

from __future__ import annotations

import statistics
from typing import Any

from mergekit_audio.recipe.sweep import Select
from mergekit_audio.sweep.selection import select_scale

# test scores of seed 0 by row: makam ROC, makam AP, western ROC, western AP; seed 1 is 0.04 higher
ROWS = {
    ("base", "base", 0.0): (0.60, 0.40, 0.70, 0.50),
    ("makam", "culture", None): (0.68, 0.50, 0.60, 0.40),
    ("multi-cultural", "compare", None): (0.67, 0.48, 0.69, 0.49),
    ("λ = 0.25", "merge", 0.25): (0.70, 0.55, 0.69, 0.49),
    ("λ = 0.5", "merge", 0.5): (0.66, 0.45, 0.66, 0.45),
    ("λ = 1", "merge", 1.0): (0.55, 0.35, 0.55, 0.35),
}


def sweep_summary(
    *, seeds: int = 2, names: tuple[str, str] = ("makam", "western"), valid_gain: float = 0.02
) -> dict[str, Any]:
    """Return a summary whose validation scores are the test scores plus ``valid_gain``."""
    rows = [_row(*key, scores, seeds, names, valid_gain) for key, scores in ROWS.items()]
    tasks = [_task(name, western=index == 1) for index, name in enumerate(names)]
    return {
        "kind": "sweep",
        "seeds": list(range(seeds)),
        "method": {"name": "task_arithmetic"},
        "cultures": [{"name": "makam", "weight": 1.0}],
        "weight_average_scale": 0.5,
        "notes": [],
        "tasks": tasks,
        "rows": rows,
        "selection": select_scale(rows, Select(), list(names)),
    }


def spread(values: list[float]) -> dict[str, Any]:
    std = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": std, "seeds": values}


def _row(name, kind, scale, scores, seeds, names, valid_gain) -> dict[str, Any]:
    def of(indices, gain=0.0):
        mean = statistics.fmean(scores[index] for index in indices)
        return spread([mean + 0.04 * seed + gain for seed in range(seeds)])

    gains = {"valid": valid_gain, "test": 0.0}
    places = {names[0]: (0, 1), names[1]: (2, 3)}
    metrics = ("roc_auc", "average_precision")
    return {
        "name": name,
        "kind": kind,
        "scale": scale,
        "weight_average": scale == 0.5,
        "in_grid": scale is not None,
        "digest": "0" * 64,
        "scores": {
            task: {
                split: {metric: of([place[i]], gain) for i, metric in enumerate(metrics)}
                for split, gain in gains.items()
            }
            for task, place in places.items()
        },
        "averages": {
            split: {
                "all": of(range(4), gain),
                "non_western": of((0, 1), gain),
                "western": of((2, 3), gain),
            }
            for split, gain in gains.items()
        },
        "task_averages": {
            split: {"roc_auc": of((0, 2), gain), "average_precision": of((1, 3), gain)}
            for split, gain in gains.items()
        },
        "labels": {
            task: {
                label: {metric: of([place[i]]) for i, metric in enumerate(metrics)}
                for label in ("makam--<hicaz>", "usul--aksak")
            }
            for task, place in places.items()
        },
    }


def _task(name: str, *, western: bool) -> dict[str, Any]:
    return {
        "name": name,
        "western": western,
        "corpus": f"data/{name}",
        "digest": "0" * 64,
        "tracks": {"train": 20, "valid": 5, "test": 5},
        "without_split": 0 if western else 2,
        "without_tags": 0,
        "labels": ["makam--<hicaz>", "usul--aksak", "makam--rast"],
        "unscored": {
            "train": {"without_positives": [], "without_negatives": []},
            "valid": {"without_positives": [], "without_negatives": []},
            "test": {
                "without_positives": [] if western else ["makam--rast"],
                "without_negatives": [],
            },
        },
        "left_out": {"undecodable": [], "silent": [{"id": "a", "path": "a.wav", "reason": "b"}]},
        "protocol": {"chunk_s": 30.0, "layer": "weighted"},
    }
