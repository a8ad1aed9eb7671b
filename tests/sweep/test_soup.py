"""Greedy soups: the order and the acceptance by hand, and a merge that rebuilds without audio."""

import json
import shutil

import pytest
from probing import PROTOCOL, write_corpus, write_models

from mergekit_audio.errors import RecipeError
from mergekit_audio.lock import verify
from mergekit_audio.probe.run import evaluate
from mergekit_audio.rebuild import rebuild
from mergekit_audio.recipe.load import from_dict
from mergekit_audio.sweep.soup import choose, greedy_soup
from mergekit_audio.weights.checkpoint import Checkpoint


def test_the_choice_by_hand():
    scores = {
        ("a",): 0.70, ("b",): 0.80, ("c",): 0.75, ("d",): 0.75,
        ("b", "c"): 0.82, ("b", "c", "d"): 0.82, ("b", "c", "a"): 0.83,
    }  # fmt: skip
    asked = []

    def score(names):
        asked.append(tuple(names))
        return scores[tuple(names)]

    choice = choose(["a", "b", "d", "c"], score)
    assert choice.alone == (("b", 0.80), ("c", 0.75), ("d", 0.75), ("a", 0.70))
    assert choice.steps == (("c", 0.82, True), ("d", 0.82, False), ("a", 0.83, True))
    assert choice.accepted == ("b", "c", "a")
    assert choice.score == 0.83
    assert asked == [
        ("a",), ("b",), ("d",), ("c",), ("b", "c"), ("b", "c", "d"), ("b", "c", "a"),
    ]  # fmt: skip


def test_one_model_is_its_own_soup():
    assert choose(["a"], lambda names: 0.5).accepted == ("a",)


def test_worse_models_are_left_out():
    choice = choose(["a", "b", "c"], lambda names: {"a": 0.6, "b": 0.9, "c": 0.7}[names[-1]])
    assert choice.accepted == ("b",)
    assert [name for name, _, _ in choice.steps] == ["c", "a"]


NAMES = ("makam", "lyra", "carnatic")


def soup_recipe(root, **method):
    tasks = [{"name": "tones", "corpus": "corpora/tones", "protocol": PROTOCOL}]
    value = {
        "kind": "merge",
        "base": "models/base",
        "models": [{"model": f"models/{name}"} for name in NAMES],
        "method": {"name": "greedy_soup", "tasks": tasks, "seeds": [0], **method},
        "output": "soup",
    }
    return from_dict(value, root)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("soup")
    write_models(root, NAMES)
    write_corpus(root / "corpora" / "tones", tracks=20, seed=1)
    greedy_soup(soup_recipe(root), root, command="cmerge merge soup.yaml")
    return root


def told(world):
    return json.loads((world / "soup" / "logs" / "soup.json").read_text(encoding="utf-8"))


def test_the_scores_are_those_of_an_evaluation(world):
    tasks = soup_recipe(world).method.tasks
    models = [{"model": f"models/{name}"} for name in NAMES] + [{"model": "soup"}]
    recipe = from_dict(
        {"kind": "evaluate", "models": models, "tasks": tasks, "seeds": [0], "output": "scores"},
        world,
    )
    evaluate(recipe, world)
    rows = json.loads((world / "scores" / "summary.json").read_text(encoding="utf-8"))["rows"]
    valid = {row["name"]: row["scores"]["tones"]["valid"]["roc_auc"]["mean"] for row in rows}
    found = told(world)
    assert {each["model"]: each["score"] for each in found["alone"]} == {
        name: valid[name] for name in NAMES
    }
    assert found["score"] == valid["soup"]
    ordered = [each["score"] for each in found["alone"]]
    assert ordered == sorted(ordered, reverse=True)
    assert found["accepted"][0] == found["alone"][0]["model"]
    best = found["alone"][0]["score"]
    for step in found["steps"]:
        assert step["accepted"] == (step["score"] > best)
        best = max(best, step["score"])


def test_the_lock_names_the_accepted_and_rebuilds_without_audio(world, tmp_path):
    copy = tmp_path / "copy"
    for name in ("models", "soup"):
        shutil.copytree(world / name, copy / name)
    lock = json.loads((copy / "soup" / "cmerge.lock.json").read_text(encoding="utf-8"))
    assert sorted(lock["recipe"]["method"]["accepted"]) == sorted(told(world)["accepted"])
    assert verify(copy / "soup") == []
    assert rebuild(copy / "soup") == []
    assert not (world / "soup.work").exists()


def test_the_soup_is_the_mean_of_the_accepted(world):
    soup = Checkpoint.open("soup", root=world)
    models = [Checkpoint.open(f"models/{name}", root=world) for name in told(world)["accepted"]]
    for name in soup.index:
        mean = sum(model.tensor(name).double() for model in models) / len(models)
        assert (soup.tensor(name).double() - mean).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"tasks": []}, "method.tasks"),
        ({"tasks": [{"name": "tones"}]}, "method.tasks[0].corpus"),
        ({"tasks": [{"name": "x", "corpus": "y", "top_tag": 3}]}, "method.tasks[0].top_tag"),
        ({"objective": "west"}, "method.objective"),
        ({"backbone": "nothing"}, "method.backbone"),
    ],
)
def test_faults_of_the_probing_are_told_first(tmp_path, change, key):
    with pytest.raises(RecipeError) as caught:
        greedy_soup(soup_recipe(tmp_path, **change), tmp_path)
    assert [fault.key for fault in caught.value.faults] == [key]


def test_names_must_differ(world):
    recipe = soup_recipe(world)
    doubled = recipe.model_copy(update={"models": [recipe.models[0], recipe.models[0]]})
    with pytest.raises(RecipeError, match="names must differ"):
        greedy_soup(doubled, world, output=world / "other")
