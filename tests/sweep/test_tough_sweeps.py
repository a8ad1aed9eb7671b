"""Sweeps over broken corpora, λ that diverge, labels without tracks, and inputs that change.

Each is named in the summary, the table and on stderr; after a change the bytes are those of a sweep
that never knew anything else.
"""

import importlib
import json
import math
import os
import shutil
import signal

import numpy as np
import pytest
from commands import PLAIN
from probing import sweep_recipe, write_corpus, write_models
from recordings import cut, tone, write_recording
from safetensors.numpy import load_file, save_file
from small_models import folder_bytes

from mergekit_audio import sweep as engine
from mergekit_audio.errors import InputError, NotFiniteError, RecipeError
from mergekit_audio.probe.ledger import Ledger

PROTOCOL = {"estimator": "ridge", "layer": 2}
HUGE = 1e30
BROKEN = {
    "empty.wav": "is empty (0 bytes)",
    "half.wav": "s that its header promises",
    "half.flac": "decodes only to",
    "half.mp3": "half.mp3",
    "infinite.wav": "the sample at 0.500 s is inf, expected -1 to 1",
    "nan.wav": "the sample at 0.500 s is nan, expected -1 to 1",
    "silent.wav": "stay within 8 steps",
    "text.mp3": "is not an MP3",
    "twin.wav": "the same samples as track000",
}


PINNED = ["pitch--high", "pitch--low", *(f"not in {s} <b>&/" for s in ("train", "valid", "test"))]


def task(name, corpus=None, **more):
    return {"name": name, "corpus": f"corpora/{corpus or name}", "protocol": PROTOCOL, **more}


def tough_recipe(root, **changes):
    values = {
        "cultures": [{"name": "makam", "model": "models/makam"}],
        "tasks": [task("tones")],
        "scales": [0.5],
        "seeds": [0],
        "resamples": 20,
        "select": {"resamples": 20},
        **changes,
    }
    return sweep_recipe(root, **values)


def small_world(root):
    write_models(root)
    write_corpus(root / "corpora" / "tones", tracks=10, seed=1)
    return root


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def notes_of(summary):
    return "\n".join(summary["notes"])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return small_world(tmp_path_factory.mktemp("with spaces – ü"))


@pytest.fixture(scope="module", autouse=True)
def _without_figures():
    """Write results and tables alone: figures follow from them, and take longest."""
    tables = importlib.import_module("mergekit_audio.report.evaluation")
    running = importlib.import_module("mergekit_audio.probe.run")
    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (tables, "write_score_figure"),
            (tables, "write_transfer_figure"),
            (running, "write_report"),
        ):
            patch.setattr(module, name, lambda *values, **named: None, raising=False)
        yield


def broken_corpus(folder):
    """Add recordings that can't be used, and tags that are missing in one split each."""
    wave = tone(duration_s=1.2)
    for name in BROKEN:
        path = folder / name
        suffix = "wav" if name == "text.mp3" else path.suffix[1:]
        write_recording(path.with_suffix(f".{suffix}"), wave)
    for name in ("half.wav", "half.flac", "half.mp3"):
        cut(folder / name)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.mp3").write_text("no sound at all")
    for name, value in (("nan.wav", np.nan), ("infinite.wav", np.inf)):
        spoilt = wave.copy()
        spoilt[12_000] = value
        write_recording(folder / name, spoilt, subtype="FLOAT")
    write_recording(folder / "silent.wav", np.zeros_like(wave))
    shutil.copy(folder / "track000.wav", folder / "twin.wav")
    lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    for lacking in ("train", "valid", "test"):
        for row in rows[:5]:
            if row["split"] != lacking:
                row["tags"].append(f"not in {lacking} <b>&/")
    rows += [
        {"id": name, "path": name, "split": "train", "tags": ["pitch--low"]} for name in BROKEN
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "manifest.jsonl").write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def tough(world):
    """A sweep over a broken corpus, direct, with λ that diverge; what it told."""
    write_corpus(world / "corpora" / "a/broken", tracks=10, seed=2)
    broken_corpus(world / "corpora" / "a/broken")
    told = []
    recipe = tough_recipe(
        world,
        tasks=[
            task("tones"),
            task("broken / <i>", "a/broken", tags=PINNED),
            task("tones again", "tones"),
        ],
        cultures=[{"name": "makam & <b>", "model": "models/makam"}],
        scales=[0.5, HUGE],
        output="tough results",
    )
    engine.sweep(recipe, world, progress=told.append)
    return world / "tough results", [event.note for event in told if event.is_remark]


