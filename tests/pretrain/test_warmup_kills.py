"""`heads: warmup` killed in its stage, at its end and behind it ends with the same bits."""

import os
import signal

import pytest
from forking import Forked
from pretraining import make_base, make_corpus, make_recipe

from mergekit_audio import pretrain
from mergekit_audio.pretrain.work import StageFolder

MOMENTS = [
    ("step", "heads_warmup", 3),
    ("step", "heads_warmup", 5),
    ("finished", "heads_warmup", 0),
    ("step", "adapt", 0),
    ("step", "adapt", 3),
]
HOOKS = {
    "replay": "western",
    "forgetting": {"every_steps": 2, "clips": 2},
    "arguments": {
        "gradient_checkpointing": True,
        "on_divergence": "rollback",
        "divergence": {"factor": 1.5, "steps": 2, "window": 4},
        "save_steps": 2,
        "logging_steps": 1,
    },
}
BARE = {"replay": None, "arguments": {"save_steps": 2, "logging_steps": 1}}


def recipe(output, hooks):
    share = 0.25 if hooks["replay"] else 0.0
    stage = {"name": "adapt", "train": ["*"], "steps": 4, "peak_lr": 1e-3, "replay_share": share}
    return make_recipe(
        heads="warmup",
        heads_warmup_steps=5,
        heads_warmup_lr=0.01,
        stages=[stage],
        output=output,
        **hooks,
    )


def train(tell, root, made, moment, stage, step):
    """Train and end with SIGKILL at a moment.

    ``step``: after a step of a stage; ``finished``: when the stage's result has its name and its
    checkpoints are about to be removed.
    """

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def heard(event):
        if moment == "step" and event.task == f"stage {stage}" and event.done == step:
            die()

    def drop_or_die(self):
        if self.folder.name.endswith(stage):
            die()
        drop(self)

    drop = StageFolder.drop_checkpoints
    if moment == "finished":
        StageFolder.drop_checkpoints = drop_or_die
    pretrain.run(pretrain.plan(made, root), progress=heard)


@pytest.mark.parametrize(
    ("hooks", "moments"),
    [(BARE, [MOMENTS[0], MOMENTS[2]]), (HOOKS, MOMENTS)],
    ids=["bare", "all hooks"],
)
def test_a_killed_warm_up_goes_on_with_the_same_bits(tmp_path, hooks, moments):
    make_base(tmp_path / "base")
    for name, seed in (("makam", 1), ("western", 2)):
        make_corpus(tmp_path / name, tracks=2, seed=seed)
    pretrain.run(pretrain.plan(recipe("out", hooks), tmp_path))
    killed = recipe("killed", hooks)
    for moment in moments:
        assert Forked(train, tmp_path, killed, *moment).wait() == -signal.SIGKILL, moment
        assert not (tmp_path / "killed").exists()
    assert (tmp_path / "killed.work/1-heads_warmup/finished").is_dir()
    pretrain.run(pretrain.plan(killed, tmp_path))
    for name in ("model.safetensors", "heads.safetensors", "log.jsonl"):
        one, other = (tmp_path / folder / name for folder in ("out", "killed"))
        assert one.read_bytes() == other.read_bytes(), name
    assert not (tmp_path / "killed.work").exists()
