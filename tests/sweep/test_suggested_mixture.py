"""The chosen λ as a training mixture: shares, hours, and a recipe that loads."""

from pathlib import Path

import pytest
from pretraining import make_recipe
from probing import sweep_recipe

from mergekit_audio.recipe.load import load
from mergekit_audio.sweep.mixture import suggest_mixture
from mergekit_audio.sweep.mixture_recipe import MIXTURE_NAME
from mergekit_audio.sweep.planner import SweepPlan
from mergekit_audio.sweep.training import Training

BEST = {"row": "best", "scales": {"makam": 0.6, "lyra": 0.2}}


class _Corpus:
    """So many hours of training segments."""

    sample_rate_hz = 24_000

    def __init__(self, hours):
        self.samples = round(hours * 3600 * 24_000)

    def segments(self, segment_s, min_s, split):
        assert (segment_s, split) == (30.0, "train")
        return [type("Piece", (), {"start": 0, "stop": self.samples})]


def tasks_of(root, recipe, hours):
    return [
        type("Task", (), {"task": task, "corpus": _Corpus(hours[task.name])})
        for task in recipe.tasks
        if task.name in hours
    ]


def planned_of(root, trainings=(), **changes):
    changes = {"space": "per_culture", "output": "runs/found", **changes}
    return SweepPlan(sweep_recipe(root, **changes), root, None, tuple(trainings), ())


def written(root, planned, found):
    path = root / planned.recipe.output / MIXTURE_NAME
    path.parent.mkdir(parents=True)
    path.write_text(found.text, encoding="utf-8")
    return load(path, kind="train").recipe, path.parent


def seen_from(folder, place):
    return (Path(folder) / place).resolve()


def test_shares_are_scales_times_weights(tmp_path):
    cultures = [
        {"name": "makam", "model": "models/makam"},
        {"name": "lyra", "model": "models/lyra", "weight": 3.0},
    ]
    planned = planned_of(tmp_path, cultures=cultures, mixture_hours=200.0)
    summary = suggest_mixture(planned, [], BEST).summary
    assert [each["share"] for each in summary["cultures"]] == pytest.approx([0.5, 0.5])
    assert [each["hours"] for each in summary["cultures"]] == [100.0, 100.0]
    assert (summary["row"], summary["equal"], summary["recipe"]) == ("best", False, MIXTURE_NAME)


def test_a_scale_below_0_is_no_hours_and_is_told(tmp_path):
    away = {"row": "away", "scales": {"makam": -0.2, "lyra": 0.4}}
    found = suggest_mixture(planned_of(tmp_path), [], away)
    assert [each["share"] for each in found.summary["cultures"]] == [0.0, 1.0]
    assert any("makam: λ below 0 takes a culture away" in note for note in found.notes)
    recipe, _ = written(tmp_path, planned_of(tmp_path), found)
    assert list(recipe.corpora()) == ["lyra"]


def test_one_scale_is_the_equal_mixture(tmp_path):
    planned = planned_of(tmp_path, space="shared")
    found = suggest_mixture(planned, [], {"row": "λ = 0.3", "scales": {"λ": 0.3}})
    assert [each["share"] for each in found.summary["cultures"]] == [0.5, 0.5]
    assert found.summary["equal"]
    assert (
        "makam 50.0 %, lyra 50.0 % (one λ for all cultures is the equal mixture" in found.notes[0]
    )


def test_the_base_suggests_none(tmp_path):
    none = suggest_mixture(
        planned_of(tmp_path), [], {"row": "base", "scales": {"makam": 0, "lyra": 0}}
    )
    assert none.text == ""
    assert none.summary == {"row": "base", "why": "no culture has a λ above 0 at base"}
    one = [{"name": "makam", "model": "models/makam"}]
    assert suggest_mixture(planned_of(tmp_path, cultures=one), [], BEST) is None


def test_a_recipe_from_the_cultures_own_trainings_loads(tmp_path):
    recipes = {
        "makam": make_recipe(base="../models/base", corpus="../audio/m", replay="../audio/west"),
        "lyra": make_recipe(base="../models/base", corpus={"a": "../audio/a", "b": "../audio/b"}),
    }
    trainings = [
        Training(name, tmp_path / "train" / f"{name}.yaml", recipe, f"models/{name}")
        for name, recipe in recipes.items()
    ]
    (tmp_path / "models" / "base").mkdir(parents=True)
    planned = planned_of(tmp_path, trainings, mixture_hours=8.0)
    found = suggest_mixture(planned, [], BEST)
    recipe, folder = written(tmp_path, planned, found)
    stages = [{each.dataset: each.hours for each in stage.mixture} for stage in recipe.stages]
    assert stages == [{"makam": 6.0, "lyra-1": 1.0, "lyra-2": 1.0}] * 2
    assert [stage.steps for stage in recipe.stages] == [4, 5]
    places = {name: seen_from(folder, place) for name, place in recipe.corpora().items()}
    assert places == {
        "makam": tmp_path / "audio" / "m",
        "lyra-1": tmp_path / "audio" / "a",
        "lyra-2": tmp_path / "audio" / "b",
    }
    assert seen_from(folder, recipe.base) == tmp_path / "models" / "base"
    assert seen_from(folder, recipe.replay) == tmp_path / "audio" / "west"
    assert recipe.teachers == recipes["makam"].teachers
    assert seen_from(folder, recipe.output) == tmp_path / "runs" / "found_mixture"
    assert "fill in" not in found.text
    assert "and settings from makam.yaml" in found.text


def test_a_recipe_without_trainings_names_what_to_fill_in(tmp_path):
    tasks = [
        {"name": "makam", "corpus": "corpora/tones"},
        {"name": "west", "corpus": "corpora/west", "western": True},
    ]
    planned = planned_of(tmp_path, tasks=tasks, base="m-a-p/MERT-v1-95M@main")
    found = suggest_mixture(planned, tasks_of(tmp_path, planned.recipe, {"makam": 5.0}), BEST)
    assert found.summary["total_hours"] == 100.0  # what lyra holds is not known
    assert any("makam holds 5 h to train on" in note for note in found.notes)
    recipe, folder = written(tmp_path, planned, found)
    assert recipe.base == "m-a-p/MERT-v1-95M@main"
    assert seen_from(folder, recipe.corpora()["makam"]) == tmp_path / "corpora" / "tones"
    assert seen_from(folder, recipe.replay) == tmp_path / "corpora" / "west"
    lines = [line for line in found.text.splitlines() if line.startswith("# fill in")]
    assert [line.split(": ")[1].split(" ")[2] for line in lines[:2]] == ["makam", "lyra"]
    assert "24 GB" in lines[2]


def test_known_hours_are_used_to_the_last_that_keeps_the_ratio(tmp_path):
    tasks = [{"name": "makam", "corpus": "corpora/tones"}, {"name": "lyra", "corpus": "corpora/l"}]
    planned = planned_of(tmp_path, tasks=tasks)
    hours = {"makam": 6.0, "lyra": 50.0}
    found = suggest_mixture(planned, tasks_of(tmp_path, planned.recipe, hours), BEST)
    assert found.summary["total_hours"] == 8.0
    assert [each["hours"] for each in found.summary["cultures"]] == [6.0, 2.0]
    assert len(found.notes) == 1
