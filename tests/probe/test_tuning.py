"""Tuning an encoder with its head: protocol, determinism, resume, the table, the plan's counts."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from probing import evaluate_recipe, write_corpus, write_models
from pydantic import ValidationError

from mergekit_audio.audio.store import Store
from mergekit_audio.errors import InputError, RecipeError
from mergekit_audio.probe import tuning as engine
from mergekit_audio.probe.run import evaluate, plan
from mergekit_audio.probe.tasks import prepare_task
from mergekit_audio.probe.tuning_audio import TuningAudio, by_length
from mergekit_audio.probe.tuning_model import build_tuned
from mergekit_audio.probe.tuning_rows import trainable_parameters
from mergekit_audio.recipe.load import load
from mergekit_audio.recipe.shipped import shipped_recipe
from mergekit_audio.recipe.tuning import Tuning
from mergekit_audio.registry import lookup
from mergekit_audio.weights.checkpoint import Checkpoint

TUNING = {
    "layers": 2,
    "crop_s": 0.4,
    "max_steps": 6,
    "batch_size": 4,
    "validate_every": 2,
    "precision": "fp32",
    "learning_rates": {"lora": 1e-2},
}
TASKS = [{"name": "tones", "corpus": "corpora/tones"}]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("tuning")
    write_models(root, ("makam",))
    write_corpus(root / "corpora" / "tones", tracks=20, duration_s=1.0, seed=1)
    return root


def recipe_of(root, **changes):
    value = {
        "models": [{"name": "base", "model": "models/base"}],
        "tasks": TASKS,
        "transfers": ["probing", "lora"],
        "tuning": TUNING,
        "seeds": [0],
        "resamples": 50,
    }
    return evaluate_recipe(root, **(value | changes))


def results_of(folder):
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def finished(world):
    evaluate(recipe_of(world, output="finished"), world, workers=1)
    return world / "finished"


def test_one_table_compares_transfers(finished):
    rows = json.loads((finished / "summary.json").read_text(encoding="utf-8"))["rows"]
    lora = 2 * 2 * (4 * (16 + 16) + 2 * (16 + 32))
    assert [(row["name"], row["trainable_parameters"]) for row in rows] == [
        ("probing", 0),
        ("lora", lora),
    ]
    table = (finished / "petl.md").read_text(encoding="utf-8")
    assert table.startswith("| transfer | trainable | tones ROC | tones AP |")
    assert f"| lora | {lora:,} |" in table
    assert "first 2 layers" in table
    assert (finished / "petl.csv").read_text().splitlines()[2].startswith(f"lora,{lora},")
    assert (finished / "petl.tex").is_file()
    rates = {line["model"]: line["learning_rate"] for line in results_of(finished)}
    assert rates == {"probing": 1e-4, "lora": 1e-2}


def test_a_killed_tuning_gives_the_same_scores_to_the_last_digit(world, finished, monkeypatch):
    def kill(event):
        if "lora" in (event.note or "") and "step 5/6" in event.note:
            raise KeyboardInterrupt

    recipe = recipe_of(world, output="killed")
    with pytest.raises(KeyboardInterrupt):
        evaluate(recipe, world, progress=kill, workers=1)
    assert len(list((world / "killed.work" / "tuning").glob("*.pt"))) == 1
    steps = []
    monkeypatch.setattr(
        engine._Tuner,
        "_take_step",
        lambda self, real=engine._Tuner._take_step: (steps.append(self.step), real(self)),
    )
    evaluate(recipe, world, workers=1)
    assert steps == [4, 5]
    assert results_of(world / "killed") == results_of(finished)


@pytest.mark.parametrize(
    ("transfer", "rate"),
    [
        ("finetune", 3e-3),
        ("prompt", 2e-2),
        ("lora", 2e-2),
    ],
)
def test_tuned_encoders_tell_high_tones_from_low_ones(world, transfer, rate):
    task = {"name": "pitch", "corpus": "corpora/tones", "kind": "multiclass", "category": "pitch"}
    tuning = {
        **TUNING,
        "max_steps": 80,
        "validate_every": 20,
        "validation": "segments",
        "normalize": True,
        "learning_rates": {transfer: rate},
    }
    recipe = recipe_of(
        world, tasks=[task], transfers=[transfer], tuning=tuning, output=f"learns_{transfer}"
    )
    evaluate(recipe, world, workers=1)
    (line,) = results_of(world / f"learns_{transfer}")
    assert line["test"]["accuracy"] == 1.0
    assert line["epochs"] == 4


@pytest.mark.slow
def test_processes_side_by_side_give_the_same_scores(world, finished):
    evaluate(recipe_of(world, output="parallel"), world, workers=2)
    assert results_of(world / "parallel") == results_of(finished)
    assert (world / "parallel" / "petl.md").read_bytes() == (finished / "petl.md").read_bytes()


def test_the_plan_counts_what_trains_without_a_head(world):
    recipe = recipe_of(
        world,
        models=[{"name": "a", "model": "models/base"}, {"name": "b", "model": "models/makam"}],
        transfers=["finetune", {"name": "lora", "rank": 4}, "bitfit"],
        tuning={"layers": 1},
    )
    planned = plan(recipe, world).as_dict()
    names = [row["name"] for row in planned["transfers"]]
    transfers = ("finetune", "lora (rank 4)", "bitfit")
    assert names == [f"{model}: {transfer}" for model in "ab" for transfer in transfers]
    counts = [row["trainable_parameters"] for row in planned["transfers"]]
    assert counts[1] == 4 * (4 * (16 + 16) + 2 * (16 + 32))
    assert counts[2] == 4 * 16 + 16 + 32 + 16 + 16
    assert counts[:3] == counts[3:]
    assert planned["points"] == 6
    assert planned["tuning"]["max_steps"] == 60_000


def test_the_shipped_recipe_counts_as_the_study_does():
    from transformers import HubertConfig, HubertModel

    with torch.device("meta"):
        model = HubertModel(HubertConfig())  # its defaults are MERT-95M's sizes
    shapes = {n: SimpleNamespace(shape=tuple(v.shape)) for n, v in model.named_parameters()}
    mert = SimpleNamespace(index=shapes, config={"num_hidden_layers": 12})
    recipe = load(shipped_recipe("evaluate/petl")).recipe
    found = {
        row["name"]: row["trainable_parameters"] for row in trainable_parameters(recipe, [mert])
    }
    assert found == {
        "finetune": 51_844_480,
        "probing": 0,
        "adapter": 322_752,
        "prompt": 49_152,
        "prefix": 7_385_088,
        "bitfit": 50_688,
        "ssf": 82_944,
        "lora": 165_888,
    }


def test_more_layers_than_the_encoder_has_are_refused(world):
    with pytest.raises(RecipeError, match=r"tuning\.layers: 6 layers, but an encoder has 2"):
        plan(recipe_of(world, tuning={}), world)


def test_one_transfer_tunes_too(world):
    recipe = recipe_of(
        world, transfers=None, transfer="prompt", tuning={**TUNING, "learning_rates": {}}
    )
    assert recipe.row_names() == ["prompt"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"transfer": "lora"}, "either `transfer` or `transfers`"),
        ({"transfers": None}, "`tuning` belongs to"),
        ({"transfers": ["ssf"]}, r"learning_rates names \['lora'\]"),
        ({"transfers": ["lora", "lora"]}, "transfers must differ"),
        ({"reference": "base"}, "the rows are"),
        ({"tasks": [{**TASKS[0], "protocol": "screen"}]}, "take `protocol` out"),
        ({"tuning": {**TUNING, "by_task": {"other": {"max_steps": 2}}}}, "by_task names"),
    ],
)
def test_contradictions_are_refused(world, changes, problem):
    with pytest.raises((ValidationError, RecipeError), match=problem):
        recipe_of(world, **changes)


def test_a_task_may_have_settings_of_its_own():
    settings = Tuning.model_validate({"max_steps": 9, "by_task": {"big": {"max_steps": 90}}})
    assert settings.for_task("big") == Tuning(max_steps=90)
    assert settings.for_task("other") == Tuning(max_steps=9)
    assert "9 steps, 90 for big of 16" in settings.statement()


def test_learning_rates_follow_the_source():
    settings = Tuning(max_steps=100)
    rate = engine.learning_rate_at
    lora, finetune, probing = (lookup("transfers", n)() for n in ("lora", "finetune", "probing"))
    assert rate(0, lora, settings) == pytest.approx(1e-4)
    assert rate(50, lora, settings) == pytest.approx((1e-4 + 1e-7) / 2)
    assert rate(100, lora, settings) == pytest.approx(1e-7)
    assert rate(0, finetune, settings) == pytest.approx(1e-5)
    expected = 1e-7 + (1e-5 - 1e-7) * (1 + math.cos(math.pi * 0.25)) / 2
    assert rate(25, finetune, settings) == pytest.approx(expected)
    assert rate(99, probing, settings) == 1e-4


@pytest.fixture(scope="module")
def task(world):
    recipe = recipe_of(world)
    return prepare_task(recipe.tasks[0], recipe.backbone, world, Store(world / "store"), workers=1)


def test_each_track_comes_once_a_pass_and_crops_are_functions_of_the_position(task):
    audio = TuningAudio(task, Tuning(crop_s=0.4, batch_size=5), 400)
    count = len(audio.tracks["train"])
    rows = np.concatenate([audio.training_rows(step, 7) for step in range(2 * count)])
    for first in range(0, len(rows) - count, count):
        assert sorted(rows[first : first + count]) == list(range(count))
    crops = audio.training_crops(3, audio.training_rows(3, 7), 7)
    again = audio.training_crops(3, audio.training_rows(3, 7), 7)
    assert all(np.array_equal(one, two) for one, two in zip(crops, again, strict=True))
    assert {len(crop) for crop in crops} == {9600}
    first, second = audio.valid_crops(0, 7), audio.valid_crops(1, 7)
    assert any(not np.array_equal(one, two) for one, two in zip(first, second, strict=True))


def test_segments_do_not_overlap_and_short_tracks_stay_whole(task):
    audio = TuningAudio(task, Tuning(crop_s=0.4), 400)
    spans, firsts = audio.segments("test")
    assert all(stop - start == 9600 for _, start, stop in spans)
    assert len(firsts) == len(audio.tracks["test"])
    whole = TuningAudio(task, Tuning(crop_s=9.0), 400)
    spans, _ = whole.segments("test")
    samples = [prepared.samples for prepared in whole.tracks["test"]]
    assert [stop - start for _, start, stop in spans] == samples
    with pytest.raises(InputError, match="shorter than one frame"):
        TuningAudio(task, Tuning(crop_s=0.4), 10**7)


def test_waves_of_different_lengths_are_not_padded(world):
    checkpoint = Checkpoint.open("models/base", root=world)
    recipe = recipe_of(world)
    settings = Tuning.model_validate(TUNING | {"learning_rates": {}})
    model = build_tuned(
        recipe.backbone,
        checkpoint.config,
        checkpoint.state_dict(),
        lookup("transfers", "ssf")(),
        settings,
        3,
        0,
    ).eval()
    generator = np.random.default_rng(0)
    waves = [generator.standard_normal(n).astype(np.float32) for n in (5000, 4000, 5000)]
    assert [places for places, _ in by_length(waves)] == [[1], [0, 2]]
    with torch.no_grad():
        together = model(waves)
        alone = torch.cat([model([wave]) for wave in waves])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_a_frozen_encoder_rests_while_its_head_trains(world):
    checkpoint = Checkpoint.open("models/base", root=world)
    recipe = recipe_of(world)

    def built(name, **settings):
        return build_tuned(
            recipe.backbone,
            checkpoint.config,
            checkpoint.state_dict(),
            lookup("transfers", name)(),
            Tuning(layers=1, **settings),
            3,
            0,
        ).train()

    assert not built("probing").encoder.training
    assert built("probing", frozen_mode="train").encoder.training
    lora = built("lora")
    assert lora.encoder.training
    assert lora.encoder.feature_extractor._requires_grad is False
    assert built("finetune").encoder.feature_extractor._requires_grad is True
    assert len(lora.encoder.encoder.layers) == 1
