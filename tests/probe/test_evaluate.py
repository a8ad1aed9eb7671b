"""An evaluation end to end: scores, labels left out, resuming, faults of corpora."""

import json
import shutil

import numpy as np
import pytest
import torch
from probing import PROTOCOL, evaluate_recipe, write_corpus, write_models
from small_models import folder_bytes

from mergekit_audio.errors import InputError
from mergekit_audio.lock import verify
from mergekit_audio.probe import points
from mergekit_audio.probe.metrics import score_labels
from mergekit_audio.probe.run import evaluate, plan
from mergekit_audio.probe.scoring import track_predictions
from mergekit_audio.probe.splits import SplitData, load_splits


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluate")
    write_models(root, ("makam",))
    write_corpus(root / "corpora" / "tones", tracks=60, seed=1)
    evaluate(evaluate_recipe(root), root)
    return root


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def rewrite(folder, change):
    manifest = folder / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    manifest.write_text("".join(json.dumps(change(row)) + "\n" for row in rows))


def test_the_folder_holds_what_it_should_and_verifies(world):
    assert sorted(path.name for path in (world / "results").iterdir()) == [
        "cmerge.lock.json",
        "differences.csv",
        "differences.tex",
        "labels.csv",
        "labels.md",
        "report.html",
        "results.jsonl",
        "scores",
        "scores.pdf",
        "scores.png",
        "scores.svg",
        "summary.json",
        "table.csv",
        "table.json",
        "table.md",
        "table.tex",
        "table.txt",
        "transfer.csv",
        "transfer.pdf",
        "transfer.png",
        "transfer.svg",
    ]
    assert verify(world / "results") == []


def test_an_artist_in_two_splits_is_told_in_summary_table_and_talk(world, tmp_path):
    root = shutil.copytree(world, tmp_path / "copy")
    artists = {"track000": "Anna", "track004": "Anna", "track009": "Bela"}  # train, test, test
    rewrite(
        root / "corpora" / "tones",
        lambda row: row | ({"artist": artists[row["id"]]} if row["id"] in artists else {}),
    )
    told = []
    evaluate(evaluate_recipe(root), root, force=True, progress=told.append)
    (finding,) = summary_of(root / "results")["leakage"]["findings"]
    assert (finding["kind"], finding["shared"], finding["tracks"]) == ("artist", ["Anna"], 1)
    sentence = "Leakage, tones: 1 of 12 test tracks is by artists of the train split: Anna."
    assert sentence in (root / "results" / "table.md").read_text(encoding="utf-8")
    assert sentence in [event.note for event in told]


def test_changed_audio_is_noticed(world, tmp_path):
    root = shutil.copytree(world, tmp_path / "copy")
    elsewhere = root / "corpora" / "elsewhere.wav"
    (root / "corpora" / "tones" / "track000.wav").rename(elsewhere)
    move = {"path": "../elsewhere.wav"}
    rewrite(root / "corpora" / "tones", lambda row: row | (move if row["id"] == "track000" else {}))
    evaluate(evaluate_recipe(root), root, force=True)
    assert verify(root / "results") == []
    for changed in (elsewhere, root / "corpora" / "tones" / "track007.wav"):
        changed.write_bytes(changed.read_bytes()[:-2] + b"\x01\x02")
    assert [difference.name for difference in verify(root / "results")] == [
        "tasks.tones (corpora/tones) track007.wav",
        "tasks.tones (recordings) (corpora) elsewhere.wav",
    ]


def test_the_plan_reads_the_manifests(world):
    recipe = evaluate_recipe(world)
    task = plan(recipe, world).as_dict()["tasks"][0]
    assert task["tracks"] == {"train": 36, "valid": 12, "test": 12}
    gone = evaluate_recipe(world, tasks=[{"name": "tones", "corpus": "corpora/none"}])
    with pytest.raises(InputError, match="corpora/none: no such file or folder"):
        plan(gone, world)


