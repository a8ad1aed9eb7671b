"""A sweep end to end: λ = 0 is the base, the choice is on validation, a killed one goes on."""

import json
import shutil

import pytest
from checkpoints import make_mert_checkpoint
from probing import CONFIG, sweep_recipe, write_corpus, write_models
from small_models import folder_bytes

from mergekit_audio import merge
from mergekit_audio.errors import InputError, LayoutError, RecipeError
from mergekit_audio.lock import verify
from mergekit_audio.probe.ledger import Ledger
from mergekit_audio.sweep import plan, spaces, sweep
from mergekit_audio.sweep.merges import state_digest
from mergekit_audio.weights.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("sweep")
    write_models(root)
    write_corpus(root / "corpora" / "tones", seed=1)
    write_corpus(root / "corpora" / "west", seed=2)
    sweep(sweep_recipe(root, write_best=True), root, command="cmerge sweep-lambda sweep.yaml")
    return root


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def test_rows_are_base_cultures_and_the_grid_with_weight_averaging(world):
    summary = summary_of(world / "results")
    assert [(row["name"], row["kind"], row["scale"]) for row in summary["rows"]] == [
        ("base", "base", 0.0),
        ("makam", "culture", None),
        ("lyra", "culture", None),
        ("λ = 0.25", "merge", 0.25),
        ("λ = 0.5", "merge", 0.5),
        ("λ = 1", "merge", 1.0),
    ]
    averaged = [row["name"] for row in summary["rows"] if row["weight_average"]]
    assert averaged == ["λ = 0.5"]
    assert summary["weight_average_scale"] == 0.5
    assert len((world / "results" / "results.jsonl").read_text().splitlines()) == 6 * 2 * 2


def test_the_rows_of_the_table_are_compared_with_the_base(world):
    summary = summary_of(world / "results")
    compared = dict.fromkeys(tuple(e["models"]) for e in summary["differences"]["entries"])
    chosen = summary["selection"]["row"]
    shown = dict.fromkeys(["makam", "lyra", "λ = 0.5", chosen])
    assert list(compared) == [(name, "base") for name in shown if name != "base"]
    assert summary["leakage"] == {"findings": [], "unknown_training": ["base", "makam", "lyra"]}
    assert "makam − base" in (world / "results" / "table.md").read_text(encoding="utf-8")


def test_scale_zero_is_the_base_bit_for_bit(world):
    planned = plan(sweep_recipe(world), world).merge(spaces.Point((1.0,)))
    state = merge.apply_delta(planned, merge.compute_delta(planned), 0.0)
    assert state_digest(state) == Checkpoint.open("models/base", root=world).digest()
    half = merge.apply_delta(planned, merge.compute_delta(planned), 0.5)
    merge.run(plan(sweep_recipe(world), world).merge(spaces.Point((0.5,)), output="half"))
    written = Checkpoint.open("half", root=world)
    assert state_digest(half) == written.digest()
    merge.run(plan(sweep_recipe(world), world).merge(spaces.Point((0.0,)), output="none"))
    assert Checkpoint.open("none", root=world).digest() == state_digest(state)


def test_scale_zero_scores_equal_an_evaluation_of_the_base(world):
    from probing import evaluate_recipe

    from mergekit_audio.probe.run import evaluate

    tasks = [task.model_dump() for task in sweep_recipe(world).tasks]
    recipe = evaluate_recipe(
        world,
        models=[{"name": "base", "model": "models/base"}],
        tasks=tasks,
        output="alone",
        store="other_store",
    )
    evaluate(recipe, world)
    alone, swept = summary_of(world / "alone")["rows"][0], summary_of(world / "results")["rows"][0]
    assert alone["scores"] == swept["scores"]


def test_the_choice_is_the_best_on_validation(world):
    selection = summary_of(world / "results")["selection"]
    means = [point["valid"]["mean"] for point in selection["curve"]]
    best = [point["scale"] for point in selection["curve"]][means.index(max(means))]
    assert selection["scale"] == best
    assert selection["inside_maximum"] == (best not in (0.0, 1.0))
    assert selection["tasks"] == ["tones", "west"]


def test_the_best_merge_is_a_model_folder_that_verifies(world):
    best = world / "results" / "best"
    scale = summary_of(world / "results")["selection"]["scale"]
    assert json.loads((best / "cmerge.lock.json").read_text())["recipe"]["scale"] == scale
    assert (best / "config.json").is_file()
    assert (best / "README.md").is_file()
    assert verify(best) == []
    assert verify(world / "results") == []