def test_recordings_that_can_not_be_used_are_named_with_their_reason(tough):
    folder, remarks = tough
    facts = summary_of(folder)["tasks"][1]
    found = {
        entry["path"]: entry["reason"]
        for kind in ("undecodable", "silent", "too_short", "duplicated")
        for entry in facts["left_out"][kind]
    }
    assert sorted(found) == sorted(BROKEN)
    for name, reason in BROKEN.items():
        assert reason in f"{name}: {found[name]}"
    assert sum(facts["tracks"].values()) == 10
    told = f"{len(BROKEN)} recordings are left out: empty.wav: is empty (0 bytes)"
    assert any(note.startswith(told) and note.endswith("and 4 more.") for note in remarks)
    told = told.removesuffix("empty.wav: is empty (0 bytes)")
    assert f"broken / <i>: {told}" in " ".join((folder / "table.txt").read_text("utf-8").split())


def test_labels_without_positives_are_named_for_each_split(tough):
    folder, _ = tough
    unscored = summary_of(folder)["tasks"][1]["unscored"]
    for split in ("train", "valid", "test"):
        assert unscored[split]["without_positives"] == [f"not in {split} <b>&/"]
    text = " ".join((folder / "table.txt").read_text(encoding="utf-8").split())
    assert "train split: 1 of 5 labels without positives can't be learnt, but" in text
    assert "test split: 1 of 5 labels without positives are left out of the macro means" in text


def test_a_diverging_scale_is_left_out_and_named(tough):
    folder, remarks = tough
    summary = summary_of(folder)
    assert [each["row"] for each in summary["diverged"]] == ["λ = 1e+30"]
    assert [row["name"] for row in summary["rows"]] == ["base", "makam & <b>", "λ = 0.5", "λ = 1"]
    assert "Left out: λ = 1e+30: tones: " in notes_of(summary)
    assert any(note.startswith("left out: λ = 1e+30: tones: ") for note in remarks)
    assert len((folder / "results.jsonl").read_text(encoding="utf-8").splitlines()) == 4 * 3


def test_two_tasks_of_the_same_content_are_two_columns(tough):
    folder, _ = tough
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    found = {
        name: [each for each in lines if each["task"] == name] for name in ("tones", "tones again")
    }
    assert len(found["tones"]) == len(found["tones again"]) == 4
    for one, other in zip(*found.values(), strict=True):
        assert {**one, "task": ""} == {**other, "task": ""}
    for row in summary_of(folder)["rows"]:
        assert row["scores"]["tones"] == row["scores"]["tones again"]


@pytest.mark.parametrize("space", ["shared", "per_culture"])
def test_a_dense_sweep_shrinks_to_where_features_are_finite(world, space):
    many = [{"name": name, "model": f"models/{name}"} for name in ("makam", "lyra")]
    recipe = tough_recipe(
        world,
        space=space,
        scales=[0.0, 1e8],
        interpolate={"points": 4, "max_nodes": 3, "tolerance": 10.0, "design": None},
        cultures=many[: 1 + (space == "per_culture")],
        output=f"dense {space}",
    )
    told = []
    engine.sweep(recipe, world, progress=told.append)
    summary = summary_of(world / f"dense {space}")
    assert "Features are not finite at λ" in notes_of(summary)
    assert summary["diverged"]
    names = [row["name"] for row in summary["rows"]]
    assert not {each["row"] for each in summary["diverged"]} & set(names)
    assert summary["selection"]["row"] in names
    points = {event.point.name: event.point for event in told if event.point is not None}
    assert sorted(points) == sorted(row["name"] for row in summary["rows"] if row["in_grid"])
    base = points["base"].goal
    assert all(math.isfinite(each.goal) and each.base == base for each in points.values())
    assert (points["base"].scale == 0) == (space == "shared")


class Killed(BaseException):
    pass


def killed_after(points, monkeypatch, run):
    """Run until a number of results is on the disk."""
    append, written = Ledger.append, []

    def killing(self, line):
        if len(written) == points:
            raise Killed
        written.append(line)
        append(self, line)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append", killing)
        with pytest.raises(Killed):
            run()


def keep_times(path, data):
    """Change a file's bytes, but neither its size nor the time that programs can set."""
    stand = path.stat()
    assert len(data) == stand.st_size
    path.write_bytes(data)
    os.utime(path, ns=(stand.st_atime_ns, stand.st_mtime_ns))


def other_weights(root):
    keep_times(
        root / "models/makam/model.safetensors",
        (root / "models/lyra/model.safetensors").read_bytes(),
    )


