"""An ablation end to end: four trainings from one recipe, resumed, not repeated, in Table 1."""

import csv
import io
import json

import pytest
import yaml
from pretraining import make_project, make_recipe
from probing import PROTOCOL, write_corpus
from small_models import folder_bytes

from mergekit_audio import pretrain
from mergekit_audio.errors import InputError, RecipeError
from mergekit_audio.lock import read_lock, verify
from mergekit_audio.rebuild import rebuild
from mergekit_audio.recipe.load import from_dict, load
from mergekit_audio.sweep.ablations import running as engine
from mergekit_audio.sweep.ablations.strategies import constant_stage, single_stage, strategies
from mergekit_audio.weights.checkpoint import Checkpoint

FORGETTING = {"every_steps": 3, "clips": 2}
NAMES = ["single_stage", "no_rewarm", "stage_1", "both_stages"]


def ablation_recipe(root, **changes):
    value = {
        "kind": "ablation",
        "train": "makam.yaml",
        "tasks": [
            {"name": "tones", "corpus": "corpora/tones", "protocol": PROTOCOL},
            {"name": "west", "corpus": "corpora/west", "western": True, "protocol": PROTOCOL},
        ],
        "seeds": [0, 1],
        "store": "store",
        "output": "results",
        **changes,
    }
    return from_dict(value, root)


