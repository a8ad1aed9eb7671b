"""Dense sweeps: interpolated points agree with direct ones, and nothing old or broken is used."""

import json
import shutil

import numpy as np
import pytest
from checkpoints import make_mert_checkpoint
from probing import CONFIG, sweep_recipe, write_corpus, write_models
from small_models import folder_bytes

from mergekit_audio import merge
from mergekit_audio.errors import NotFiniteError, RecipeError
from mergekit_audio.lock import verify
from mergekit_audio.probe.ledger import Ledger
from mergekit_audio.recipe.spaces import Interpolate
from mergekit_audio.sweep import plan, sweep
from mergekit_audio.sweep.dense.finder import NodeFinder
from mergekit_audio.sweep.landscape import Landscape
from mergekit_audio.sweep.merges import Merges, state_digest
from mergekit_audio.sweep.spaces import Point
from mergekit_audio.weights.checkpoint import Checkpoint

SCREEN = {"estimator": "ridge", "standardize": True}
TASKS = [
    {"name": "tones", "corpus": "corpora/tones", "protocol": SCREEN},
    {"name": "west", "corpus": "corpora/west", "western": True, "protocol": SCREEN},
]
GROUPS = [{"name": "front", "match": "feature_extractor.*"}, {"name": "first", "layers": [0, 0]}]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("dense")
    write_models(root)
    write_corpus(root / "corpora" / "tones", tracks=20, seed=1)
    write_corpus(root / "corpora" / "west", tracks=20, seed=2)
    sweep(dense_recipe(root), root)
    return root


def dense_recipe(root, **changes):
    value = {
        "tasks": TASKS,
        "seeds": [0],
        "scales": [0.0, 1.0],
        "interpolate": {"points": 11, "tolerance": 2e-3},
        "select": {"resamples": 50},
        "resamples": 0,
        **changes,
    }
    return sweep_recipe(root, **value)


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def by_name(summary):
    return {row["name"]: row for row in summary["rows"]}


def features_of(landscape, row, task):
    """Return a row's features of the tracks of training and validation."""
    return landscape.runner.features(row, task).of_tracks(task.splits != "test").values


def captured(recipe, root, monkeypatch):
    """Run a sweep and return its landscape."""
    seen = []
    run = Landscape.run

    def watched(self):
        seen.append(self)
        run(self)

    with monkeypatch.context() as patch:
        patch.setattr(Landscape, "run", watched)
        sweep(recipe, root, force=True)
    return seen[0]


def test_interpolated_features_and_scores_agree_with_direct_ones(world, monkeypatch):
    dense = captured(dense_recipe(world, output="watched"), world, monkeypatch)
    scales = [point.scales[0] for point in dense.space.points]
    direct = dense_recipe(world, scales=scales, interpolate=None, output="direct")
    sweep(direct, world, force=True)
    ours, theirs = (by_name(summary_of(world / name)) for name in ("watched", "direct"))
    assert list(ours) == list(theirs)
    assert any(row["interpolated"] for row in ours.values() if row["kind"] == "merge")
    assert not any(row.get("interpolated") for row in theirs.values())
    found = dense.interpolations[0]
    assert found.accepted
    for task in dense.runner.tasks:
        exact = {
            point.scales: features_of(dense, dense.merges.row(point), task)
            for point in dense.space.points
        }
        start = features_of(dense, dense.base, task)
        unit = max(np.linalg.norm(each - start, axis=-1).mean() for each in exact.values())
        for scales, values in exact.items():
            near = found.features(scales, task.task.name).values
            assert near.shape == values.shape
            assert np.linalg.norm(near - values, axis=-1).mean() <= 2e-3 * unit
    for name, row in ours.items():
        for task in ("tones", "west"):
            mine, other = (
                each["scores"][task]["valid"]["roc_auc"]["mean"] for each in (row, theirs[name])
            )
            assert mine == pytest.approx(other, abs=0.002)


