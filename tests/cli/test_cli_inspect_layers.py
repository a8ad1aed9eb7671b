"""`cmerge inspect` by layer, part and group: numbers beside NumPy's, CSV, two checkpoints alone."""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Done
from safetensors.numpy import load_file, save_file

SHAPES = {
    "encoder.layers.0.attention.q_proj.weight": (5, 4),
    "encoder.layers.0.attention.q_proj.bias": (5,),
    "encoder.layers.1.attention.q_proj.weight": (4, 6),
    "encoder.layers.2.final_layer_norm.weight": (7,),
    "feature_projection.projection.weight": (3, 4),
}
CULTURES = ("makam", "lyra", "carnatic")
GROUP = "low=encoder.layers.{0-1}.*"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("layers")
    generator = np.random.default_rng(7)
    base = {name: generator.standard_normal(shape) for name, shape in SHAPES.items()}
    save_file(base, root / "base.safetensors")
    for name in CULTURES:
        moved = {
            key: value + 0.1 * generator.standard_normal(value.shape) for key, value in base.items()
        }
        moved["encoder.layers.2.final_layer_norm.weight"] = base[
            "encoder.layers.2.final_layer_norm.weight"
        ].copy()
        save_file(moved, root / f"{name}.safetensors")
    return root


@pytest.fixture(scope="module")
def tau(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    base = load_file(folder / "base.safetensors")
    return {
        name: {
            key: value - base[key]
            for key, value in load_file(folder / f"{name}.safetensors").items()
        }
        for name in CULTURES
    }


def members(level: str, name: str) -> list[str]:
    starts = {"total": "", "layer": f"{name}.", "part": f"{name}."}
    if (level, name) == ("part", "front"):
        return ["feature_projection.projection.weight"]
    if level == "group":
        return [
            each for each in SHAPES if each.startswith(("encoder.layers.0", "encoder.layers.1"))
        ]
    return [each for each in SHAPES if each.startswith(starts[level])]


def flat(tensors: dict[str, np.ndarray], names: list[str]) -> np.ndarray:
    return np.concatenate([tensors[name].ravel() for name in names])


def effective_rank(matrix: np.ndarray) -> float:
    values = np.linalg.svd(matrix, compute_uv=False)
    shares = values / values.sum()
    return math.exp(-sum(share * math.log(share) for share in shares if share > 0))


def words(folder: Path, *models: str) -> list[object]:
    return ["inspect", *(folder / f"{name}.safetensors" for name in models or CULTURES)]


def rows_of(path: Path) -> list[dict[str, Any]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_number_of_the_csv_is_numpys(
    cmerge: Callable[..., Done],
    folder: Path,
    tau: dict[str, dict[str, np.ndarray]],
    tmp_path: Path,
) -> None:
    more = ["--base", folder / "base.safetensors", "--csv", "t.csv", "--group", GROUP]
    done = cmerge(*words(folder), *more, "--no-progress")
    assert done.code == 0
    assert "look at t.csv" in done.err
    base = load_file(folder / "base.safetensors")
    paths = {str(folder / f"{name}.safetensors"): name for name in CULTURES}
    rows = rows_of(tmp_path / "t.csv")
    assert {(row["level"], row["name"]) for row in rows} == {
        ("total", ""),
        ("group", "low"),
        ("part", "front"),
        ("part", "encoder.layers"),
        *(("layer", f"encoder.layers.{layer}") for layer in range(3)),
        ("layer", "feature_projection.projection"),
    }
    assert len(rows) == 8 * (3 + 3)
    for row in rows:
        names = members(row["level"], row["name"])
        mine = flat(tau[paths[row["model"]]], names)
        if not row["other"]:
            assert float(row["norm"]) == pytest.approx(np.linalg.norm(mine), rel=1e-12)
            expected = np.linalg.norm(mine) / np.linalg.norm(flat(base, names))
            assert float(row["relative_norm"]) == pytest.approx(expected, rel=1e-12)
            assert float(row["changed_share"]) == np.mean(mine != 0)
            ranks = [
                effective_rank(tau[paths[row["model"]]][name])
                for name in names
                if len(SHAPES[name]) == 2
            ]
            found = float(row["effective_rank"]) if row["effective_rank"] else None
            assert found == (pytest.approx(np.mean(ranks), rel=1e-6) if ranks else None)
            continue
        other = flat(tau[paths[row["other"]]], names)
        if not mine.any():
            assert (row["cosine"], row["sign_conflict"]) == ("", "")
            continue
        cosine = mine @ other / np.linalg.norm(mine) / np.linalg.norm(other)
        both = (mine != 0) & (other != 0)
        assert float(row["cosine"]) == pytest.approx(cosine, rel=1e-12)
        assert float(row["sign_conflict"]) == np.mean((mine * other < 0)[both])


def test_the_tables_have_pairs_by_group_part_and_layer(
    cmerge: Callable[..., Done], folder: Path
) -> None:
    more = ["--base", folder / "base.safetensors", "--group", GROUP, "--no-rank", "-q"]
    text = cmerge(*words(folder), *more).out
    titles = [
        f"{title} by {level}:"
        for title in ("cosine", "opposite signs")
        for level in ("group", "part", "layer")
    ]
    lines = text.splitlines()
    assert [line for line in lines if line in titles] == titles
    assert "relative norm by group:" in lines
    heads = [f"{a}.safetensors · {b}.safetensors" for a, b in itertools.combinations(CULTURES, 2)]
    after = lines[lines.index("cosine by layer:") + 1]
    assert [after.find(head) > 0 for head in heads] == [True] * 3


def test_two_checkpoints_are_compared_with_each_other(
    cmerge: Callable[..., Done], folder: Path, tmp_path: Path
) -> None:
    alone = json.loads(cmerge(*words(folder, "base", "lyra"), "--json", "-q").out)
    named = ["--base", folder / "base.safetensors", "--json", "-q"]
    said = json.loads(cmerge(*words(folder, "lyra"), *named).out)
    assert {**alone, "wall_time_s": 0} == {**said, "wall_time_s": 0}
    done = cmerge(*words(folder, "base", "lyra"), "--csv", "pair.csv", "--no-progress")
    assert done.err.startswith(f"compared 1 model with {folder}/base.safetensors -> pair.csv in ")
    assert len(rows_of(tmp_path / "pair.csv")) == 7
    assert cmerge(*words(folder, "base", "lyra"), "--csv", "pair.csv").code == 4


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--csv", "t.txt"], 2, "a table ends in .csv"),
        (["--group", "nothing.*"], 4, "group 'nothing.*': no tensor matches 'nothing.*'"),
        (["--group", "=a"], 2, "a name is missing before ="),
        (["--group", "a=encoder.*", "--group", "a=*"], 2, "'a' is there already"),
        (["--group", "a=*", "--group", "b=encoder.*"], 4, "that is in no earlier group"),
        (["--group", "encoder.{0"], 4, "a '{' without its '}'"),
    ],
)
def test_what_can_not_be_is_said(
    cmerge: Callable[..., Done], folder: Path, more: list[str], code: int, message: str
) -> None:
    done = cmerge(*words(folder), "--base", folder / "base.safetensors", *more, "-q")
    assert done.code == code
    assert message in done.err
    assert done.out == ""


def test_groups_and_tables_are_about_two_checkpoints(
    cmerge: Callable[..., Done], folder: Path
) -> None:
    for more in (["--csv", "t.csv"], ["--group", "*"]):
        done = cmerge(*words(folder, "lyra"), *more)
        assert done.code == 2
        assert f"{more[0]} without a base" in done.err
    assert cmerge(*words(folder)).code == 2