def write_training(path, **changes):
    changes = {"forgetting": FORGETTING, **changes}
    recipe = make_recipe(**changes).model_dump(mode="json", exclude_unset=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = make_project(tmp_path_factory.mktemp("ablation"))
    write_training(root / "makam.yaml")
    write_corpus(root / "corpora" / "tones", seed=1)
    write_corpus(root / "corpora" / "west", seed=2)
    engine.ablation(ablation_recipe(root), root, command="cmerge ablation ablation.yaml")
    return root


def test_the_four_trainings_differ_from_the_two_stage_recipe_as_table_1_says(world):
    two_stage = load(world / "makam.yaml").recipe
    runs = {each.name: each for each in strategies(ablation_recipe(world), world).runs}
    assert list(runs) == NAMES
    assert runs["both_stages"].recipe == two_stage
    assert runs["stage_1"].recipe.stages == two_stage.stages[:1]
    (single,) = runs["single_stage"].recipe.stages
    assert (single.train, single.steps, single.replay_share) == (["*"], 4 + 5, 0.25)
    last = two_stage.stages[1]
    assert (single.peak_lr, single.min_lr) == (last.peak_lr, last.min_lr)
    assert single.warmup_ratio == last.warmup_ratio
    (constant,) = runs["no_rewarm"].recipe.stages
    assert constant.peak_lr == constant.min_lr == last.min_lr
    assert (constant.warmup_ratio, constant.steps) == (0.0, single.steps)
    for name in NAMES[:3]:
        assert runs[name].output.resolve() == (world / "results_runs" / name).resolve()
        same = {"stages", "output"}
        assert runs[name].recipe.model_dump(exclude=same) == two_stage.model_dump(exclude=same)


def test_the_single_stages_settings_are_the_recipes(world):
    settings = ablation_recipe(
        world,
        single_stage={
            "peak_lr": 3e-3,
            "min_lr": 2e-5,
            "warmup_ratio": 0.5,
            "constant_lr": 7e-5,
            "replay_share": 0.5,
        },
    ).single_stage
    single = single_stage(make_recipe(), settings)
    assert (single.peak_lr, single.min_lr, single.warmup_ratio) == (3e-3, 2e-5, 0.5)
    assert single.replay_share == 0.5
    constant = constant_stage(make_recipe(), settings)
    assert (constant.peak_lr, constant.min_lr, constant.warmup_ratio) == (7e-5, 7e-5, 0.0)


def test_without_re_warming_the_logged_rate_is_constant(world):
    text = (world / "results_runs" / "no_rewarm" / "log.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert {line["learning_rate"] for line in lines if "loss" in line} == {1e-4}


def test_the_stability_gap_is_read_from_the_forgetting_probe_of_every_run(world):
    curves = json.loads((world / "results" / "curves.json").read_text(encoding="utf-8"))
    both, single = curves["both_stages"], curves["single_stage"]
    assert both["stages"] == [
        {"name": "stabilise", "first_step": 0},
        {"name": "adapt", "first_step": 4},
    ]
    assert list(both["forgetting"]) == ["makam", "replay"]
    assert [step for step, _ in both["forgetting"]["replay"]["loss"]] == [0, 3, 4, 4, 7, 9]
    assert [step for step, _ in single["forgetting"]["replay"]["loss"]] == [0, 3, 6, 9]
    for measures in both["forgetting"].values():
        assert list(measures) == ["loss", "accuracy"]
    start = both["forgetting"]["replay"]["loss"][0]
    assert start == single["forgetting"]["replay"]["loss"][0]
    summary = json.loads((world / "results" / "summary.json").read_text(encoding="utf-8"))
    gap = summary["stability_gaps"]["single_stage"]["replay"]["loss"]
    losses = [value for _, value in single["forgetting"]["replay"]["loss"]]
    assert (gap["start"], gap["worst"], gap["end"]) == (losses[0], max(losses), losses[-1])
    table = (world / "results" / "table.md").read_text(encoding="utf-8")
    assert "Forgetting probe of Single-stage on replay: loss " in table


def test_each_run_is_a_training_that_verifies_and_stage_1_keeps_the_transformer(world):
    for name in NAMES[:3]:
        assert verify(world / "results_runs" / name) == []
    assert verify(world / "out") == []
    base = Checkpoint.open("base", root=world)
    stage_1 = Checkpoint.open("results_runs/stage_1", root=world)
    both = Checkpoint.open("out", root=world)
    name = "encoder.layers.0.attention.q_proj.weight"
    assert (stage_1.tensor(name) == base.tensor(name)).all()
    assert (both.tensor(name) != base.tensor(name)).any()


def test_both_stages_are_what_train_culture_makes(world, tmp_path):
    alone = pretrain.run(
        pretrain.plan(load(world / "makam.yaml").recipe, world), output=tmp_path / "alone"
    )
    assert (
        alone.outputs["model.safetensors"] == read_lock(world / "out").outputs["model.safetensors"]
    )


def test_the_table_has_table_1s_rows_and_the_means_of_the_points(world):
    table = json.loads((world / "results" / "table.json").read_text(encoding="utf-8"))
    assert [row["strategy"] for row in table["rows"]] == [
        "base (baseline)",
        "Single-stage",
        "Single-stage (no re-warm)",
        "Two-stage: stage 1",
        "Two-stage: both stages",
    ]
    assert [row["replay"] for row in table["rows"]] == ["-", "25 %", "25 %", "25 %", "25 % + 0 %"]
    assert table["columns"] == ["tones", "west", "average"]
    points = [
        json.loads(line) for line in (world / "results" / "results.jsonl").read_text().splitlines()
    ]
    assert len(points) == 5 * 2 * 2
    for row, name in zip(table["rows"], ["base", *NAMES], strict=True):
        of_seeds = {
            task: [
                100 * point["test"]["roc_auc"]
                for point in points
                if (point["model"], point["task"]) == (name, task)
            ]
            for task in ("tones", "west")
        }
        for task, values in of_seeds.items():
            assert row["cells"][task]["seeds"] == pytest.approx(values)
            assert row["cells"][task]["mean"] == pytest.approx(sum(values) / 2)
        means = [sum(pair) / 2 for pair in zip(*of_seeds.values(), strict=True)]
        assert row["cells"]["average"]["seeds"] == pytest.approx(means)
        std = abs(means[0] - means[1]) / 2**0.5
        assert row["cells"]["average"]["std"] == pytest.approx(std)


def test_markdown_and_csv_hold_the_same_table(world):
    table = json.loads((world / "results" / "table.json").read_text(encoding="utf-8"))
    text = (world / "results" / "table.md").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert lines[0] == "| CPT strategy | replay | tones | west | average |"
    assert lines[6].startswith("| Two-stage: both stages | 25 % + 0 % |")
    assert "constant learning rate 0.0001" in text
    rows = list(csv.reader(io.StringIO((world / "results" / "table.csv").read_text())))
    assert rows[0][:4] == ["CPT strategy", "replay", "tones mean", "tones std"]
    for row, said in zip(rows[1:], table["rows"], strict=True):
        assert row[0] == said["strategy"]
        assert float(row[2]) == said["cells"]["tones"]["mean"]


def test_the_results_verify_and_are_made_again_bit_for_bit(world):
    assert verify(world / "results") == []
    assert rebuild(world / "results") == []


def test_finished_trainings_are_not_run_again(world, monkeypatch):
    ran = []
    run = pretrain.run

    def counting(plan, **keywords):
        ran.append(plan.recipe.output)
        return run(plan, **keywords)

    monkeypatch.setattr(pretrain, "run", counting)
    before = folder_bytes(world / "results")
    engine.ablation(
        ablation_recipe(world), world, force=True, command="cmerge ablation ablation.yaml"
    )
    assert ran == []
    assert folder_bytes(world / "results") == before


def test_a_killed_ablation_goes_on(world, monkeypatch):
    whole = folder_bytes(world / "results")
    recipe = ablation_recipe(world, runs="killed_runs", output="results")
    run = pretrain.run
    ran = []

    def killing(plan, **keywords):
        if len(ran) == 2:
            raise KeyboardInterrupt
        ran.append(plan.recipe.output)
        return run(plan, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "run", killing)
        with pytest.raises(KeyboardInterrupt):
            engine.ablation(recipe, world, output=world / "killed")
    assert not (world / "killed").exists()
    planned = engine.plan(recipe, world)
    assert planned.as_dict()["train_first"] == ["killed_runs/stage_1"]
    engine.ablation(recipe, world, output=world / "killed")
    again = folder_bytes(world / "killed")
    for name in ("curves.json", "stability_gap.svg", "table.csv", "table.json", "results.jsonl"):
        assert again[name] == whole[name]


def test_a_training_made_by_other_settings_is_refused_and_left_alone(world):
    write_training(world / "other.yaml", seed=6)
    before = folder_bytes(world / "results_runs" / "stage_1")
    recipe = ablation_recipe(world, train="other.yaml", runs="results_runs", output="refused")
    with pytest.raises(InputError, match=r"as single_stage; different: seed") as caught:
        engine.ablation(recipe, world, force=True)
    assert "never replaced" in caught.value.hint
    assert folder_bytes(world / "results_runs" / "stage_1") == before


def test_a_run_whose_files_changed_is_refused(world):
    log = world / "results_runs" / "stage_1" / "log.jsonl"
    kept = log.read_bytes()
    log.write_bytes(kept + b"{}\n")
    try:
        with pytest.raises(InputError, match=r"changed since it was trained: output log\.jsonl"):
            engine.plan(ablation_recipe(world), world)
    finally:
        log.write_bytes(kept)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"stages": [{"train": ["*"], "steps": 2, "peak_lr": 1e-3}]}, "has 1 stages; two"),
        ({"base": {"preset": "tiny", "init": "random"}}, "starts from random weights"),
    ],
)
def test_a_recipe_that_can_not_be_ablated_is_refused(world, changes, problem):
    write_training(world / "wrong.yaml", **changes)
    with pytest.raises(RecipeError, match=problem):
        engine.plan(ablation_recipe(world, train="wrong.yaml"), world)