def test_errors_are_in_the_summary_the_notes_and_the_figure(world):
    summary = summary_of(world / "results")
    (found,) = summary["interpolation"]
    assert found["accepted"]
    assert len(found["nodes"]) <= 9
    degrees = range(2, len(found["nodes"]))
    assert [test["nodes"] for test in found["tests"]] == [d + 1 for d in degrees for _ in "12"]
    assert not [test for test in found["tests"][-2:] if test["scales"] in found["nodes"]]
    assert set(found["tests"][-1]["tasks"]) == {"tones", "west"}
    assert all(task["mean"] <= 2e-3 for t in found["tests"][-2:] for task in t["tasks"].values())
    assert {task["tracks"] for task in found["tests"][-1]["tasks"].values()} == {8}
    if found["chosen"] is not None:
        assert all(task["mean"] <= 2e-3 for task in found["chosen"]["tasks"].values())
    text = (world / "results" / "table.txt").read_text()
    assert f"Features between {len(found['nodes'])} extracted λ are interpolated" in text
    assert verify(world / "results") == []


def test_test_scores_are_those_of_marked_and_chosen_points_alone(world):
    summary = summary_of(world / "results")
    tested = [row["name"] for row in summary["rows"] if "test" in row["averages"]]
    expected = ["base", "makam", "lyra", "λ = 0.5"]
    chosen = summary["selection"]["row"]
    assert sorted(tested) == sorted({*expected, chosen})
    assert not by_name(summary)[chosen]["interpolated"]
    lines = [
        json.loads(line)
        for line in (world / "results/results.jsonl").read_text().split("\n")
        if line
    ]
    assert len(lines) == len(summary["rows"]) * 2
    assert len({(line["model"], line["task"], line["seed"]) for line in lines}) == len(lines)
    assert all(("test" in line) == (line["model"] in tested) for line in lines)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("points", [3, 14])
def test_a_killed_dense_sweep_goes_on_and_has_each_point_once(world, monkeypatch, points):
    whole = folder_bytes(world / "results")
    output, written, append = world / f"again{points}", [], Ledger.append

    def killing(self, line):
        if len(written) == points:
            raise Killed
        written.append(line)
        append(self, line)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append", killing)
        with pytest.raises(Killed):
            sweep(dense_recipe(world), world, output=output)
    sweep(dense_recipe(world), world, output=output)
    again = folder_bytes(output)
    assert sorted(again) == sorted(whole)
    assert [name for name in whole if whole[name] != again[name]] == []


def test_a_changed_checkpoint_is_never_served_from_the_cache(world, tmp_path):
    for part in ("models", "corpora"):
        shutil.copytree(world / part, tmp_path / part)
    shutil.copytree(world / ".cmerge_store", tmp_path / ".cmerge_store")
    few = {"points": 5, "tolerance": 2e-3}
    recipe = dense_recipe(tmp_path, interpolate=few)
    shutil.rmtree(tmp_path / "models" / "lyra")
    make_mert_checkpoint(
        tmp_path / "models" / "lyra",
        overrides=CONFIG,
        seed=9,
        perturb_of=tmp_path / "models" / "base",
        perturb_scale=0.05,
    )
    sweep(recipe, tmp_path)
    other = dense_recipe(tmp_path, store="fresh_store", output="fresh", interpolate=few)
    sweep(other, tmp_path)
    mine, fresh = (summary_of(tmp_path / name) for name in ("results", "fresh"))
    assert [row["scores"] for row in mine["rows"]] == [row["scores"] for row in fresh["rows"]]
    old = by_name(summary_of(world / "results"))
    assert by_name(mine)["base"]["digest"] == old["base"]["digest"]
    assert by_name(mine)["lyra"]["digest"] != old["lyra"]["digest"]
    assert mine["interpolation"] != summary_of(world / "results")["interpolation"]