class Killed(BaseException):
    pass


@pytest.mark.parametrize("points", [1, 7, 20])
def test_a_killed_sweep_goes_on_and_gives_the_same_bytes(world, tmp_path, monkeypatch, points):
    whole = folder_bytes(world / "results")
    output = world / f"again{points}"
    append = Ledger.append
    written = []

    def killing(self, line):
        if len(written) == points:
            with open(self.path, "ab") as stream:
                stream.write(b'{"model": "torn')
            raise Killed
        written.append(line)
        append(self, line)

    recipe = sweep_recipe(world, write_best=True)
    command = "cmerge sweep-lambda sweep.yaml"
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append", killing)
        with pytest.raises(Killed):
            sweep(recipe, world, command=command, output=output)
    assert not output.exists()
    sweep(recipe, world, command=command, output=output)
    again = folder_bytes(output)
    assert sorted(again) == sorted(whole)
    assert [name for name in whole if whole[name] != again[name]] == []
    assert not output.with_name(output.name + ".work").exists()


def test_an_existing_output_is_refused_without_force(world):
    before = folder_bytes(world / "results")
    with pytest.raises(InputError, match="already exists"):
        sweep(sweep_recipe(world), world)
    assert folder_bytes(world / "results") == before


def test_taking_a_culture_away_has_no_average(world):
    changed = sweep_recipe(
        world, cultures=[{"name": "makam", "model": "models/makam", "weight": -1.0}], scales=[0.5]
    )
    planned = plan(changed, world)
    assert [point.scale for point in planned.space.points] == [0.5]
    assert not planned.has_extra_average


def test_a_method_that_never_averages_gets_weight_averaging_as_a_row(world):
    ties = {"name": "ties", "density": 0.5}
    recipe = sweep_recipe(world, scales=[0.25], method=ties, output="unaveraged")
    sweep(recipe, world)
    rows = summary_of(world / "unaveraged")["rows"]
    assert [row["name"] for row in rows] == [
        "base",
        "makam",
        "lyra",
        "weight average",
        "λ = 0.25",
    ]
    marked = next(row for row in rows if row["weight_average"])
    swept = next(row for row in summary_of(world / "results")["rows"] if row["weight_average"])
    assert marked["digest"] == swept["digest"]
    assert marked["scores"] == swept["scores"]
    assert not marked["in_grid"]


@pytest.mark.parametrize(
    ("changes", "scales", "averaging"),
    [
        ({}, [0.0, 0.25, 0.5, 1.0], 0.5),
        ({"scales": [0.5, 0.0]}, [0.0, 0.5], 0.5),
        ({"scales": [-0.5]}, [-0.5, 0.0, 0.5], 0.5),
        ({"method": {"name": "weighted_average"}, "scales": [0.5]}, [0.0, 0.5, 1.0], 1.0),
    ],
)
def test_the_grid_has_base_and_average(tmp_path, changes, scales, averaging):
    recipe = sweep_recipe(tmp_path, **changes)
    points = spaces.scale_grid(recipe)
    assert [point.scale for point in points] == scales
    assert [point.scale for point in points if point.weight_average] == [averaging]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"seeds": [1, 1]}, "seeds must differ"),
        ({"scales": [0.5, 0.5]}, "scales must differ"),
        ({"compare": [{"name": "makam", "model": "m"}]}, "names of cultures and compared models"),
        ({"select": {"tasks": ["nowhere"]}}, "select.tasks names"),
    ],
)
def test_recipes_that_contradict_themselves_are_refused(tmp_path, changes, problem):
    with pytest.raises(RecipeError, match=problem):
        sweep_recipe(tmp_path, **changes)


def test_the_plan_counts_points_and_names_missing_models(world):
    value = plan(sweep_recipe(world), world).as_dict()
    assert value["points"] == 24
    assert value["train_first"] == []
    assert [sorted(task["tracks"]) for task in value["tasks"]] == [["test", "train", "valid"]] * 2
    gone = sweep_recipe(world, compare=[{"name": "multi", "model": "models/none"}])
    with pytest.raises(InputError, match="models/none"):
        plan(gone, world)


def test_the_plan_refuses_a_culture_of_another_size(world, tmp_path):
    other = make_mert_checkpoint(tmp_path / "other", overrides={**CONFIG, "num_hidden_layers": 1})
    recipe = sweep_recipe(world, cultures=[{"name": "other", "model": str(other)}])
    with pytest.raises(LayoutError, match=r"missing tensor encoder\.layers\.1\."):
        plan(recipe, world)


