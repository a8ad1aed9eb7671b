import json

import pytest
import torch
from pretraining import make_corpus, make_project, make_recipe

from mergekit_audio import pretrain
from mergekit_audio.errors import InputError
from mergekit_audio.lock import read_lock
from mergekit_audio.pretrain.forgetting import probe_sources

FORGETTING = {"every_steps": 2, "clips": 3}


def lines_of(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "forgetting" in line]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A run with the probe and one without."""
    root = make_project(tmp_path_factory.mktemp("forgetting"))
    make_corpus(root / "lyra", seed=7)
    pretrain.run(pretrain.plan(make_recipe(), root), output=root / "plain")
    recipe = make_recipe(forgetting=FORGETTING)
    pretrain.run(pretrain.plan(recipe, root))
    return root


def test_both_corpora_are_scored_at_the_beginning_every_steps_and_at_the_end(project):
    lines = lines_of(project / "out")
    assert [(line["stage"], line["step"]) for line in lines] == [
        ("stabilise", 0),
        ("stabilise", 2),
        ("stabilise", 4),
        ("adapt", 0),
        ("adapt", 2),
        ("adapt", 4),
        ("adapt", 5),
    ]
    for line in lines:
        assert sorted(line["forgetting"]) == ["makam", "replay"]
        for scores in line["forgetting"].values():
            assert sorted(scores) == ["accuracy", "loss"]
            assert 0 <= scores["accuracy"] <= 1


def test_clips_and_masks_are_those_of_every_stage(project):
    """The first stage's last model is the second's first: the same numbers."""
    lines = lines_of(project / "out")
    assert lines[2]["forgetting"] == lines[3]["forgetting"]
    assert lines[0]["forgetting"] != lines[2]["forgetting"]


def test_probing_changes_no_bit_of_the_training(project):
    for name in ("model.safetensors", "heads.safetensors"):
        assert (project / "out" / name).read_bytes() == (project / "plain" / name).read_bytes()


def test_a_resumed_run_logs_the_same_scores(project):
    def stop(event):
        if event.task == "stage adapt" and event.done == 3:
            raise KeyboardInterrupt

    plan = pretrain.plan(make_recipe(forgetting=FORGETTING), project)
    with pytest.raises(KeyboardInterrupt):
        pretrain.run(plan, output=project / "again", progress=stop)
    pretrain.run(plan, output=project / "again")
    assert (project / "again/log.jsonl").read_bytes() == (project / "out/log.jsonl").read_bytes()


def test_other_corpora_are_locked_and_do_not_train(project):
    corpora = {"greek": "lyra", "own": "makam"}
    recipe = make_recipe(forgetting=FORGETTING | {"corpora": corpora}, output="other")
    pretrain.run(pretrain.plan(recipe, project))
    assert sorted(lines_of(project / "other")[0]["forgetting"]) == ["greek", "own"]
    names = [entry.name for entry in read_lock(project / "other").inputs]
    assert names == ["base", "corpus.makam", "replay", "forgetting.greek"]
    card = (project / "other" / "README.md").read_text()
    assert "greek" not in card.split("| culture |")[0].split("##")[0]
    for name in ("model.safetensors", "heads.safetensors"):
        assert (project / "other" / name).read_bytes() == (project / "plain" / name).read_bytes()


def test_a_probed_corpus_without_a_crop_is_named(project):
    make_corpus(project / "brief", duration_s=1.05)
    recipe = make_recipe(
        forgetting=FORGETTING | {"corpora": {"brief": "brief"}},
        arguments={"crop_s": 1.5},
        output="short",
    )
    with pytest.raises(InputError, match=r"brief: no track is as long as a crop of 1\.5 s"):
        pretrain.run(pretrain.plan(recipe, project))


def test_sources_by_default_are_cultures_and_replay():
    assert probe_sources(make_recipe()) == {}
    own = {"makam": "makam", "replay": "western"}
    assert probe_sources(make_recipe(forgetting=FORGETTING)) == own


def test_scores_by_hand(project):
    """The loss of a fixed batch, from the model's parts called one by one in this test."""
    from mergekit_audio.pretrain.corpora import prepare_audio
    from mergekit_audio.pretrain.forgetting import ForgettingProbe
    from mergekit_audio.pretrain.stage import clip_shape
    from mergekit_audio.pretrain.stage_model import build_model
    from mergekit_audio.pretrain.work import Work
    from mergekit_audio.progress import silent

    teacher = {"name": "cqt", "bins": 24, "bins_per_octave": 12, "lowest_hz": 200.0}
    stages = [{"name": "a", "train": ["*"], "steps": 1, "peak_lr": 1e-3}]
    recipe = make_recipe(forgetting=FORGETTING, teachers=[teacher], stages=stages)
    plan = pretrain.plan(recipe, project)
    teachers = {"cqt": recipe.teachers[0].open(None, root=project)}
    model = build_model(plan, 0, Work(project / "none"), teachers).train()
    probed = prepare_audio(plan, silent).probed
    probe = ForgettingProbe(recipe, probed, {}, clip_shape(plan.recipe), silent)
    state = torch.random.get_rng_state()
    scores = probe.measure(model)["makam"]
    assert torch.random.get_rng_state().equal(state)
    assert model.training
    assert sorted(scores) == ["loss"]
    model.eval()
    squared = penalty = frames = 0.0
    with torch.no_grad():
        for batch in probe.batches["makam"]:
            hidden, mean_square = model.encode(batch.wave, batch.mask)
            predicted = model.heads["cqt"](hidden[batch.mask])
            target = teachers["cqt"].targets(batch.wave)[batch.mask]
            squared += float((predicted - target).square().mean(-1).sum())
            penalty += float(mean_square) * int(batch.mask.sum())
            frames += int(batch.mask.sum())
    assert scores["loss"] == pytest.approx((squared + 10 * penalty) / frames, rel=1e-5)