def test_what_misses_the_tolerance_is_evaluated_directly(world):
    few = {"points": 11, "tolerance": 1e-9, "max_nodes": 3}
    recipe = dense_recipe(world, scales=[0.0, 0.25, 1.0], interpolate=few, output="missed")
    sweep(recipe, world, force=True)
    summary = summary_of(world / "missed")
    assert not summary["interpolation"][0]["accepted"]
    assert not any(row.get("interpolated") for row in summary["rows"])
    assert {"λ = 0.25", "λ = 0.5", "λ = 1"} <= set(by_name(summary))
    assert any("misses the tolerance" in note for note in summary["notes"])


def test_what_bfloat16_rounds_is_no_error_of_the_interpolation():
    finder = NodeFinder(None, Interpolate(tolerance=1e-3))

    def tested(mean, rounding):
        return {"tasks": {"tones": {"mean": mean, "max": mean, "rounding": rounding}}}

    assert finder._is_accurate([tested(0.02, 0.011)] * 2)
    assert not finder._is_accurate([tested(0.03, 0.011)] * 2)
    assert not finder._is_accurate([tested(0.02, 0.0)] * 2)
    assert not finder._is_accurate([tested(0.0, 0.0)])


def test_diverging_weights_are_told_and_left_out(world):
    recipe = dense_recipe(world, scales=[0.5, 1e25], interpolate=None, output="diverging")
    sweep(recipe, world, force=True)
    summary = summary_of(world / "diverging")
    assert [each["row"] for each in summary["diverged"]] == ["λ = 1e+25"]
    assert "λ = 1e+25" not in by_name(summary)
    assert any(note.startswith("Left out: λ = 1e+25") for note in summary["notes"])
    many = {"points": 3, "tolerance": 2e-3, "max_nodes": 4}
    recipe = dense_recipe(world, scales=[0.0, 1e7], interpolate=many, output="shrunk")
    sweep(recipe, world, force=True)
    (found,) = summary_of(world / "shrunk")["interpolation"]
    assert found["high"][0] < 1e7
    assert any("instead of from 0 to 1e+07" in note for note in found["notes"])


def test_a_base_that_diverges_stops_the_sweep(world, tmp_path):
    for part in ("models", "corpora"):
        shutil.copytree(world / part, tmp_path / part)
    shutil.rmtree(tmp_path / "models" / "base")
    make_mert_checkpoint(
        tmp_path / "models" / "base",
        overrides=CONFIG,
        seed=3,
        perturb_of=world / "models" / "base",
        perturb_scale=1e25,
    )
    with pytest.raises(NotFiniteError, match=r"base on tones: .*track000\.wav"):
        sweep(dense_recipe(tmp_path), tmp_path)