def test_a_schedule_that_ends_at_0_needs_a_constant_rate(world):
    changes = ["stages[1].min_lr=0"]
    with pytest.raises(RecipeError, match="decays to 0"):
        engine.plan(ablation_recipe(world, changes=changes), world)
    settings = {"constant_lr": 1e-5}
    recipe = ablation_recipe(world, changes=changes, single_stage=settings, runs="new")
    planned = engine.plan(ablation_recipe(world), world).as_dict()
    assert planned["points"] == 20
    assert planned["train_first"] == []
    assert strategies(recipe, world).runs[1].recipe.stages[0].peak_lr == 1e-5


def test_a_training_recipe_of_another_folder_keeps_its_own_paths(world):
    write_training(
        world / "recipes" / "deep" / "makam.yaml",
        base="../../base",
        corpus="../../makam",
        replay="../../western",
        store="../../store",
        output="../../out_deep",
    )
    recipe = ablation_recipe(world, train="recipes/deep/makam.yaml", runs="deep_runs")
    planned = engine.plan(recipe, world)
    assert planned.strategies.base == "base"
    assert [each.source for each in planned.strategies.runs] == [
        "deep_runs/single_stage",
        "deep_runs/no_rewarm",
        "deep_runs/stage_1",
        "out_deep",
    ]