def test_cultures_are_trained_when_their_output_is_missing(world, tmp_path, monkeypatch):
    from mergekit_audio.sweep import training

    root = tmp_path
    shutil.copytree(world / "models", root / "models")
    shutil.copytree(world / "corpora", root / "corpora")
    (root / "makam.yaml").write_text(
        "kind: train\nbase: models/base\nbackbone: {name: mert}\nculture: makam\n"
        "corpus: corpora/tones\nteachers: [{name: cqt}]\n"
        "stages: [{name: adapt, train: ['*'], steps: 1, peak_lr: 1.0e-4}]\noutput: trained/makam\n"
    )
    recipe = sweep_recipe(
        root, cultures=[{"name": "makam", "train": "makam.yaml"}], scales=[1.0], seeds=[0]
    )
    planned = plan(recipe, root)
    assert planned.as_dict()["train_first"] == [
        {"name": "makam", "recipe": "makam.yaml", "output": "trained/makam"}
    ]
    ran = []

    def pretend(train_recipe, train_root, progress):
        ran.append(train_recipe.culture)
        shutil.copytree(root / "models" / "makam", train_root / train_recipe.output)

    monkeypatch.setattr(training, "_pretrain", pretend)
    sweep(recipe, root)
    assert ran == ["makam"]
    summary = summary_of(root / "results")
    assert summary["rows"][1]["digest"] == Checkpoint.open("models/makam", root=root).digest()
    sweep(recipe, root, force=True)
    assert ran == ["makam"]


def test_base_train_must_write_the_base(world, tmp_path):
    (tmp_path / "base.yaml").write_text(
        "kind: train\nbase: {preset: tiny, init: random}\nbackbone: {name: mert}\n"
        "culture: western\ncorpus: corpora/west\nteachers: [{name: cqt}]\n"
        "stages: [{name: all, train: ['*'], steps: 1, peak_lr: 1.0e-4}]\noutput: elsewhere\n"
    )
    with pytest.raises(RecipeError, match="writes elsewhere, but `base` is models/base"):
        plan(sweep_recipe(tmp_path, base_train="base.yaml"), tmp_path)


TRAINING = """
kind: train
backbone: {name: mert}
teachers: [{name: residual_kmeans, codebooks: 2, codebook_size: 8}]
arguments: {batch_size: 2, gradient_accumulation_steps: 1, crop_s: 1.0, num_threads: 1}
stages: [{name: all, train: ['*'], steps: 2, peak_lr: 1.0e-3}]
"""


def test_base_and_culture_are_really_trained_first(tmp_path):
    write_corpus(tmp_path / "corpora" / "west", tracks=20, seed=2)
    write_corpus(tmp_path / "corpora" / "tones", tracks=20, seed=1)
    (tmp_path / "base.yaml").write_text(
        TRAINING + "base: {preset: tiny, init: random}\nculture: western\n"
        "corpus: corpora/west\noutput: models/base\n"
    )
    (tmp_path / "makam.yaml").write_text(
        TRAINING + "base: models/base\nculture: makam\n"
        "corpus: corpora/tones\noutput: models/makam\n"
    )
    recipe = sweep_recipe(
        tmp_path,
        base_train="base.yaml",
        cultures=[{"name": "makam", "train": "makam.yaml"}],
        scales=[0.5],
        seeds=[0],
    )
    sweep(recipe, tmp_path)
    summary = summary_of(tmp_path / "results")
    assert [row["name"] for row in summary["rows"]] == ["base", "makam", "λ = 0.5", "λ = 1"]
    assert len({row["digest"] for row in summary["rows"][:3]}) == 3
    assert summary["rows"][1]["digest"] == summary["rows"][3]["digest"]  # one culture at λ = 1
    assert summary["rows"][1]["scores"] == summary["rows"][3]["scores"]
    (protocol,) = summary["notes"]
    assert protocol.startswith("tones, west: protocol of the recipe's own: chunks of 30 s")
    assert verify(tmp_path / "results") == []
    text = (tmp_path / "makam.yaml").read_text()
    (tmp_path / "makam.yaml").write_text(text.replace("steps: 2", "steps: 3"))
    assert plan(recipe, tmp_path).notes() == [
        "models/makam was made by other settings than makam.yaml holds now; it is used as it is."
    ]