def test_a_broken_file_and_a_label_without_positives_are_reported(world, tmp_path):
    shutil.copytree(world / "models", tmp_path / "models")
    for name in ("tones", "west"):
        write_corpus(tmp_path / "corpora" / name, tracks=20, seed=4)
    corpus = tmp_path / "corpora" / "tones"
    (corpus / "track001.wav").write_bytes(b"no sound")
    rows = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    for row in rows:
        row["tags"] = [*row["tags"], *(["rare--tag"] if row["split"] == "train" else [])]
    rows[0]["tags"] = ["pitch--low"]
    (corpus / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sweep(dense_recipe(tmp_path), tmp_path)
    task = summary_of(tmp_path / "results")["tasks"][0]
    assert "track001" in json.dumps(task["left_out"])
    assert task["unscored"]["valid"]["without_positives"] == ["rare--tag"]
    assert "labels without positives" in (tmp_path / "results" / "table.txt").read_text()


def test_every_culture_has_its_own_scale(world):
    recipe = dense_recipe(
        world,
        space="per_culture",
        scales=[-0.25, 1.0],
        interpolate={"points": 8, "tolerance": 0.5},
        select={
            "objective": "mean(non_western) subject to western >= base - 0.5",
            "resamples": 50,
        },
        write_best=True,
        output="landscape",
    )
    sweep(recipe, world, force=True)
    summary = summary_of(world / "landscape")
    rows = by_name(summary)
    assert rows["makam"]["scales"] == {"makam": 1.0, "lyra": 0.0}
    assert rows["makam"]["in_grid"]
    negations = [row for row in summary["rows"] if row.get("negation")]
    assert [row["scales"] for row in negations] == [
        {"makam": -0.25, "lyra": 0.0},
        {"makam": 0.0, "lyra": -0.25},
    ]
    assert all("test" in row["averages"] for row in negations)
    best = rows[summary["selection"]["row"]]
    assert not best["interpolated"]
    assert Checkpoint.open("landscape/best", root=world).digest() == best["digest"]
    assert summary["selection"]["row"] in summary["selection"]["band"]["members"]


@pytest.mark.parametrize(
    ("changes", "scales"),
    [
        ({"space": "per_culture"}, (0.3, -0.2)),
        ({"space": "groups", "groups": GROUPS}, (0.3, 0.0)),
        ({"method": {"name": "ties"}, "method_grid": {"density": [0.2, 0.5]}}, (0.3,)),
    ],
)
def test_a_point_in_memory_has_the_bits_of_its_merge_on_disk(world, tmp_path, changes, scales):
    planned = plan(dense_recipe(world, interpolate=None, **changes), world)
    point = Point(scales, len(planned.space.variants) - 1)
    state = Merges(planned, planned.space, Checkpoint.open("models/base", root=world)).state(point)
    merge.run(planned.merge(point), output=tmp_path / "merged")
    assert Checkpoint.open(str(tmp_path / "merged"), root=world).digest() == state_digest(state)


def test_one_scale_for_each_group_moves_these_tensors_alone(world):
    recipe = dense_recipe(world, space="groups", groups=GROUPS, scales=[0.5], interpolate=None)
    planned = plan(recipe, world)
    assert [point.scales for point in planned.space.points] == [(0.0, 0.5), (0.5, 0.0), (0.5, 0.5)]
    base = Checkpoint.open("models/base", root=world)
    state = Merges(planned, planned.space, base).state(planned.space.points[1])
    moved = {name for name in state if not np.array_equal(state[name].numpy(), base.bits(name))}
    assert moved
    assert all(name.startswith("feature_extractor.") for name in moved)


def test_a_methods_own_parameters_are_swept(world):
    recipe = dense_recipe(
        world,
        method={"name": "ties"},
        method_grid={"density": [0.2, 0.5]},
        scales=[1.0],
        interpolate=None,
        output="ties",
    )
    sweep(recipe, world, force=True)
    summary = summary_of(world / "ties")
    assert {"λ = 1, density = 0.2", "λ = 1, density = 0.5"} <= set(by_name(summary))
    digests = {row["digest"] for row in summary["rows"]}
    assert len(digests) == len(summary["rows"])


def test_an_automatic_range_ends_where_merges_are_as_far_as_the_models(world):
    planned = plan(dense_recipe(world, scales="auto", interpolate=None), world)
    scales = [point.scales[0] for point in planned.space.points if not point.weight_average]
    # two independent task vectors of one size: 1/√2, rounded up to two digits
    assert scales[-1] == pytest.approx(0.71, abs=0.02)
    assert any("as far from the base" in note for note in planned.notes())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"space": "per_culture", "method": {"name": "ties"}}, "is a sum of task vectors"),
        ({"space": "groups"}, "`space: groups` and `groups` go together"),
        ({"method_grid": {"density": [0.1]}}, "has no parameter 'density'"),
        ({"scales": {"from": 1, "to": 0}}, "must be below"),
        ({"interpolate": {"max_nodes": 3}, "space": "per_culture"}, None),
        ({"select": {"objective": "mean(westrn)"}}, "did you mean 'western'"),
        ({"select": {"objective": "mean(all)", "tasks": ["west"]}}, "either `tasks` or"),
    ],
)
def test_what_contradicts_itself_is_refused(world, changes, problem):
    if problem is None:
        dense_recipe(world, **changes)
        return
    with pytest.raises(RecipeError, match=problem):
        dense_recipe(world, **changes)
