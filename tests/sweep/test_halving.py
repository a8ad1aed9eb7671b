"""Successive halving: rounds, parts of tasks, cost, and a whole search of small models."""

import json
from pathlib import Path

import numpy as np
import pytest
from probing import sweep_recipe, write_corpus, write_models
from pydantic import ValidationError
from small_models import folder_bytes

from mergekit_audio.audio.corpus import Track
from mergekit_audio.audio.prepared import PreparedCorpus, PreparedTrack
from mergekit_audio.audio.report import PrepareReport
from mergekit_audio.errors import InputError
from mergekit_audio.lock import verify
from mergekit_audio.probe.embedding import Embedder
from mergekit_audio.probe.ledger import Ledger
from mergekit_audio.probe.tasks import PreparedTask
from mergekit_audio.recipe.evaluate import Task
from mergekit_audio.recipe.search import Halving, Search
from mergekit_audio.recipe.sweep import SweepRecipe
from mergekit_audio.sweep import plan, run, sweep
from mergekit_audio.sweep.searches.halving import (
    Round,
    extracted_tracks,
    halve,
    part_of_task,
    rounds,
    search_extractions,
    smallest_scorable,
    stratified_order,
)

SEARCH = {"sampler": "halving", "trials": 8, "halving": {"factor": 2, "fewest_tracks": 6}}
TRAIN, VALID, TEST = 18, 6, 6


def task_of(targets, splits, kind="tagging", name="tones"):
    tracks = tuple(
        PreparedTrack(Track(f"t{i:02d}", Path(f"t{i}"), split=split), 10, f"d{i}", Path("x"))
        for i, split in enumerate(splits)
    )
    corpus = PreparedCorpus(Path("c"), 24_000, tracks, PrepareReport(), ())
    labels = tuple("abc") if kind == "multiclass" else ("a", "b")
    return PreparedTask(
        Task.model_validate({"name": name, "corpus": "c", "kind": kind, "western": False}),
        corpus,
        labels,
        np.array(splits),
        np.array(targets),
        "whole",
    )


def test_rounds_are_what_the_formula_says():
    found = rounds(27, [120, 200], Halving(factor=3, fewest_tracks=10))
    assert [each.candidates for each in found] == [27, 9, 3]
    assert [each.share for each in found] == pytest.approx([1 / 9, 1 / 3, 1.0])
    assert [each.text() for each in found] == [
        "1/9 of the tracks",
        "1/3 of the tracks",
        "all tracks",
    ]
    assert rounds(27, [29], Halving(factor=3, fewest_tracks=10)) == [Round(27, 1.0)]
    assert [each.candidates for each in rounds(4, [1000], Halving(fewest_tracks=2))] == [4, 1]


def test_the_cost_is_that_of_the_new_tracks_of_each_round():
    found = rounds(9, [90], Halving(factor=3, fewest_tracks=10))
    assert extracted_tracks(found, 72, 18) == 9 * 10 + 3 * (30 - 10) + (90 - 30)
    assert extracted_tracks(found, 72, 18, keeps_rows=False) == 9 * 10 + 3 * 30 + 90
    held = {"train": 72, "valid": 18, "test": 18}
    settings = Search(sampler="halving", trials=9, halving=Halving(fewest_tracks=10))
    assert search_extractions(settings, [held]) == 3  # 210 / 90
    assert search_extractions(Search(trials=9), [held]) == 9
    assert search_extractions(None, [held]) == 0


