"""Kinds of tasks: targets, losses, how chunks become tracks, and each kind end to end."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from probing import PROTOCOL, evaluate_recipe, write_corpus, write_models

from mergekit_audio.audio.corpus import Track
from mergekit_audio.errors import InputError
from mergekit_audio.probe.kinds import (
    ValueScale,
    loss_of,
    loss_targets,
    output_count,
    ridge_targets,
)
from mergekit_audio.probe.run import evaluate
from mergekit_audio.probe.scoring import track_predictions
from mergekit_audio.probe.splits import SplitData
from mergekit_audio.probe.targets import targets_of
from mergekit_audio.recipe.evaluate import KEYS, Task

TEMPI = (90.0, 140.0)


def track(name, split="train", tags=(), **values):
    return Track(
        id=name,
        path=Path(f"{name}.wav"),
        split=split,
        tags=tuple(tags),
        values=tuple(sorted(values.items())),
    )


def task(kind, **keys):
    return Task(name="t", corpus="c", kind=kind, **keys)


def test_classes_are_those_of_training_in_alphabetical_order():
    tracks = [
        track("a", tags=["genre--rock", "mood--calm"]),
        track("b", tags=["genre--folk"]),
        track("c", "test", tags=["genre--folk", "mood--wild"]),
    ]
    labels, targets = targets_of(task("multiclass", category="genre"), Path("c"), tracks)
    assert labels == ("genre--folk", "genre--rock")
    assert targets.tolist() == [1, 0, 0]
    pinned = task("multiclass", tags=["genre--rock", "genre--folk"])
    labels, targets = targets_of(pinned, Path("c"), tracks)
    assert labels == ("genre--rock", "genre--folk")
    assert targets.tolist() == [0, 1, 1]


def test_keys_have_their_24_classes():
    tracks = [track("a", tags=["key--C major"]), track("b", tags=["key--A# minor", "x--y"])]
    labels, targets = targets_of(task("key"), Path("c"), tracks)
    assert labels == KEYS
    assert len(labels) == 24
    assert [labels[index] for index in targets] == ["key--C major", "key--A# minor"]


def test_values_are_taken_by_name():
    tracks = [track("a", valence=0.1, arousal=0.4), track("b", valence=-0.5, arousal=0.0)]
    labels, targets = targets_of(task("regression"), Path("c"), tracks)
    assert labels == ("arousal", "valence")
    assert targets.tolist() == [[0.4, 0.1], [0.0, -0.5]]
    labels, targets = targets_of(task("regression", values=["valence"]), Path("c"), tracks)
    assert labels == ("valence",)
    labels, targets = targets_of(task("tempo"), Path("c"), [track("a", tempo_bpm=120.5)])
    assert (labels, targets.tolist()) == (("tempo_bpm",), [[120.5]])


@pytest.mark.parametrize(
    ("one", "bad", "message"),
    [
        (
            task("multiclass", category="genre"),
            [track("x", "test", ["genre--a", "genre--b"]), track("y", "valid", ["mood--a"])],
            r"2 of 4 tracks have not:\n  x.wav: x: has genre--a, genre--b\n"
            r"  y.wav: y: has none of them \(its tags: mood--a\)",
        ),
        (
            task("key"),
            [track("x", tags=["key--Db major"])],
            "exactly one key, such as `key--C# min",
        ),
        (task("tempo"), [track("x"), track("y", tempo_bpm=0.0)], "x: has no value tempo_bpm"),
        (task("regression"), [track("x", arousal=1.0)], "x: has no value valence"),
    ],
)
def test_tracks_without_their_target_are_named(one, bad, message):
    good = {
        "multiclass": {"tags": ["genre--a"]},
        "key": {"tags": ["key--C major"]},
        "tempo": {"tempo_bpm": 100.0},
        "regression": {"arousal": 0.0, "valence": 0.0},
    }[one.kind]
    other = {**good, "tags": ["genre--b"]} if one.kind == "multiclass" else good
    tracks = [track("a", **good), track("b", **other), *bad]
    with pytest.raises(InputError) as caught:
        targets_of(one, Path("c"), tracks)
    assert re.search(message, caught.value.message)


def test_losses_take_the_targets_of_their_kind():
    classes = np.array([2, 0])
    assert loss_targets("key", classes).dtype == torch.int64
    assert ridge_targets("key", classes, 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    bins = loss_targets("tempo", np.array([[120.4]]))
    assert bins.shape == (1, 300)
    assert bins[0, 117:124].tolist() == [0, 0.5, 0.5, 1, 0.5, 0.5, 0]
    scale = ValueScale.of(np.array([[1.0, 5.0], [3.0, 5.0]]), standardize=True)
    values = loss_targets("regression", np.array([[3.0, 6.0]]), scale)
    assert values.tolist() == [[1.0, 1.0]]
    plain = ValueScale.of(np.array([[1.0], [3.0]]), standardize=False)
    assert loss_targets("regression", np.array([[3.0]]), plain).tolist() == [[3.0]]
    logits = torch.tensor([[0.5, -1.0, 2.0]])
    found = loss_of("multiclass")(logits, torch.tensor([2]))
    assert found.item() == pytest.approx(-logits.log_softmax(1)[0, 2].item())
    assert [output_count(kind, 3) for kind in ("tagging", "tempo", "regression")] == [3, 300, 3]


class Fixed:
    """A head that returns given logits."""

    def __init__(self, logits):
        self.logits = torch.tensor(logits)

    def __call__(self, features):
        return self.logits


@pytest.mark.parametrize("kind", ["multiclass", "tempo", "regression"])
def test_chunks_of_each_kind_are_averaged(kind):
    logits = np.array([[0.0, 1.0, -1.0], [2.0, -1.0, 0.0], [1.0, 1.0, 3.0]])
    data = SplitData(torch.zeros(3, 1), np.array([0, 2]), np.zeros(2))
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    sigmoid = 1 / (1 + np.exp(-logits))
    scale = ValueScale(np.array([1.0, 0.0, 0.0]), np.array([2.0, 1.0, 1.0]))
    mean_logits = np.array([logits[:2].mean(axis=0), logits[2]])
    expected = {
        ("multiclass", "mean_probability"): [softmax[:2].mean(axis=0), softmax[2]],
        ("multiclass", "mean_logit"): mean_logits,
        ("tempo", "mean_probability"): [sigmoid[:2].mean(axis=0), sigmoid[2]],
        ("tempo", "mean_logit"): 1 / (1 + np.exp(-mean_logits)),
        ("regression", "mean_probability"): mean_logits * [2, 1, 1] + [1, 0, 0],
        ("regression", "mean_logit"): mean_logits * [2, 1, 1] + [1, 0, 0],
    }
    for aggregate in ("mean_probability", "mean_logit"):
        given = scale if kind == "regression" else None
        found = track_predictions(Fixed(logits), data, aggregate, kind, given)
        np.testing.assert_allclose(found, expected[kind, aggregate], atol=1e-12)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("kinds")
    write_models(root, ())
    folder = write_corpus(root / "corpora" / "tones", tracks=60, seed=1)
    manifest = folder / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for row in rows:
        high = "pitch--high" in row["tags"]
        row["tags"].append("key--C major" if high else "key--A minor")
        row["values"] = {"tempo_bpm": TEMPI[high], "height": float(high), "constant": 1.0}
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def test_every_kind_is_probed_and_learned(world):
    protocol = {**PROTOCOL, "standardize": True, "max_epochs": 40, "patience": 15}
    protocol |= {"learning_rate": 5e-3}
    shared = {"corpus": "corpora/tones", "protocol": protocol}
    tasks = [
        {"name": "pitch", "kind": "multiclass", "category": "pitch", **shared},
        {"name": "key", "kind": "key", **shared},
        {"name": "tempo", "kind": "tempo", **shared},
        {"name": "height", "kind": "regression", "values": ["height"], **shared},
        {"name": "ridge", "kind": "tempo", "corpus": "corpora/tones", "protocol": "screen"},
    ]
    models = [{"name": "base", "model": "models/base"}, {"name": "again", "model": "models/base"}]
    evaluate(evaluate_recipe(world, tasks=tasks, models=models, seeds=[0, 1], resamples=30), world)
    summary = json.loads((world / "results" / "summary.json").read_text())
    row = summary["rows"][0]
    found = {
        (name, metric): spread["mean"]
        for name, splits in row["scores"].items()
        for metric, spread in splits["test"].items()
    }
    assert list(found) == [
        ("pitch", "accuracy"),
        ("key", "weighted_score"),
        ("tempo", "accuracy_1"),
        ("height", "r2"),
        ("ridge", "accuracy_1"),
    ]
    assert found.pop(("height", "r2")) > 0.5
    assert min(found.values()) > 0.8
    assert row["averages"]["test"]["all"]["mean"] == pytest.approx(
        np.mean(
            [
                row["scores"][name]["test"][metric]["mean"]
                for name, metric in [*found, ("height", "r2")]
            ]
        )
    )
    assert [task["kind"] for task in summary["tasks"]][:4] == [
        "multiclass", "key", "tempo", "regression",
    ]  # fmt: skip
    assert summary["tasks"][1]["unscored"]["test"]["without_tracks"] == [
        label for label in KEYS if label not in ("key--C major", "key--A minor")
    ]
    assert len({entry["metric"] for entry in summary["differences"]["entries"]}) == 5
    saved = np.load(world / "results" / "scores" / "base--tempo--0.npz")
    assert saved["test_scores"].shape == (12, 300)
    assert set(saved["test_targets"][:, 0]) == set(TEMPI)


def test_faults_name_the_manifests_lines(world):
    manifest = world / "corpora" / "tones" / "manifest.jsonl"
    text = manifest.read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    del rows[4]["values"]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        recipe = evaluate_recipe(
            world,
            tasks=[{"name": "tempo", "kind": "tempo", "corpus": "corpora/tones"}],
            models=[{"name": "base", "model": "models/base"}],
            output="faulty",
        )
        with pytest.raises(InputError, match=r"manifest.jsonl:5: track004: has no value tempo_bpm"):
            evaluate(recipe, world)
    finally:
        manifest.write_text(text)
