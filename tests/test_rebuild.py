"""``verify --rebuild``: the locked recipe gives the same bytes, or the difference is named."""

import json
import sys
import types

import pytest
from small_models import family, folder_bytes, moved, recipe, write_model

from mergekit_audio import merge
from mergekit_audio.files import canonical_json, sha256_of_text
from mergekit_audio.lock import LOCK_NAME, Difference, make_lock, read_lock, write_lock
from mergekit_audio.rebuild import rebuild


@pytest.fixture
def merged(tmp_path):
    family(tmp_path)
    merge.run(merge.plan(recipe(output="runs/merged"), tmp_path))
    return tmp_path / "runs" / "merged"


def change_lock(folder, change):
    path = folder / LOCK_NAME
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def test_a_merge_gives_the_same_bytes_again_and_nothing_is_left(merged):
    before = folder_bytes(merged.parents[1])
    assert rebuild(merged) == []
    assert folder_bytes(merged.parents[1]) == before
    assert [path.name for path in merged.parent.iterdir()] == ["merged"]


def test_an_output_that_the_recipe_does_not_give_is_named(merged):
    change_lock(merged, lambda lock: lock["outputs"].update({"model.safetensors": "0" * 64}))
    (difference,) = rebuild(merged)
    assert (difference.what, difference.name) == ("output", "model.safetensors")
    assert difference.expected == "0" * 64


def test_a_locked_file_that_is_not_made_again_is_named(merged):
    change_lock(merged, lambda lock: lock["outputs"].update({"extra.json": "0" * 64}))
    assert rebuild(merged) == [Difference("output", "extra.json", "0" * 64, "not found")]


def test_other_versions_are_named_beside_a_difference_and_alone_are_none(merged):
    change_lock(merged, lambda lock: lock["environment"].update(torch="1.0"))
    assert rebuild(merged) == []
    change_lock(merged, lambda lock: lock["outputs"].update({"config.json": "0" * 64}))
    found = rebuild(merged)
    assert [(each.what, each.name) for each in found] == [
        ("environment", "torch"),
        ("output", "config.json"),
    ]


def test_a_lock_that_tells_other_inputs_than_are_read_is_named(merged):
    change_lock(merged, lambda lock: lock["inputs"][0].update(content_digest="0" * 64))
    (difference,) = rebuild(merged)
    assert (difference.what, difference.name, difference.expected) == ("input", "base", "0" * 64)
    change_lock(merged, lambda lock: lock.update(inputs=[]))
    assert [(each.name, each.expected) for each in rebuild(merged)] == [
        (name, "not locked") for name in ("base", "models[0]", "models[1]", "models[2]")
    ]


def test_a_recipe_changed_together_with_its_digest_gives_other_bytes(merged):
    def change(lock):
        lock["recipe"]["scale"] = 0.25
        lock["recipe_digest"] = sha256_of_text(canonical_json(lock["recipe"]))

    change_lock(merged, change)
    assert {each.name for each in rebuild(merged)} == {"model.safetensors", "README.md"}


def test_a_changed_recipe_or_input_is_named_and_nothing_runs(merged, monkeypatch):
    monkeypatch.setattr(merge, "run", lambda *_, **__: pytest.fail("it ran"))
    root = merged.parents[1]
    write_model(root / "lyra", moved(family(root / "other")["base"], 99))
    change_lock(merged, lambda lock: lock["recipe"].update(scale=0.3))
    found = rebuild(merged)
    assert [each.what for each in found] == ["recipe", "input"]
    assert "(lyra) model.safetensors" in found[1].name


def test_nothing_is_left_when_the_run_fails(merged, monkeypatch):
    def fail(*_, output, **__):
        output.mkdir()
        (output / "half").write_text("x")
        raise RuntimeError("boom")

    monkeypatch.setattr(merge, "run", fail)
    with pytest.raises(RuntimeError, match="boom"):
        rebuild(merged)
    assert [path.name for path in merged.parent.iterdir()] == ["merged"]


def other_recipes():
    train = {
        "kind": "train", "base": "base", "backbone": {"name": "mert"}, "culture": "makam",
        "corpus": "audio", "teachers": [{"name": "cqt"}],
        "stages": [{"name": "one", "train": ["*"], "steps": 1, "peak_lr": 1e-3}], "output": "out",
    }  # fmt: skip
    tasks = [{"name": "makam", "corpus": "audio"}]
    evaluate = {
        "kind": "evaluate", "backbone": {"name": "mert"},
        "models": [{"name": "base", "model": "base"}], "tasks": tasks, "output": "out",
    }  # fmt: skip
    sweep = {
        "kind": "sweep", "base": "base", "backbone": {"name": "mert"},
        "cultures": [{"name": "makam", "model": "makam"}], "method": {"name": "task_arithmetic"},
        "scales": [0.2], "tasks": tasks, "output": "out",
    }  # fmt: skip
    return [
        (train, "mergekit_audio.pretrain", "run"),
        (evaluate, "mergekit_audio.probe.run", "evaluate"),
        (sweep, "mergekit_audio.sweep", "sweep"),
    ]


@pytest.mark.parametrize(
    ("value", "module", "function"),
    other_recipes(),
    ids=lambda each: each if isinstance(each, str) else "",
)
@pytest.mark.parametrize("written", ["same", "other"])
def test_other_kinds_run_again_with_an_output(
    tmp_path, monkeypatch, value, module, function, written
):
    """The engine is replaced by one that writes a file: here it counts that it gets its recipe."""
    calls = []

    def engine(planned_or_recipe, root=None, *, output, progress):
        calls.append((planned_or_recipe, output))
        (output / "best").mkdir(parents=True)
        (output / "results.jsonl").write_text(written)
        (output / "best" / LOCK_NAME).write_text(str(output))  # tells where it was written
        return make_lock(output, target=output, recipe=value, root=tmp_path, inputs=[])

    fake = types.ModuleType(module)
    setattr(fake, function, engine)
    fake.plan = lambda recipe, root: recipe
    monkeypatch.setitem(sys.modules, module, fake)
    folder = tmp_path / "out"
    (folder / "best").mkdir(parents=True)
    (folder / "results.jsonl").write_text("same")
    (folder / "best" / LOCK_NAME).write_text(str(folder))
    write_lock(folder, make_lock(folder, target=folder, recipe=value, root=tmp_path, inputs=[]))
    found = rebuild(folder)
    assert [each.name for each in found] == ([] if written == "same" else ["results.jsonl"])
    ((ran, output),) = calls
    assert ran.kind == value["kind"]
    assert output != folder
    assert not output.exists()
    assert read_lock(folder).kind == value["kind"]
