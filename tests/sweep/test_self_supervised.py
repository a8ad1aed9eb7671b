"""λ by the pre-training loss of small models that were trained here."""

import json

import pytest
import torch
from checkpoints import make_mert_checkpoint
from pretraining import SMALL, make_corpus, make_project, make_recipe

from mergekit_audio import merge, pretrain
from mergekit_audio.audio.store import Store
from mergekit_audio.errors import InputError
from mergekit_audio.progress import silent
from mergekit_audio.recipe.label_free import LabelFree
from mergekit_audio.recipe.load import from_dict
from mergekit_audio.sweep.unlabelled.search import search_label_free
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.keys import canonical_name

STAGE = {"name": "only", "train": ["*"], "steps": 12, "peak_lr": 3e-3}
SETTINGS = {
    "minutes": 0.05,
    "crop_s": 0.5,
    "batch_size": 2,
    "rounds": 3,
    "learning_rate": 0.1,
    "num_threads": 1,
    "spaces": ["shared", "per_culture", "per_layer"],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A base with heads, and two cultures trained from it."""
    root = make_project(tmp_path_factory.mktemp("label_free"))
    make_corpus(root / "lyra", seed=3)
    pretrain.run(pretrain.plan(make_recipe(stages=[STAGE], output="start"), root))
    for name in ("makam", "lyra"):
        recipe = make_recipe(
            base="start", stages=[STAGE], corpus=name, culture=name, output=f"runs_{name}"
        )
        pretrain.run(pretrain.plan(recipe, root))
    return root


def search(root, scales=(), **changes):
    corpora = {
        name: Store(root / "store").prepare(root / name, sample_rate_hz=24_000)
        for name in ("makam", "lyra")
    }
    return search_label_free(
        LabelFree.model_validate(SETTINGS | changes),
        base=Checkpoint.open(str(root / "start")),
        cultures={
            "makam": (Checkpoint.open(str(root / "runs_makam")), 1.0),
            "lyra": (Checkpoint.open(str(root / "runs_lyra")), 0.5),
        },
        corpora=corpora,
        store=root / "store",
        scales=scales,
        seed=4,
        progress=silent,
    )


@pytest.fixture(scope="module")
def found(trained):
    return search(trained, scales=[0.0, 0.3, 1.0])


def test_the_loss_falls_in_every_space(found):
    by_space = {each.space: each for each in found.found}
    assert list(by_space) == SETTINGS["spaces"]
    for each in found.found:
        first = each.descent.history[0][0]
        assert each.descent.loss <= first
        assert len(each.descent.history) == 4
    start = next(point for point in found.curve if point["scale"] == 0.3)
    for space in SETTINGS["spaces"]:
        mean = sum(by_space[space].losses.values()) / 2
        assert mean < start["loss"]
    shared = by_space["shared"].descent.scales
    assert shared["makam"]["all"] == shared["lyra"]["all"]
    assert set(by_space["per_layer"].descent.scales["makam"]) >= {"layer 0", "layer 1", "front"}
    json.dumps(found.as_dict(), allow_nan=False)


def test_the_weights_are_those_of_a_merge(trained, found):
    """Shared λ: θ = base + λ Σ w τ, as `cmerge merge` computes it."""
    (shared,) = [each for each in found.found if each.space == "shared"]
    recipe = from_dict(
        {
            "kind": "merge",
            "base": "start",
            "models": [{"model": "runs_makam"}, {"model": "runs_lyra", "weight": 0.5}],
            "method": "task_arithmetic",
            "scale": shared.descent.scales["makam"]["all"],
            "output": "merged",
        },
        trained,
    )
    plan = merge.plan(recipe, trained)
    state = merge.apply_delta(plan, merge.compute_delta(plan), recipe.scale)
    expected = {canonical_name(name): value for name, value in state.items()}
    own = {canonical_name(name): value for name, value in shared.state.items()}
    assert own.keys() == expected.keys()
    for name, value in own.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)


def test_the_same_seed_gives_the_same_numbers(trained, found):
    again = search(trained, scales=[0.0, 0.3, 1.0])
    assert again.as_dict() == found.as_dict()


def test_models_without_heads_are_refused(trained, tmp_path):
    make_mert_checkpoint(tmp_path / "plain", overrides=SMALL, seed=1)
    plain = Checkpoint.open(str(tmp_path / "plain"))
    with pytest.raises(InputError, match=r"none of base, makam has heads\.safetensors"):
        search_label_free(
            LabelFree(),
            base=plain,
            cultures={"makam": (plain, 1.0)},
            corpora={},
            store=tmp_path,
            scales=(),
            seed=0,
            progress=silent,
        )
