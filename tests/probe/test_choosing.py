"""Layer and learning rate: chosen on validation, recorded whole, marked when chosen on test."""

import json

import pytest
from probing import PROTOCOL, evaluate_recipe, write_corpus, write_models
from small_models import folder_bytes

from mergekit_audio.errors import InputError
from mergekit_audio.probe import choosing
from mergekit_audio.probe.ledger import Ledger
from mergekit_audio.probe.run import evaluate

RATES = [1e-3, 1e-2]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("choosing")
    write_models(root, ("makam",))
    write_corpus(root / "corpora" / "tones", tracks=40, seed=1)
    return root


def recipe_of(world, output, select, *, models=("base",), **settings):
    protocol = {**PROTOCOL, "max_epochs": 4, "select": select, **settings}
    return evaluate_recipe(
        world,
        models=[{"name": name, "model": f"models/{name}"} for name in models],
        tasks=[{"name": "tones", "corpus": "corpora/tones", "protocol": protocol}],
        output=output,
        resamples=0,
    )


def run(world, output, select, **settings):
    evaluate(recipe_of(world, output, select, **settings), world)
    return json.loads((world / output / "summary.json").read_text())


def test_every_combination_is_tried_and_the_best_on_validation_wins(world):
    select = {"layers": "all", "learning_rates": RATES}
    summary = run(world, "grid", select, models=("base", "makam"))
    for row in summary["rows"]:
        choice = row["choices"]["tones"]
        assert [(each["layer"], each["learning_rate"]) for each in choice["candidates"]] == [
            (layer, rate) for layer in (0, 1, 2, "weighted") for rate in RATES
        ]
        best = max(choice["candidates"], key=lambda each: each["score"])
        assert (choice["layer"], choice["learning_rate"]) == (best["layer"], best["learning_rate"])
        assert (choice["split"], choice["metric"], choice["seed"]) == ("valid", "roc_auc", 0)
    choice = summary["rows"][0]["choices"]["tones"]
    fixed = {"layer": choice["layer"], "learning_rate": choice["learning_rate"]}
    same = run(world, "fixed", None, **fixed)
    assert summary["rows"][0]["scores"] == same["rows"][0]["scores"]
    valid = same["rows"][0]["scores"]["tones"]["valid"]["roc_auc"]["seeds"][0]
    assert max(each["score"] for each in choice["candidates"]) == valid
    line = json.loads((world / "grid" / "results.jsonl").read_text().splitlines()[0])
    assert {name: line[name] for name in fixed} == fixed
    table = (world / "grid" / "table.md").read_text()
    assert "tones, chosen on the validation split by roc_auc among 8 probes: base: " in table


def test_a_screen_chooses_the_layer_and_probes_choose_the_rate(world):
    summary = run(world, "screen", {"layers": [0, 2], "learning_rates": RATES, "by": "screen"})
    choice = summary["rows"][0]["choices"]["tones"]
    screened, probed = choice["candidates"][:2], choice["candidates"][2:]
    assert [(each["by"], each["layer"]) for each in screened] == [("screen", 0), ("screen", 2)]
    assert choice["layer"] == max(screened, key=lambda each: each["score"])["layer"]
    assert [(each["by"], each["layer"], each["learning_rate"]) for each in probed] == [
        ("probe", choice["layer"], rate) for rate in RATES
    ]
    assert choice["learning_rate"] == max(probed, key=lambda each: each["score"])["learning_rate"]
    alone = run(world, "alone", {"layers": [1, "weighted"], "by": "screen"})
    choice = alone["rows"][0]["choices"]["tones"]
    assert [each["by"] for each in choice["candidates"]] == ["screen", "screen"]
    assert choice["learning_rate"] == 1e-3


def test_a_choice_on_test_is_marked_everywhere(world):
    select = {"layers": [1, 2], "split": "test", "force_test_selection": True}
    summary = run(world, "forced", select)
    folder = world / "forced"
    assert summary["tasks"][0]["selected_on_test"] is True
    assert summary["tasks"][0]["title"] == "tones (selected on test)"
    assert summary["notes"][1].startswith("SELECTED ON THE TEST SPLIT: layer or learning rate of t")
    for name in ("table.md", "table.csv", "table.tex"):
        assert "tones (selected on test)" in (folder / name).read_text()
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert all(line["selected_on_test"] for line in lines)
    choice = summary["rows"][0]["choices"]["tones"]
    best = max(each["score"] for each in choice["candidates"])
    assert lines[0]["test"]["roc_auc"] == best


def test_a_kill_while_choosing_changes_no_byte(world, monkeypatch):
    select = {"layers": [0, 1, 2], "learning_rates": RATES}
    run(world, "whole", select)
    probed = []
    append, probe = Ledger.append, choosing.probe

    def killing(self, line):
        append(self, line)
        if line.get("candidate", "").startswith("probe layer 1 rate 0.01"):
            raise KeyboardInterrupt

    def counting(*arguments):
        probed.append(arguments)
        return probe(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append", killing)
        with pytest.raises(KeyboardInterrupt):
            evaluate(recipe_of(world, "whole", select), world, output=world / "killed")
    monkeypatch.setattr(choosing, "probe", counting)
    recipe = recipe_of(world, "whole", select)
    evaluate(recipe, world, output=world / "killed", workers=2)
    assert len(probed) == 2  # those of layer 2
    whole, again = folder_bytes(world / "whole"), folder_bytes(world / "killed")
    assert [name for name in whole if whole[name] != again[name]] == []


def test_a_layer_to_try_that_is_not_there_is_refused(world):
    with pytest.raises(InputError, match="7, but the encoder has hidden states 0 to 2"):
        run(world, "refused", {"layers": [1, 7]})
