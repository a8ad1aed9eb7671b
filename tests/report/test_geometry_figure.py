"""The figure of task vectors has the same bytes every time, for any number of models and layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mergekit_audio.errors import UsageError
from mergekit_audio.report.geometry_figure import short_names, write_geometry_figure
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.inspect import inspect_geometry


def facts(root: Path, models: int, layers: int = 3, *, ranks: bool = True) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    for place in range(models + 1):
        save_file(
            {
                **{
                    f"encoder.layers.{layer}.w": torch.from_numpy(generator.standard_normal((4, 3)))
                    for layer in range(layers)
                },
                "head.bias": torch.full((2,), 1.0),
            },
            root / f"{place}.safetensors",
        )
    base, *tuned = (
        Checkpoint.open(f"{place}.safetensors", root=root) for place in range(models + 1)
    )
    named = {f"runs/model{place}": each for place, each in enumerate(tuned)}
    return inspect_geometry(base, named, ranks=ranks)


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_same_facts_give_the_same_bytes(tmp_path: Path, ending: str) -> None:
    value = facts(tmp_path, 2)
    paths = [tmp_path / f"{place}.{ending}" for place in "ab"]
    for path in paths:
        write_geometry_figure(value, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert b"Date" not in paths[0].read_bytes()


@pytest.mark.parametrize(
    ("models", "layers", "ranks"), [(1, 2, True), (10, 1, False), (2, 60, True)]
)
def test_any_number_is_drawn(tmp_path: Path, models: int, layers: int, ranks: bool) -> None:
    write_geometry_figure(facts(tmp_path, models, layers, ranks=ranks), tmp_path / "g.svg")
    assert (tmp_path / "g.svg").stat().st_size > 1000


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.png, \.svg or \.pdf"):
        write_geometry_figure({}, tmp_path / "g.jpg")


def test_short_names() -> None:
    assert short_names(["runs/a", "org/b@main", "c/"]) == ["a", "b", "c"]
    assert short_names(["x/a", "y/a"]) == ["x/a", "y/a"]