def other_base(root):
    path = root / "models/base/model.safetensors"
    tensors = load_file(path)
    name = "encoder.layers.1.final_layer_norm.weight"
    tensors[name] = tensors[name] * np.float32(1.5)
    save_file(tensors, root / "other.safetensors", metadata={"format": "pt"})
    keep_times(path, (root / "other.safetensors").read_bytes())


def other_sound(root):
    folder = root / "corpora/tones"
    keep_times(
        folder / "track003.wav",
        write_recording(
            root / "x.wav", tone(duration_s=1.2, frequency_hz=1500, seed=99)
        ).read_bytes(),
    )


def other_tags(root):
    path = root / "corpora/tones/manifest.jsonl"
    text = path.read_text(encoding="utf-8")
    keep_times(path, text.replace("pitch--low", "pitch--mid", 2).encode())


@pytest.mark.parametrize(
    ("changes", "is_finished"),
    [((other_weights, other_tags), False), ((other_base, other_sound), True)],
)
def test_after_a_change_the_bytes_are_those_of_a_first_sweep(
    tmp_path, monkeypatch, changes, is_finished
):
    root = small_world(tmp_path / "used")
    recipe = tough_recipe(root, write_best=True)
    if is_finished:
        engine.sweep(recipe, root)
        before = folder_bytes(root / "results")
    else:
        killed_after(2, monkeypatch, lambda: engine.sweep(recipe, root))
        before = {}
    for change in changes:
        change(root)
    engine.sweep(recipe, root, force=is_finished)
    after = folder_bytes(root / "results")
    assert before.get("results.jsonl") != after["results.jsonl"]
    fresh = tmp_path / "fresh"
    for name in ("models", "corpora"):
        shutil.copytree(root / name, fresh / name)
    engine.sweep(recipe, fresh)
    assert after == folder_bytes(fresh / "results")


def test_another_recipe_between_kill_and_resume(tmp_path, monkeypatch):
    root = small_world(tmp_path / "used")
    killed_after(3, monkeypatch, lambda: engine.sweep(tough_recipe(root), root))
    changed = tough_recipe(
        root,
        seeds=[1, 0],
        scales=[0.25, 0.5],
        tasks=[task("sounds", "tones", western=True)],
        cultures=[{"name": "lyra", "model": "models/makam"}],
    )
    engine.sweep(changed, root)
    fresh = tmp_path / "fresh"
    for name in ("models", "corpora"):
        shutil.copytree(root / name, fresh / name)
    engine.sweep(changed, fresh)
    assert folder_bytes(root / "results") == folder_bytes(fresh / "results")


def test_a_checkpoint_that_changes_while_the_sweep_runs_stops_it(tmp_path):
    root = small_world(tmp_path)
    recipe = tough_recipe(root)
    path = root / "models" / "makam" / "model.safetensors"

    def replace_when_scored(event):
        if event.note.startswith("λ = 0.5"):
            shutil.copy(root / "models/lyra/model.safetensors", path.with_name("new"))
            os.replace(path.with_name("new"), path)

    with pytest.raises(InputError, match=r"model\.safetensors: changed while it was in use"):
        engine.sweep(recipe, root, progress=replace_when_scored)
    assert not (root / "results").exists()
    engine.sweep(recipe, root)
    fresh = tmp_path / "fresh"
    for each in ("models", "corpora"):
        shutil.copytree(root / each, fresh / each)
    engine.sweep(recipe, fresh)
    assert folder_bytes(root / "results") == folder_bytes(fresh / "results")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"scales": []}, "scales"),
        ({"scales": [float("nan")]}, "finite"),
        ({"scales": {"from": 1, "to": 0}}, "must be below"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [-1]}, "seeds"),
        ({"cultures": []}, "cultures"),
        ({"cultures": [{"name": "λ = 0.5", "model": "m"}]}, "the sweep's own"),
        ({"cultures": [{"name": "a\nb", "model": "m"}]}, "printed in one line"),
        ({"cultures": [{"name": " ", "model": "m"}]}, "printed in one line"),
        ({"compare": [{"name": "weight average", "model": "m"}]}, "the sweep's own"),
        ({"tasks": [task("one"), task("one")]}, "task names must differ"),
        ({"output": "  "}, "expected the path of a folder"),
    ],
)
def test_values_that_can_not_be_are_refused_before_any_work(tmp_path, changes, problem):
    with pytest.raises(RecipeError, match=problem):
        tough_recipe(tmp_path, **changes)


