"""A tiny world of sweeps that executors go through: one direct, one on interpolated features."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from probing import sweep_recipe, write_corpus, write_models

SCREEN = {"estimator": "ridge", "standardize": True}
COMMON = {
    "tasks": [
        {"name": "tones", "corpus": "corpora/tones", "protocol": SCREEN},
        {"name": "west", "corpus": "corpora/west", "western": True, "protocol": SCREEN},
    ],
    "seeds": [0],
    "select": {"resamples": 20},
    "resamples": 0,
}
DIRECT = {**COMMON, "scales": [0.5, 1.0, 1e25]}
"""λ = 1e25 diverges."""
DENSE = {
    **COMMON,
    "scales": [0.0, 1.0],
    "interpolate": {"points": 11, "tolerance": 2e-3},
}


def write_world(root: Path) -> Path:
    """Write models and corpora."""
    write_models(root)
    write_corpus(root / "corpora" / "tones", tracks=20, seed=1)
    write_corpus(root / "corpora" / "west", tracks=20, seed=2)
    return root


def recipe_of(root: Path, value: dict[str, Any], name: str, **changes: Any) -> Any:
    """Return a recipe whose features and results lie apart from those of others."""
    return sweep_recipe(root, **{**value, "store": f"store-{name}", **changes})


@contextlib.contextmanager
def without_figures() -> Iterator[None]:
    """Write results and tables alone: figures follow from them, and take longest."""
    tables = importlib.import_module("mergekit_audio.report.evaluation")
    running = importlib.import_module("mergekit_audio.probe.run")
    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (tables, "write_score_figure"),
            (tables, "write_transfer_figure"),
            (running, "write_report"),
        ):
            patch.setattr(module, name, lambda *values, **named: None, raising=False)
        yield


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of an output's results."""
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