def test_a_first_part_of_an_order_has_every_kind():
    generator = np.random.default_rng(0)
    classes = generator.permutation([0] * 40 + [1] * 16 + [2] * 8)
    task = task_of(classes, ["train"] * 64, "multiclass")
    order = stratified_order(task, "train", seed=3)
    assert sorted(order) == list(range(64))
    assert np.bincount(classes[order[:8]], minlength=3).tolist() == [5, 2, 1]
    assert stratified_order(task, "train", seed=3) == order
    assert stratified_order(task, "train", seed=4) != order
    tags = np.array([[True, i % 8 == 0] for i in range(64)])
    rare = stratified_order(task_of(tags, ["train"] * 64), "train", seed=0)
    assert tags[rare[:8]].sum(axis=0).tolist() == [8, 1]
    values = stratified_order(
        task_of(np.arange(40.0)[:, None], ["train"] * 40, "regression"), "train", seed=0
    )
    assert sorted(place // 8 for place in values[:5]) == [0, 1, 2, 3, 4]


def test_a_part_has_fewer_tracks_no_test_and_a_digest_of_its_own():
    splits = ["train"] * 12 + ["valid"] * 8 + ["test"] * 4
    targets = np.array([[i % 2 == 0, i % 2 == 1] for i in range(24)])
    whole = task_of(targets, splits)
    quarter, half = (part_of_task(whole, share, seed=1) for share in (0.25, 0.5))
    assert quarter.splits.tolist() == ["train"] * 3 + ["valid"] * 2
    assert half.splits.tolist() == ["train"] * 6 + ["valid"] * 4
    assert set(quarter.track_ids()) < set(half.track_ids())
    assert len({whole.digest, quarter.digest, half.digest}) == 3
    assert half.targets.shape == (10, 2)
    assert [each.track.split for each in half.corpus.tracks] == half.splits.tolist()


def test_rounds_on_which_nothing_can_be_scored_are_left_out():
    splits = ["train"] * 12 + ["valid"] * 4 + ["test"] * 4
    targets = np.array([[i % 2 == 0, i % 2 == 1] for i in range(20)])
    whole = task_of(targets, splits)
    found = [Round(9, 0.25), Round(3, 0.5), Round(1, 1.0)]
    with pytest.raises(InputError, match="the valid split"):
        part_of_task(whole, 0.25, seed=0)
    left, why = smallest_scorable(found, [whole], seed=0)
    assert left == [Round(9, 0.5), Round(1, 1.0)]
    assert why[0].startswith("Halving leaves out its round on 1/4 of the tracks: task 'tones'")


def test_the_best_of_many_is_found_though_early_scores_are_noisy():
    generator = np.random.default_rng(5)
    candidates = [float(value) for value in np.linspace(0, 1, 27)]
    found = [Round(27, 1 / 9), Round(9, 1 / 3), Round(3, 1.0)]
    asked = []

    def score(scale, place):
        asked.append(place)
        if scale == candidates[-1]:
            return None
        return -abs(scale - 0.3) + 0.02 * (1 - found[place].share) * generator.normal()

    ranked = halve(candidates, found, score, abs)
    assert [asked.count(place) for place in range(3)] == [27, 9, 3]
    assert abs(ranked[0] - 0.3) == min(abs(scale - 0.3) for scale in candidates)
    assert halve([0.5, 0.2], [Round(2, 1.0)], lambda *_: 1.0, abs) == [0.2, 0.5]


@pytest.fixture(scope="module")
def halved(tmp_path_factory):
    """A sweep with halving, the tracks that its search embedded, and the recipe's root."""
    root = tmp_path_factory.mktemp("halving")
    write_models(root)
    for seed, name in enumerate(("tones", "west"), 1):
        write_corpus(root / "corpora" / name, seed=seed)
    embedded = {"all": 0, "search": 0}
    compute, searching = Embedder.compute, run.search_landscape

    def counted(self, batches, **settings):
        embedded["all"] += sum(len(batch) for batch in batches)
        yield from compute(self, batches, **settings)

    def watched(*arguments):
        before = embedded["all"]
        found = searching(*arguments)
        embedded["search"] = embedded["all"] - before
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Embedder, "compute", counted)
        patch.setattr(run, "search_landscape", watched)
        sweep(recipe_of(root), root)
    return root, embedded["search"]