def test_a_culture_that_is_the_base_gives_the_base_everywhere(world):
    same = {"cultures": [{"name": "same", "model": "models/base"}], "output": "same"}
    with pytest.raises(RecipeError, match="no model differs from the base"):
        engine.plan(tough_recipe(world, scales="auto", **same), world)
    engine.sweep(tough_recipe(world, interpolate={"points": 3}, **same), world)
    summary = summary_of(world / "same")
    scores = [row["scores"]["tones"]["valid"] for row in summary["rows"]]
    assert scores == scores[:1] * len(scores)
    assert summary["selection"]["row"] == "base"


def test_one_track_a_split_says_what_it_needs(tmp_path):
    root = small_world(tmp_path)
    write_corpus(root / "corpora/few", tracks=3, split=("train", "valid", "test", "", ""))
    with pytest.raises(InputError, match="none of its 1 tags has both a positive and a negative"):
        engine.sweep(tough_recipe(root, tasks=[task("few")]), root)
    assert not (root / "results").exists()


def test_a_file_that_the_manifest_misses_is_said_with_its_line(tmp_path):
    root = small_world(tmp_path)
    (root / "corpora/tones/track004.wav").unlink()
    with pytest.raises(InputError, match=r"manifest\.jsonl:5: path: no such file: track004\.wav"):
        engine.plan(tough_recipe(root), root)


RECIPE = """
kind: sweep
base: models/base
cultures: [{name: makam, model: models/makam}]
method: {name: task_arithmetic}
scales: [0.5, 1.0e+30]
tasks: [{name: broken, corpus: corpora/a/broken, protocol: {estimator: ridge, layer: 2}}]
seeds: [0]
resamples: 0
select: {resamples: 0}
output: told – ü
"""


@pytest.mark.usefixtures("tough")
def test_the_command_tells_all_of_it_from_any_folder(world, monkeypatch, capsys, tmp_path):
    for key, value in PLAIN.items():
        monkeypatch.setenv(key, value)
    from mergekit_audio.cli.main import main

    path = world / "a recipe – λ.yaml"
    path.write_text(RECIPE, "utf-8")
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        main(["sweep-lambda", os.path.relpath(path), "--no-progress"])
    signal.signal(signal.SIGTERM, handler)
    captured = capsys.readouterr()
    assert ended.value.code == 0, captured.err
    assert "9 recordings are left out: empty.wav: is empty (0 bytes)" in captured.err
    assert "left out: λ = 1e+30: broken: " in captured.err
    text = " ".join(captured.out.split())
    assert "Left out: λ = 1e+30: broken: " in text
    assert "9 recordings are left out" in text
    told = (
        "broken: 1 tag of validation or test tracks alone can't be learnt and is no label: not in"
    )
    assert told in text
    assert summary_of(world / "told – ü")["rows"][0]["name"] == "base"
    assert not list(world.glob("**/*.partial"))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"output": "."}, "the recipe's own folder"),
        ({"output": "models"}, "base"),
        ({"output": "models/makam"}, "makam"),
        ({"output": "corpora/tones"}, "the corpus of tones"),
        ({"output": "out", "store": "out/store"}, "the prepared store"),
    ],
)
def test_force_replaces_no_input(world, changes, what):
    before = sorted(path.relative_to(world) for path in world.rglob("*"))
    with pytest.raises(InputError, match=f"the output would replace {what} "):
        engine.sweep(tough_recipe(world, **changes), world, force=True)
    assert sorted(path.relative_to(world) for path in world.rglob("*")) == before


def test_a_choice_that_diverges_on_the_test_split_is_left_out(world, monkeypatch):
    from mergekit_audio.sweep.landscape import Landscape

    running = importlib.import_module("mergekit_audio.sweep.run")
    choose, finish = running.choose, Landscape.finish

    def wrong_first(rows, *settings):
        names = [row["name"] for row in rows]
        return "λ = 0.5" if "λ = 0.5" in names else choose(rows, *settings)

    def diverging(landscape, name):
        if name == "λ = 0.5":
            raise NotFiniteError(f"{name} on tones: x.wav: the encoder's features are not finite")
        return finish(landscape, name)

    monkeypatch.setattr(running, "choose", wrong_first)
    monkeypatch.setattr(Landscape, "finish", diverging)
    engine.sweep(tough_recipe(world, output="chosen"), world)
    summary = summary_of(world / "chosen")
    assert [each["row"] for each in summary["diverged"]] == ["λ = 0.5"]
    assert summary["selection"]["row"] != "λ = 0.5"
    assert "Left out: λ = 0.5: tones: x.wav" in notes_of(summary)
    assert "λ = 0.5" not in (world / "chosen" / "results.jsonl").read_text(encoding="utf-8")
