"""`cmerge inspect` of models beside their base: tables, JSON, figure, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Done

PAIR_KEYS = ["base", "tuned", "same_content", "total", "parts", "groups"]
SIZE_KEYS = [
    *("elements", "norm", "relative_norm", "max_abs", "changed_share"),
    *("matrices", "effective_rank", "effective_rank_share", "stable_rank"),
]
RELATION_KEYS = [
    *(
        "norms",
        "relative_norms",
        "sum_norm",
        "growth",
        "sum_to_mean_norm",
        "cosine",
        "sign_conflict",
    ),
    "sign_disagreement",
]
SUGGESTION_KEYS = [
    *("low", "high", "start", "grid", "models", "mean_norm", "sum_norm", "growth", "mean_cosine"),
    *("mean_sign_conflict", "average", "orthogonal", "trust", "even_weights"),
    *("reasons", "cautions"),
]


@pytest.fixture
def words(models: Path) -> list[object]:
    return ["inspect", models / "a", models / "b", "--base", models / "base"]


def test_the_json_is_complete(cmerge: Callable[..., Done], words: list[object]) -> None:
    value = json.loads(cmerge(*words, "--json", "-q").out)
    assert list(value) == ["pairs", "relations", "suggestion", "wall_time_s"]
    assert list(value["pairs"][0]) == PAIR_KEYS
    assert list(value["pairs"][0]["total"]) == SIZE_KEYS
    assert list(value["pairs"][0]["groups"][0]) == ["name", "tensors", *SIZE_KEYS]
    relations = value["relations"]
    assert list(relations) == [
        *("base", "models"),
        *RELATION_KEYS,
        *("layer_order", "parts", "groups"),
    ]
    assert list(relations["parts"][0]) == ["name", *RELATION_KEYS]
    assert list(relations["groups"][0]) == ["name", "part", *RELATION_KEYS]
    assert sorted(relations["layer_order"]) == sorted(each["name"] for each in relations["groups"])
    assert list(value["suggestion"]) == SUGGESTION_KEYS
    assert 0 < value["pairs"][0]["total"]["effective_rank_share"] < 1
    full = json.loads(cmerge(*words, "--json", "-q", "--tensors", "--no-rank").out)
    assert list(full["pairs"][1]["tensors"][0]) == ["name", *SIZE_KEYS]
    assert full["pairs"][0]["total"]["effective_rank"] is None


def test_the_tables_tell_models_parts_layers_and_why(
    cmerge: Callable[..., Done], words: list[object]
) -> None:
    text = cmerge(*words, "-q").out
    for line in (
        "models:",
        "cosine:",
        "sign_conflict:",
        "relative norm by part:",
        "relative norm by layer:",
    ):
        assert f"{line}\n" in text
    assert "effective_rank" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["name", "elements", "a", "b", "growth", "mean_cosine", "conflict", "rank_of_full"] in (
        rows
    )
    places = [
        next(i for i, row in enumerate(rows) if row[:1] == [name])
        for name in ("front", "encoder.layers", "feature_extractor.conv_layers.0")
    ]
    assert places == sorted(places)
    assert "suggested λ: 0.25 to 0.7" in text
    assert "  because: start: λ = 1/2 = 0.5 is nearest to all models" in text
    assert "for a sweep: scales: [0.25," in text
    assert "tensor:\n" not in text
    plain = cmerge(*words, "-q", "--no-rank", "--tensors").out
    assert "rank" not in plain
    assert "relative norm by tensor:\n" in plain
    assert "encoder.layers.0.attention.k_proj.weight" in plain


def test_one_model(cmerge: Callable[..., Done], models: Path) -> None:
    words = ["inspect", models / "a", "--base", models / "base"]
    value = json.loads(cmerge(*words, "--json", "-q").out)
    assert list(value) == [*PAIR_KEYS, "suggestion", "wall_time_s"]
    assert value["suggestion"]["start"] == 1
    done = cmerge(*words, "--no-progress")
    assert "suggested λ: 0.5 to 1, start at 1\n" in done.out
    assert "cosine" not in done.out
    assert done.err.startswith("compared 1 model with ")


def test_a_model_beside_itself(cmerge: Callable[..., Done], models: Path) -> None:
    words = ["inspect", models / "a", models / "a", models / "base", "--base", models / "base"]
    value = json.loads(cmerge(*words, "--json", "-q", "--no-rank").out)
    assert value["relations"]["models"][:2] == [f"{models / 'a'}", f"{models / 'a'} (2)"]
    assert [pair["same_content"] for pair in value["pairs"]] == [False, False, True]
    assert any("one model twice" in caution for caution in value["suggestion"]["cautions"])
    assert cmerge(*words, "-q", "--no-rank").code == 0


@pytest.mark.parametrize(("name", "start"), [("g.png", b"\x89PNG"), ("g.SVG", b"<?xml")])
def test_a_figure(
    cmerge: Callable[..., Done], words: list[object], tmp_path: Path, name: str, start: bytes
) -> None:
    done = cmerge(*words, "--figure", name, "--no-progress")
    assert (done.code, (tmp_path / name).read_bytes()[: len(start)]) == (0, start)
    assert f"-> {name} in " in done.err
    before = (tmp_path / name).read_bytes()
    again = cmerge(*words, "--figure", name, "-q")
    assert again.code == 4
    assert "already exists" in again.err
    assert cmerge(*words, "--figure", name, "-q", "--force").code == 0
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        (["--figure", "g.gif", "--base", "base"], "ends in .png, .svg or .pdf", "write g.png"),
        (["--figure", "g.png"], "--figure without a base", "add --base"),
        (["--no-rank"], "--no-rank without a base", "add --base"),
    ],
)
def test_what_does_not_fit_is_code_2_before_any_work(
    cmerge: Callable[..., Done], options: list[str], message: str, hint: str
) -> None:
    done = cmerge("inspect", "no-such-model", *options)
    assert done.code == 2
    assert message in done.err
    assert hint in done.err
