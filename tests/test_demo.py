"""The demo at its smallest: every step is run, kept, and reported."""

import json

import pytest

from mergekit_audio import lock
from mergekit_audio.demo import run as demo
from mergekit_audio.demo.sizes import CULTURES, FULL, SETTINGS_NAME, DemoSize
from mergekit_audio.demo.training import is_done
from mergekit_audio.errors import InputError
from mergekit_audio.recipe.load import load

SMALLEST = DemoSize(
    tracks=30,
    duration_s=2.0,
    overrides={
        "base": ("stages[0].steps=2", "arguments.crop_s=1.5"),
        **{
            name: ("stages[0].steps=1", "stages[1].steps=1", "arguments.crop_s=1.5")
            for name in (*CULTURES, "multi")
        },
        "sweep": ("scales=[0.0, 0.25]", "seeds=[0]", "resamples=20", "select.resamples=20"),
        "similarity": ("resamples=20",),
        "landscape": (
            "tasks=[{name: makam, corpus: data/makam, protocol: screen}]",
            "interpolate={points: 8, tolerance: 0.1}",
            "search.trials=2",
            "label_free={minutes: 0.1, rounds: 1, crop_s: 1.5, spaces: [per_culture]}",
            "similarity.targets=[makam]",
            "select.resamples=20",
            "resamples=20",
        ),
    },
)


@pytest.mark.slow
def test_every_step_is_run_once_and_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "QUICK", SMALLEST)
    told = []
    result = demo.run_demo(tmp_path / "demo", quick=True, workers=2, progress=told.append)
    runs = result.folder / "runs"
    sweeps = ("sweep", "sweep/best", "similarity", "landscape")
    for name in ("base", *CULTURES, "multi", "weight_average", *sweeps):
        assert lock.verify(runs / name) == []
    rows = [row["name"] for row in result.summary["rows"] if row["kind"] != "merge"]
    assert rows == ["base", *CULTURES, "multi-cultural"]
    landscape = json.loads((runs / "landscape" / "summary.json").read_text(encoding="utf-8"))
    kinds = [row["kind"] for row in landscape["rows"]]
    assert kinds.count("label_free") == kinds.count("similarity") == 1
    assert landscape["interpolation"][0]["accepted"]
    assert len(landscape["search"]["trials"]) > 2
    page = result.report.read_text(encoding="utf-8")
    assert "synthetic" in page
    assert "<svg" in page
    assert {"makam: stage adapt", "probe"} <= {event.task for event in told}

    weights = {path: path.stat().st_mtime_ns for path in runs.glob("*/model.safetensors")}
    del weights[runs / "weight_average" / "model.safetensors"]
    weights |= {path: path.stat().st_mtime_ns for path in runs.glob("*/summary.json")}
    again = demo.run_demo(tmp_path / "demo", quick=True, workers=2)
    assert again.summary == result.summary
    assert all(path.stat().st_mtime_ns == before for path, before in weights.items())


def test_recipes_hold_the_sizes_that_run(tmp_path):
    loaded = demo._open_recipe(tmp_path, "makam", SMALLEST)
    assert [stage.steps for stage in loaded.recipe.stages] == [1, 1]
    assert loaded.overrides == []
    opening = (tmp_path / "makam.yaml").read_text(encoding="utf-8").splitlines()[1]
    assert opening.startswith("# cmerge train-culture makam.yaml")
    shipped = load(demo.shipped_recipe("demo/makam")).recipe
    assert demo._open_recipe(tmp_path / "full", "makam", FULL).recipe == shipped


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for force in (False, True):
        with pytest.raises(InputError, match=r"exists|holds no demo\.json"):
            demo._open_folder(tmp_path, SMALLEST, force=force)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_demo_of_another_size_needs_force(tmp_path):
    folder = tmp_path / "demo"
    demo._open_folder(folder, FULL, force=False)
    demo._open_folder(folder, FULL, force=False)
    with pytest.raises(InputError, match="demo of another size"):
        demo._open_folder(folder, SMALLEST, force=False)
    demo._open_folder(folder, SMALLEST, force=True)
    assert json.loads((folder / SETTINGS_NAME).read_text())["tracks"] == 30


def test_an_output_of_another_recipe_is_not_taken_for_done(tmp_path):
    loaded = demo._open_recipe(tmp_path, "base", SMALLEST)
    output = tmp_path / "runs" / "base"
    output.mkdir(parents=True)
    assert not is_done(loaded)
    recipe = loaded.recipe.model_dump(mode="json")
    made = lock.make_lock(output, target=output, recipe=recipe, root=tmp_path, inputs=[])
    lock.write_lock(output, made)
    assert is_done(loaded)
    other = {**recipe, "seed": 7}
    lock.write_lock(
        output, lock.make_lock(output, target=output, recipe=other, root=tmp_path, inputs=[])
    )
    with pytest.raises(InputError, match="made by another recipe"):
        is_done(loaded)