def test_the_summary_sums_up_the_points(world):
    text = (world / "results" / "results.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    row = summary_of(world / "results")["rows"][0]
    mine = [line for line in lines if line["model"] == "base"]
    assert [line["seed"] for line in mine] == [0, 1]
    values = [line["test"]["roc_auc"] for line in mine]
    spread = row["scores"]["tones"]["test"]["roc_auc"]
    assert spread["seeds"] == values
    assert spread["mean"] == pytest.approx(np.mean(values))
    assert spread["std"] == pytest.approx(np.std(values, ddof=1))
    both = [(line["test"]["roc_auc"] + line["test"]["average_precision"]) / 2 for line in mine]
    assert row["averages"]["test"]["all"]["mean"] == pytest.approx(np.mean(both))
    per_label = [line["test"]["labels"]["pitch--high"]["roc_auc"] for line in mine]
    assert row["labels"]["tones"]["pitch--high"]["roc_auc"]["mean"] == pytest.approx(
        np.mean(per_label)
    )


def test_separable_tags_beat_chance(world):
    protocol = {**PROTOCOL, "max_epochs": 60, "patience": 20, "standardize": True}
    task = {"name": "tones", "corpus": "corpora/tones", "protocol": protocol}
    evaluate(evaluate_recipe(world, tasks=[task], output="longer"), world)
    scores = summary_of(world / "longer")["rows"][0]["scores"]["tones"]["test"]
    assert scores["roc_auc"]["mean"] > 0.85


def test_a_seed_scores_the_same_whoever_runs_beside_it(world):
    evaluate(evaluate_recipe(world, seeds=[7, 1], output="seeds"), world, workers=3)
    alone, beside = (summary_of(world / name)["rows"][1] for name in ("results", "seeds"))
    for metric in ("roc_auc", "average_precision"):
        here = alone["scores"]["tones"]["test"][metric]["seeds"]
        there = beside["scores"]["tones"]["test"][metric]["seeds"]
        assert here[1] == there[1]


def test_threads_and_a_kill_change_no_byte(world, monkeypatch):
    whole = folder_bytes(world / "results")
    append = points.Ledger.append
    count = []

    def killing(self, line):
        if len(count) == 3:
            raise KeyboardInterrupt
        count.append(line)
        append(self, line)

    with monkeypatch.context() as patch:
        patch.setattr(points.Ledger, "append", killing)
        with pytest.raises(KeyboardInterrupt):
            evaluate(evaluate_recipe(world), world, output=world / "killed")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        evaluate(evaluate_recipe(world), world, output=world / "killed", workers=2)
    finally:
        torch.set_num_threads(before)
    again = folder_bytes(world / "killed")
    assert [name for name in whole if whole[name] != again[name]] == []


def test_labels_with_one_class_are_listed_with_the_reason(world):
    folder = write_corpus(world / "corpora" / "rare", tracks=30, seed=1)

    def change(row):
        extra = ["always--there"] + (["mood--rare"] if row["id"] == "track000" else [])
        return row | {"tags": row["tags"] + extra}

    rewrite(folder, change)
    task = {"name": "tones", "corpus": "corpora/rare", "protocol": PROTOCOL}
    evaluate(evaluate_recipe(world, tasks=[task], output="rare"), world)
    unscored = summary_of(world / "rare")["tasks"][0]["unscored"]
    assert unscored["test"]["without_positives"] == ["mood--rare"]
    assert unscored["test"]["without_negatives"] == ["always--there"]
    table = (world / "rare" / "table.md").read_text()
    assert "1 of 5 labels without positives are left out of the macro means: mood--rare" in table


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row | {"split": "train"}, "none of its 10 tracks is in valid or test"),
        (lambda row: row | {"tags": []}, "needs tags, and no training track has one"),
        (lambda row: row | {"tags": ["a--b"]}, "the train split: none of its 1 tags has both"),
    ],
)
def test_a_corpus_that_can_not_be_probed_is_refused(world, tmp_path, change, message):
    folder = write_corpus(tmp_path / "corpus", tracks=10)
    rewrite(folder, change)
    recipe = evaluate_recipe(
        world, tasks=[{"name": "tones", "corpus": str(folder)}], output="refused"
    )
    with pytest.raises(InputError, match=message):
        evaluate(recipe, world)
    assert not (world / "refused").exists()


