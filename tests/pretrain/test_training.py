import json
import logging

import numpy as np
import pytest
import torch
from checkpoints import make_mert_checkpoint
from pretraining import SMALL, TEACHERS, make_base, make_corpus, make_project, make_recipe
from recordings import cut, write_recording
from safetensors.torch import load_file

from mergekit_audio import merge, pretrain
from mergekit_audio.errors import InputError
from mergekit_audio.lock import read_lock, verify
from mergekit_audio.pretrain import running
from mergekit_audio.recipe.merge import MergeRecipe
from mergekit_audio.weights.checkpoint import Checkpoint


def train(recipe, root, **named):
    return pretrain.run(pretrain.plan(recipe, root), **named)


def log_lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A trained model of the two stages, and the seconds-old base and corpora."""
    root = make_project(tmp_path_factory.mktemp("project"))
    config = json.loads((root / "base/config.json").read_text())
    config["auto_map"] = {"AutoConfig": "configuration_MERT.MERTConfig"}
    (root / "base/config.json").write_text(json.dumps(config))
    (root / "base/configuration_MERT.py").write_text("import torch\n")
    (root / "base/finetune.py").write_text("")
    (root / "base/optimizer.pt").write_bytes(b"")
    events = []
    train(make_recipe(), root, progress=events.append, command="cmerge train-culture r.yaml")
    return root, events


def test_the_output_is_a_model_folder(project, caplog):
    from transformers import HubertModel

    root, _ = project
    out = root / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "cmerge.lock.json",
        "config.json",
        "configuration_MERT.py",
        "heads.safetensors",
        "log.jsonl",
        "logs",
        "model.safetensors",
        "preprocessor_config.json",
        "teachers",
    ]
    base, trained = Checkpoint.open(str(root / "base")), Checkpoint.open(str(out))
    base.require_same_layout(trained)
    assert [i.stored_name for i in base.index.values()] == [
        i.stored_name for i in trained.index.values()
    ]
    assert json.loads((out / "preprocessor_config.json").read_text())["sampling_rate"] == 24_000
    with caplog.at_level(logging.WARNING, logger="transformers"):
        _, report = HubertModel.from_pretrained(out, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not (root / "out.work").exists()
    assert verify(out) == []
    card = (out / "README.md").read_text()
    assert "continually pre-trained from `base`" in card
    assert "| stabilise | `feature_extractor.*`, `heads.*.label_embs` | 4 |" in card


def test_the_lock_names_base_corpora_and_command(project):
    root, _ = project
    lock = read_lock(root / "out")
    assert [entry.name for entry in lock.inputs] == ["base", "corpus.makam", "replay"]
    assert lock.inputs[0].content_digest == Checkpoint.open(str(root / "base")).digest()
    assert set(lock.inputs[0].files) == {
        "config.json",
        "configuration_MERT.py",
        "model.safetensors",
        "preprocessor_config.json",
    }
    assert sorted(lock.inputs[1].files) == [f"track{i}.wav" for i in range(4)]
    assert lock.command == "cmerge train-culture r.yaml"
    assert "logs" not in " ".join(lock.outputs)


def test_progress_tells_every_step(project):
    _, events = project
    told = [event.done for event in events if event.task == "stage adapt"]
    assert told == [0, 1, 2, 3, 4, 5]
    assert any("head of cqt starts from random weights" in event.note for event in events)


def test_the_log_has_no_times_and_the_schedule_by_hand(project):
    root, _ = project
    lines = log_lines(root / "out")
    assert [(line["stage"], line["step"]) for line in lines] == [
        ("stabilise", 3),
        ("stabilise", 4),
        ("adapt", 3),
        ("adapt", 5),
    ]
    assert not [name for line in lines for name in line if "time" in name or "second" in name]
    last = lines[-1]
    # five steps without warm-up: step i is done at min + (peak - min) (1 + cos(pi i / 5)) / 2
    expected = 1e-4 + 9e-4 * (1 + np.cos(np.pi * 4 / 5)) / 2
    assert last["learning_rate"] == pytest.approx(expected)
    parts = last["residual_kmeans/loss"] + last["cqt/loss"] + 10 * last["feature_penalty"]
    assert last["loss"] == pytest.approx(parts)
    assert last["gradient_norm"] > 0
    assert list((root / "out" / "logs" / "adapt").glob("events.*"))


def test_warm_up_by_hand(tmp_path):
    root = make_project(tmp_path)
    stage = {
        "name": "warm",
        "train": ["*"],
        "steps": 8,
        "peak_lr": 2e-3,
        "min_lr": 4e-4,
        "warmup_ratio": 0.3,
    }
    arguments = {"logging_steps": 1, "gradient_accumulation_steps": 1}
    train(make_recipe(stages=[stage], arguments=arguments), root)
    rates = [line["learning_rate"] for line in log_lines(root / "out")]
    warm = [0.0, 2e-3 / 3, 4e-3 / 3]  # ceil(0.3 * 8) = 3 steps up
    decay = [4e-4 + 1.6e-3 * (1 + np.cos(np.pi * i / 5)) / 2 for i in range(5)]
    assert rates == pytest.approx(warm + decay)


def test_stage_one_changes_exactly_the_named_tensors(tmp_path, monkeypatch):
    root = make_project(tmp_path)
    recipe = make_recipe()
    # A first run that trains nothing to speak of leaves heads that the second run imports.
    still = make_recipe(
        stages=[{"name": "still", "train": ["*"], "steps": 1, "peak_lr": 1e-30}], output="start"
    )
    train(still, root)
    only_first = make_recipe(base="start", stages=recipe.model_dump(mode="json")["stages"][:1])
    plan = pretrain.plan(only_first, root)
    assert plan.imported_heads == ("residual_kmeans", "cqt")
    assert plan.pending_teachers == ()
    pretrain.run(plan)
    changed = {
        name
        for file in ("model.safetensors", "heads.safetensors")
        for name, value in load_file(root / "out" / file).items()
        if not value.equal(load_file(root / "start" / file)[name])
    }
    front = {name for name in load_file(root / "out" / "model.safetensors") if "extractor" in name}
    assert changed == front | {"residual_kmeans.label_embs"}
    teacher = "teachers/residual_kmeans.safetensors"
    assert (root / "out" / teacher).read_bytes() == (root / "start" / teacher).read_bytes()


def test_the_base_can_be_a_preset_and_the_next_run_imports_its_heads(tmp_path):
    root = tmp_path
    make_corpus(root / "western", seed=2)
    stage = {"name": "pretrain", "train": ["*"], "steps": 2, "peak_lr": 1e-3}
    recipe = make_recipe(
        base={"preset": "tiny", "init": "random"},
        culture="western",
        corpus="western",
        replay=None,
        stages=[stage],
    )
    dry = pretrain.plan(recipe, root).as_dict()
    assert dry["base"] == {"preset": "tiny", "init": "random"}
    assert dry["teachers"][0] == {
        "name": "residual_kmeans",
        "head": "random",
        "fitted": "fitted first",
    }
    train(recipe, root)
    out = Checkpoint.open(str(root / "out"))
    assert out.index["encoder.pos_conv_embed.conv.weight_g"].stored_name.endswith("weight_g")
    assert out.config["model_type"] == "mert_model"
    next_plan = pretrain.plan(make_recipe(base="out", corpus="western", replay="western"), root)
    assert next_plan.imported_heads == ("residual_kmeans", "cqt")
    other = [TEACHERS[0] | {"final_size": 4}, TEACHERS[1]]
    with pytest.raises(InputError, match=r"residual_kmeans\.label_embs: found \[2, 8, 8\], exp"):
        pretrain.plan(make_recipe(base="out", corpus="western", teachers=other), root)


def test_two_cultures_and_hours(tmp_path):
    from mergekit_audio.pretrain.corpora import prepare_audio, stage_sources
    from mergekit_audio.progress import silent

    root = make_project(tmp_path)
    make_corpus(root / "lyra", tracks=2, seed=4)
    stages = [
        {
            "name": "one",
            "train": ["*"],
            "steps": 1,
            "peak_lr": 1e-3,
            "mixture": [{"dataset": "makam", "hours": 3.2 / 3600}, {"dataset": "lyra"}],
            "replay_share": 0.2,
        },
        {"name": "two", "train": ["*"], "steps": 1, "peak_lr": 1e-3},
        {"name": "three", "train": ["*"], "steps": 1, "peak_lr": 1e-3, "balance": "equal"},
    ]
    recipe = make_recipe(culture="multi", corpus={"makam": "makam", "lyra": "lyra"}, stages=stages)
    plan = pretrain.plan(recipe, root)
    audio = prepare_audio(plan, silent)
    drawn = [stage_sources(s, audio, seed=5, index=i) for i, s in enumerate(recipe.stages)]
    named = [
        {s.name: float(share) for s, share in zip(sources, shares, strict=True)}
        for sources, shares in drawn
    ]
    # 2 of makam's 4 tracks of 1.6 s fit into 3.2 s; lyra has 2; a fifth is replay
    assert named[0] == {"lyra": 0.4, "makam": 0.4, "replay": 0.2}
    assert [len(source.segments) for source in drawn[0][0]] == [2, 2, 4]
    assert named[1] == pytest.approx({"lyra": 1 / 3, "makam": 2 / 3})
    assert named[2] == {"lyra": 0.5, "makam": 0.5}
    train(recipe, root)
    assert [e.name for e in read_lock(root / "out").inputs] == [
        "base",
        "corpus.lyra",
        "corpus.makam",
        "replay",
    ]


def test_replay_is_the_asked_share_of_the_clips(tmp_path, monkeypatch):
    from mergekit_audio.pretrain import trainer

    root = make_project(tmp_path)
    heard = []
    original = trainer.StageTrainer.compute_loss

    def listen(self, model, inputs, *rest, **named):
        heard.extend(track.split("/")[0] for track in inputs["tracks"])
        return original(self, model, inputs, *rest, **named)

    monkeypatch.setattr(trainer.StageTrainer, "compute_loss", listen)
    train(make_recipe(), root)
    first, second = heard[:16], heard[16:]
    assert first.count("replay") == 4  # a quarter of 4 steps of 2 x 2 clips
    assert second == ["makam"] * 20


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_precisions_run_in_one_process(tmp_path, precision):
    root = make_project(tmp_path)
    before = torch.random.get_rng_state()
    train(make_recipe(arguments={"precision": precision}), root)
    assert torch.random.get_rng_state().equal(before)
    assert all(np.isfinite(line["loss"]) for line in log_lines(root / "out"))
    weights = load_file(root / "out" / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_a_loss_that_is_not_finite_names_the_step(tmp_path):
    root = make_project(tmp_path)
    stage = {"name": "wild", "train": ["*"], "steps": 50, "peak_lr": 1e30}
    with pytest.raises(InputError, match=r"stage 'wild', step \d+ of 50: the .* is (nan|inf)") as e:
        train(make_recipe(stages=[stage]), root)
    assert "lower peak_lr" in e.value.hint
    assert not (root / "out").exists()


def test_a_folder_of_mixed_formats_end_to_end(tmp_path):
    """Stereo MP3, OGG and FLAC at 44.1 kHz, one of them cut: trained, listed, merged."""
    root = tmp_path
    make_base(root / "base")
    for i, suffix in enumerate([".mp3", ".ogg", ".flac", ".mp3", ".flac"]):
        write_recording(
            root / "makam" / "deep" / f"r{i}{suffix}",
            sample_rate_hz=44_100,
            channels=2,
            duration_s=2.0,
            frequency_hz=300.0 + 100 * i,
            seed=i,
        )
    cut(root / "makam" / "deep" / "r4.flac")
    write_recording(root / "makam" / "short.wav", duration_s=0.2)
    write_recording(root / "makam" / "no_crop.wav", duration_s=1.1, seed=9)
    events = []
    settings = {**make_recipe().arguments.model_dump(), "crop_s": 1.5}
    train(make_recipe(replay="makam", arguments=settings), root, progress=events.append)
    notes = [event.note for event in events if "left out" in event.note]
    left_out = "1 undecodable, 1 too short, 1 shorter than a crop"
    assert left_out in notes[0]
    assert left_out in (root / "out" / "README.md").read_text()
    assert {"deep/r4.flac", "short.wav"} <= set(read_lock(root / "out").inputs[1].files)
    recipe = MergeRecipe.model_validate(
        {
            "kind": "merge",
            "base": "base",
            "models": [{"model": "out"}],
            "method": {"name": "task_arithmetic"},
            "scale": 0.2,
            "output": "merged",
        }
    )
    merge.run(merge.plan(recipe, root))
    assert verify(root / "merged") == []


def test_the_same_recipe_gives_the_same_bytes(project, tmp_path):
    root, _ = project
    lock = train(make_recipe(), root, output=tmp_path / "again")
    assert lock.outputs == read_lock(root / "out").outputs


def test_only_the_training_split_is_heard(tmp_path):
    root = make_project(tmp_path)
    lines = [
        {"id": f"t{i}", "path": f"track{i}.wav", "split": split}
        for i, split in enumerate(["train", "valid", "test", "train"])
    ]
    manifest = root / "makam" / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    train(make_recipe(), root)
    assert "| makam | 2 | 0.001 | none |" in (root / "out" / "README.md").read_text()
    manifest.write_text(manifest.read_text().replace('"train"', '"valid"'))
    with pytest.raises(InputError, match="no track of the split 'train' is as long as a crop"):
        train(make_recipe(output="other"), root)
    assert not (root / "other.work").exists()


def test_encodec_from_a_folder(tmp_path):
    encodec = pytest.importorskip("transformers").EncodecModel
    from transformers import EncodecConfig

    root = make_project(tmp_path)
    torch.manual_seed(0)
    model = encodec(
        EncodecConfig(
            target_bandwidths=[1.5],
            num_filters=4,
            hidden_size=8,
            codebook_size=16,
            num_lstm_layers=1,
            upsampling_ratios=[8, 5, 4, 2],
        )
    )
    with torch.no_grad():
        for layer in model.quantizer.layers:
            layer.codebook.embed.normal_()
    model.save_pretrained(root / "codec")
    books = len(model.quantizer.layers)
    teachers = [{"name": "encodec", "model": "codec", "codebooks": min(2, books), "final_size": 4}]
    train(make_recipe(teachers=teachers), root)
    names = [entry.name for entry in read_lock(root / "out").inputs]
    assert names[-1] == "teachers.encodec"
    assert load_file(root / "out" / "heads.safetensors")["encodec.label_embs"].shape[1] >= 16


def test_threads_are_given_back(project):
    before = torch.get_num_threads()
    with running._threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_a_float16_base_keeps_its_dtype(tmp_path):
    root = make_project(tmp_path)
    make_mert_checkpoint(root / "half", overrides=SMALL, dtype="float16", spelling="original")
    train(make_recipe(base="half"), root)
    base, trained = Checkpoint.open(str(root / "half")), Checkpoint.open(str(root / "out"))
    base.require_same_layout(trained)
    assert {info.stored_name for info in trained.index.values()} == {
        info.stored_name for info in base.index.values()
    }


def test_verify_rebuild_runs_the_training_again(project):
    from mergekit_audio.rebuild import rebuild

    root, _ = project
    assert rebuild(root / "out") == []
    assert not list(root.glob(".out*"))


def test_recordings_exactly_as_long_as_a_crop(tmp_path):
    make_base(tmp_path / "base")
    make_corpus(tmp_path / "makam", duration_s=1.0)
    make_corpus(tmp_path / "western", duration_s=1.0, seed=1)
    train(make_recipe(arguments={"crop_s": 1.0, "snap_crops_to_frames": False}), tmp_path)
    assert "| makam | 4 | 0.001 | none |" in (tmp_path / "out" / "README.md").read_text()
