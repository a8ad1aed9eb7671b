"""The demo at its smallest: every step is run, kept, and reported."""

import json

import pytest

from mergekit_audio import demo, lock
from mergekit_audio.errors import InputError
from mergekit_audio.recipe.load import load

SMALLEST = demo.DemoSize(
    tracks=30,
    duration_s=2.0,
    overrides={
        "base": ("stages[0].steps=2", "arguments.crop_s=1.5"),
        **{
            name: ("stages[0].steps=1", "stages[1].steps=1", "arguments.crop_s=1.5")
            for name in (*demo.CULTURES, "multi")
        },
        "sweep": ("scales=[0.0, 0.25]", "seeds=[0]"),
    },
)


@pytest.mark.slow
def test_every_step_is_run_once_and_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "QUICK", SMALLEST)
    told = []
    result = demo.run_demo(tmp_path / "demo", quick=True, workers=2, progress=told.append)
    runs = result.folder / "runs"
    for name in ("base", *demo.CULTURES, "multi", "weight_average", "sweep", "sweep/best"):
        assert lock.verify(runs / name) == []
    rows = [row["name"] for row in result.summary["rows"] if row["kind"] != "merge"]
    assert rows == ["base", *demo.CULTURES, "multi-cultural"]
    page = result.report.read_text(encoding="utf-8")
    assert "synthetic" in page
    assert "<svg" in page
    assert {"makam: stage adapt", "probe"} <= {event.task for event in told}

    weights = {path: path.stat().st_mtime_ns for path in runs.glob("*/model.safetensors")}
    del weights[runs / "weight_average" / "model.safetensors"]
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
    assert demo._open_recipe(tmp_path / "full", "makam", demo.FULL).recipe == shipped


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for force in (False, True):
        with pytest.raises(InputError, match=r"exists|holds no demo\.json"):
            demo._open_folder(tmp_path, SMALLEST, force=force)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_demo_of_another_size_needs_force(tmp_path):
    folder = tmp_path / "demo"
    demo._open_folder(folder, demo.FULL, force=False)
    demo._open_folder(folder, demo.FULL, force=False)
    with pytest.raises(InputError, match="demo of another size"):
        demo._open_folder(folder, SMALLEST, force=False)
    demo._open_folder(folder, SMALLEST, force=True)
    assert json.loads((folder / demo.SETTINGS_NAME).read_text())["tracks"] == 30


def test_an_output_of_another_recipe_is_not_taken_for_done(tmp_path):
    loaded = demo._open_recipe(tmp_path, "base", SMALLEST)
    output = tmp_path / "runs" / "base"
    output.mkdir(parents=True)
    assert not demo._is_done(loaded)
    recipe = loaded.recipe.model_dump(mode="json")
    made = lock.make_lock(output, target=output, recipe=recipe, root=tmp_path, inputs=[])
    lock.write_lock(output, made)
    assert demo._is_done(loaded)
    other = {**recipe, "seed": 7}
    lock.write_lock(
        output, lock.make_lock(output, target=output, recipe=other, root=tmp_path, inputs=[])
    )
    with pytest.raises(InputError, match="made by another recipe"):
        demo._is_done(loaded)