def test_a_layer_that_is_not_there_is_refused(world):
    task = {"name": "tones", "corpus": "corpora/tones", "protocol": {**PROTOCOL, "layer": 3}}
    with pytest.raises(InputError, match="layer is 3, but the encoder has hidden states 0 to 2"):
        evaluate(evaluate_recipe(world, tasks=[task], output="layered"), world)


def test_a_model_without_a_config_is_refused(world):
    (world / "models" / "bare").mkdir(exist_ok=True)
    weights = (world / "models" / "base" / "model.safetensors").read_bytes()
    (world / "models" / "bare" / "model.safetensors").write_bytes(weights)
    recipe = evaluate_recipe(world, models=[{"name": "bare", "model": "models/bare"}])
    with pytest.raises(InputError, match=r"no config\.json"):
        plan(recipe, world)


def test_the_plan_counts_points(world):
    value = plan(evaluate_recipe(world), world).as_dict()
    assert value["points"] == 4
    assert [entry["name"] for entry in value["models"]] == ["base", "makam"]


class Fixed:
    """A head that returns given logits."""

    def __init__(self, logits):
        self.logits = torch.tensor(logits)

    def __call__(self, features):
        return self.logits


def test_chunks_are_averaged_per_track():
    logits = [[0.0], [2.0], [-1.0], [4.0]]
    data = SplitData(torch.zeros(4, 1), np.array([0, 3]), np.array([[True], [False]]))
    sigmoid = 1 / (1 + np.exp(-np.array(logits)))
    found = track_predictions(Fixed(logits), data, "mean_probability")
    np.testing.assert_allclose(found, [[sigmoid[:3].mean()], [sigmoid[3, 0]]], atol=1e-7)
    found = track_predictions(Fixed(logits), data, "mean_logit")
    np.testing.assert_allclose(found, [[1 / 3], [4]], atol=1e-7)
    np.testing.assert_array_equal(data.chunk_targets(), [[1], [1], [1], [0]])


def test_standardized_features_use_the_training_split_alone(world):
    from mergekit_audio.audio.store import Store
    from mergekit_audio.backbones.mert import Mert
    from mergekit_audio.probe.features import Features
    from mergekit_audio.probe.tasks import prepare_task

    protocol = {**PROTOCOL, "standardize": True}
    task_recipe = evaluate_recipe(
        world, tasks=[{"name": "tones", "corpus": "corpora/tones", "protocol": protocol}]
    ).tasks[0]
    task = prepare_task(task_recipe, Mert(), world, Store(world / ".cmerge_store"))
    values = np.random.default_rng(0).standard_normal((60, 3, 4)).astype(np.float32)
    ids = tuple(track.track.id for track in task.corpus.tracks)
    data = load_splits(Features("k", values, (0, 1, 2), 3, np.arange(60), ids, {}), task)
    train, test = values[task.splits == "train"], values[task.splits == "test"]
    expected = (test - train.mean(axis=0)) / train.std(axis=0)
    np.testing.assert_allclose(data["test"].features.numpy(), expected, atol=1e-5)


def test_scores_are_the_mean_over_labels_of_tracks():
    found = score_labels(
        np.array([[0.9, 0.1], [0.2, 0.3], [0.5, 0.2]]),
        np.array([[1, 1], [0, 0], [1, 0]], dtype=bool),
        ["a", "b"],
        split="test",
    )
    assert found.as_dict()["roc_auc"] == 0.5  # 1 and 0
