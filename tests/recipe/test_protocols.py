"""The named protocols: complete, changed by single keys, honest about test selections."""

import json

import pytest

from mergekit_audio.errors import RecipeError
from mergekit_audio.recipe.load import from_dict
from mergekit_audio.recipe.presets import PRESETS
from mergekit_audio.recipe.protocols import Protocol

MARBLE_RATES = [5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2]


def recipe_with(tmp_path, *protocols, **changes):
    tasks = [
        {"name": f"task{number}", "corpus": "corpus", "protocol": protocol}
        for number, protocol in enumerate(protocols)
    ]
    value = {"kind": "evaluate", "models": [{"model": "a"}, {"model": "b"}], "tasks": tasks}
    return from_dict({**value, "output": "results", **changes}, tmp_path)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_name_a_mapping_and_its_own_dump(name):
    preset = Protocol.model_validate_json(json.dumps(name), strict=True)
    assert preset == Protocol.model_validate({"preset": name})
    assert preset == Protocol.model_validate_json(preset.model_dump_json(), strict=True)
    assert preset.preset == name
    assert preset.changed() == []
    assert f"protocol `{name}`" in preset.statement()


def test_the_numbers_of_marble():
    marble = Protocol.model_validate("marble-v1")
    facts = {
        "hidden_size": 512,
        "dropout": 0.2,
        "dropout_place": "after_relu",
        "learning_rate": 1e-3,
        "batch_size": 64,
        "plateau_factor": 0.5,
        "plateau_patience": 3,
        "patience": 10,
        "max_epochs": 100,
        "monitor": "roc_auc",
        "aggregate": "mean_logit",
        "last_chunk": "keep",
        "min_last_chunk_s": 1.0,
        "layer": "weighted",
        "weighted_over": "transformer",
        "layer_start": "random",
    }
    assert {name: getattr(marble, name) for name in facts} == facts
    grid = Protocol.model_validate("marble-grid")
    assert grid.select is not None
    assert (grid.select.layers, grid.select.learning_rates) == ("all", MARBLE_RATES)
    changes = {"preset": "marble-v1", "select": None}
    assert grid.model_copy(update=changes) == marble


def test_what_the_paper_leaves_open_is_said():
    statement = Protocol.model_validate(
        {"preset": "culturemert", "max_duration_s": 150}
    ).statement()
    assert "the paper leaves open: layer, overlap, last_chunk" in statement
    assert "with its own max_duration_s" in statement
    assert "the first 150 s of a track" in statement
    assert "mean probability" in statement


def test_single_keys_change_a_preset_and_its_choice():
    changed = Protocol.model_validate(
        {"preset": "marble-grid", "select": {"layers": [3, "weighted"]}}
    )
    assert changed.select is not None
    assert changed.select.learning_rates == MARBLE_RATES
    assert changed.changed() == ["select"]


def test_seeds_are_those_of_the_preset_that_tasks_share(tmp_path):
    assert recipe_with(tmp_path, "marble-v1", "marble-grid").seeds == [1234]
    assert recipe_with(tmp_path, "petl-probe").seeds == [321]
    assert recipe_with(tmp_path, "culturemert", {}).seeds == [0, 1, 2, 3, 4]
    assert recipe_with(tmp_path, "marble-v1", "culturemert", seeds=[7]).seeds == [7]
    with pytest.raises(RecipeError, match=r"different seeds, \[1234\] \(marble-v1\), \[321\]"):
        recipe_with(tmp_path, "marble-v1", "petl-probe")


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ("marble-v2", "did you mean 'marble-v1'"),
        ({"preset": "marble-v1", "droput": 0.5}, "did you mean 'dropout'"),
        ({"select": {}}, "give `layers`, `learning_rates` or both"),
        ({"select": {"layers": []}}, "layers must be given and differ"),
        ({"select": {"layers": "all", "split": "test"}}, "makes its scores too good"),
        ({"select": {"layers": "all", "force_test_selection": True}}, "is for `split: test`"),
        ({"preset": "screen", "select": {"learning_rates": [0.1]}}, "ridge has no learning rate"),
        ({"layer": -1}, "layer: expected"),
    ],
)
def test_faults_are_found(tmp_path, protocol, message):
    with pytest.raises(RecipeError, match=message):
        recipe_with(tmp_path, protocol)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"kind": "key", "tags": ["key--C major"]},
            "kind: key takes none of these keys, found tags",
        ),
        ({"kind": "regression", "top_tags": 3}, "kind: regression takes values, found top_tags"),
        ({"values": ["arousal"]}, "kind: tagging takes tags and top_tags and category"),
        ({"kind": "chords"}, "expected 'tagging', 'multiclass', 'key', 'tempo' or 'regression'"),
    ],
)
def test_a_kind_takes_its_own_keys(tmp_path, keys, message):
    with pytest.raises(RecipeError, match=message):
        recipe_with(tmp_path, tasks=[{"name": "t", "corpus": "c", **keys}])


def test_the_reference_is_a_row(tmp_path):
    assert recipe_with(tmp_path, {}, reference="b").reference == "b"
    with pytest.raises(RecipeError, match="reference names 'c', but the rows are"):
        recipe_with(tmp_path, {}, reference="c")