def recipe_of(root, **changes):
    protocol = {"preset": "screen"}
    tasks = [
        {"name": "tones", "corpus": "corpora/tones", "protocol": protocol},
        {"name": "west", "corpus": "corpora/west", "western": True, "protocol": protocol},
    ]
    settings = {
        "space": "per_culture",
        "search": SEARCH,
        "tasks": tasks,
        "seeds": [0],
        "resamples": 0,
        "select": {"resamples": 20, "objective": "mean(all) subject to western >= base - 50"},
        "store": "store",
        "output": "halved",
    }
    return sweep_recipe(root, **{**settings, **changes})


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def test_a_search_embeds_what_the_formula_says(halved):
    root, embedded = halved
    found = rounds(8, [TRAIN + VALID] * 2, Halving(factor=2, fewest_tracks=6))
    assert [each.candidates for each in found] == [8, 4, 2]
    assert embedded == 2 * extracted_tracks(found, TRAIN, VALID)
    assert embedded < 0.6 * 2 * 8 * (TRAIN + VALID)
    held = plan(recipe_of(root), root)
    # base, two cultures, weight averaging and what halving counts as
    assert held.extractions() == (3 + 1 + 5,) * 2


def test_rows_on_fewer_tracks_are_lines_but_no_points(halved):
    folder = halved[0] / "halved"
    summary = summary_of(folder)
    search = summary["search"]
    assert [each["candidates"] for each in search["halving"]["rounds"]] == [8, 4, 2]
    assert search["halving"]["rounds"][0]["tracks"] == {"tones": 7, "west": 7}
    assert search["halving"]["extractions"] == 5  # 200 / 48
    assert [each["share"] for each in search["trials"]] == [0.25] * 8 + [0.5] * 4 + [1.0] * 2
    names = {row["name"] for row in summary["rows"]}
    assert {each["row"] for each in search["trials"] if each["share"] == 1} <= names
    assert not any("of the tracks" in name for name in names)
    assert not any("of the tracks" in each["row"] for each in summary["selection"]["curve"])
    assert any("Successive halving: 8 λ" in note for note in summary["notes"])
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    points = [(line["model"], line["task"], line["seed"]) for line in lines]
    assert len(points) == len(set(points))
    keys = [(line["model_key"], line["task_digest"], line["seed"]) for line in lines]
    assert len(keys) == len(set(keys))
    parts = [line for line in lines if "budget" in line]
    assert len(parts) == 2 * (9 + 5)  # the candidates of both rounds, and the base
    assert parts[0]["budget"] == {"share": 0.25, "tracks": 7, "of": 30}
    assert all("test" not in line for line in parts)
    assert verify(folder) == []


def test_the_best_of_a_round_go_on(halved):
    trials = summary_of(halved[0] / "halved")["search"]["trials"]
    values = {tuple(each["scales"].values()): each["values"][0] for each in trials[:8]}
    second = {tuple(each["scales"].values()) for each in trials[8:12]}
    assert len(second) == 4
    left_out = [value for scales, value in values.items() if scales not in second]
    assert min(values[scales] for scales in second) >= max(left_out)


def test_a_killed_halving_goes_on_to_the_same_bytes(halved, monkeypatch):
    root = halved[0]
    append, lines = Ledger.append, []

    class KilledError(Exception):
        pass

    def killing(self, line):
        append(self, line)
        lines.append(line)
        if len(lines) == 20:
            raise KilledError

    again = recipe_of(root, output="again")
    monkeypatch.setattr(Ledger, "append", killing)
    with pytest.raises(KilledError):
        sweep(again, root)
    monkeypatch.setattr(Ledger, "append", append)
    sweep(again, root)
    whole, resumed = (folder_bytes(root / name) for name in ("halved", "again"))
    for name in ("results.jsonl", "summary.json", "table.md"):
        assert resumed[name] == whole[name], name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interpolate": {"points": 11}}, "saves extractions, which interpolated λ do not need"),
        ({"search": {"sampler": "tpe", "halving": {}}}, "`halving` belongs to `sampler: halving`"),
        ({"search": {"sampler": "tpe", "steps": 3}}, "`steps` belongs to `sampler: greedy`"),
        ({"search": {"sampler": "halving", "halving": {"factor": 1}}}, "greater than or equal"),
    ],
)
def test_what_no_recipe_says(tmp_path, changes, message):
    value = sweep_recipe(tmp_path, search=SEARCH).model_dump(mode="json")
    with pytest.raises(ValidationError, match=message):
        SweepRecipe.model_validate({**value, **changes})
