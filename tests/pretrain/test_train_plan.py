import json

import pytest
from pretraining import TEACHERS, make_base, make_project, make_recipe
from pydantic import ValidationError

from mergekit_audio import pretrain
from mergekit_audio.errors import DependencyError, InputError, RecipeError
from mergekit_audio.recipe.train import Stage
from mergekit_audio.weights.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("plan"))


def test_the_plan_in_numbers(root):
    before = sorted(path for path in root.rglob("*"))
    value = pretrain.plan(make_recipe(), root).as_dict()
    assert sorted(path for path in root.rglob("*")) == before  # a dry run writes nothing
    json.dumps(value, allow_nan=False)
    index = Checkpoint.open(str(root / "base")).index
    total = sum(_size(info.shape) for info in index.values())
    front = sum(_size(i.shape) for name, i in index.items() if name.startswith("feature_ext"))
    cqt_head = 16 * 24 + 24  # k-means is not fitted yet, so its head is not known
    assert value["parameters"] == total + cqt_head
    first, second = value["stages"]
    assert first["trainable_parameters"] == front
    assert first["frozen_parameters"] == total + cqt_head - front
    assert second["frozen_parameters"] == 0
    assert first["clips"] == 4 * 2 * 2
    assert first["hours_heard"] == pytest.approx(16 * 0.5 / 3600, abs=1e-4)
    assert value["corpora"]["replay"] == {"source": "western", "tracks": 4, "hours": 0.0018}
    assert value["output_exists"] is False
    assert "residual_kmeans is fitted on the replay corpus first" in value["notes"]


def _size(shape):
    total = 1
    for length in shape:
        total *= length
    return total


def test_globs_that_match_nothing_are_all_listed(root):
    stages = [
        {"name": "a", "train": ["feature_extractr.*", "*"], "steps": 1, "peak_lr": 1e-3},
        {"name": "b", "train": ["encoder.layers.{0-", "heads.cqt.wrong"], "steps": 1, "peak_lr": 1},
    ]
    recipe = make_recipe(stages=stages, teachers=[TEACHERS[1]])
    with pytest.raises(RecipeError) as caught:
        pretrain.plan(recipe, root)
    keys = [fault.key for fault in caught.value.faults]
    assert keys == ["stages[0].train[0]", "stages[1].train[0]", "stages[1].train[1]"]
    assert "did you mean 'feature_extractor.*'?" in caught.value.message


def test_globs_of_heads_that_are_fitted_first_are_checked_when_they_are_known(root, tmp_path):
    stage = {"name": "a", "train": ["heads.residual_kmeans.nothing"], "steps": 1, "peak_lr": 1e-3}
    plan = pretrain.plan(make_recipe(stages=[stage]), root)
    with pytest.raises(RecipeError, match=r"stages\[0\]\.train\[0\]: .* matches no parameter"):
        pretrain.run(plan, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_hours_that_a_corpus_does_not_hold_are_a_note(root):
    stage = {
        "name": "a",
        "train": ["*"],
        "steps": 1,
        "peak_lr": 1e-3,
        "mixture": [{"dataset": "makam", "hours": 200}],
    }
    notes = pretrain.plan(make_recipe(stages=[stage]), root).as_dict()["notes"]
    assert "stage 'a' asks for 200 h of makam, which holds 0.00 h: all of it is used" in notes
    assert any("no stage (such as 'a') has a replay_share" in note for note in notes)


def test_a_culture_that_no_stage_mixes_is_a_note(root):
    stage = {"train": ["*"], "steps": 1, "peak_lr": 1e-3, "mixture": [{"dataset": "makam"}]}
    corpus = {"makam": "makam", "west": "western"}
    notes = pretrain.plan(make_recipe(stages=[stage], corpus=corpus), root).as_dict()["notes"]
    assert "in no stage's mixture, so not heard: west" in notes


def test_the_mask_group_trains_the_mask_vector(root):
    base = {"preset": "tiny", "init": "random"}
    stage = {"train": ["encoder"], "steps": 1, "peak_lr": 1e-3}
    for train, is_noted in ((["encoder"], True), (["encoder", "mask"], False)):
        recipe = make_recipe(base=base, stages=[{**stage, "train": train}])
        notes = pretrain.plan(recipe, root).as_dict()["notes"]
        assert any("mask vector stays random" in note for note in notes) is is_noted


def test_the_hint_names_groups_and_heads(root):
    stage = {"train": ["frontt"], "steps": 1, "peak_lr": 1e-3}
    with pytest.raises(RecipeError, match="did you mean 'front'") as refused:
        pretrain.plan(make_recipe(stages=[stage]), root)
    assert "groups are front, projection, mask, position, norm, encoder" in refused.value.hint
    assert "heads.cqt.bias, heads.cqt.weight" in refused.value.hint


def test_fp16_without_a_gpu(root, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DependencyError, match="fp16 needs a CUDA GPU"):
        pretrain.plan(make_recipe(arguments={"precision": "fp16"}), root)


def test_a_base_without_config_or_corpus(root, tmp_path):
    make_base(tmp_path / "base")
    (tmp_path / "base" / "config.json").unlink()
    with pytest.raises(InputError, match=r"no config\.json beside the weights"):
        pretrain.plan(make_recipe(), tmp_path)
    with pytest.raises(InputError, match=r"nowhere: no such file or folder"):
        pretrain.plan(make_recipe(corpus="nowhere"), root)


def test_a_base_without_its_code_is_refused_before_the_work(tmp_path):
    make_project(tmp_path)
    (tmp_path / "base/tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": "t.T"}}')
    with pytest.raises(InputError, match=r"t\.py: not in the model's folder"):
        pretrain.plan(make_recipe(), tmp_path)


@pytest.mark.parametrize(("output", "what"), [("base", "base"), ("makam", r"corpus\.makam")])
def test_the_output_may_not_replace_an_input(root, output, what):
    with pytest.raises(InputError, match=rf"would replace {what} \("):
        pretrain.run(pretrain.plan(make_recipe(output=output), root), force=True)


def test_crops_too_short_for_a_masked_span(root, tmp_path):
    plan = pretrain.plan(make_recipe(arguments={"crop_s": 0.05}), root)
    with pytest.raises(InputError, match=r"crop_s: 0\.05 s has 3 frames"):
        pretrain.run(plan, output=tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peak_lr": 1e-4, "min_lr": 1e-3}, "min_lr 0.001 is above peak_lr 0.0001"),
        ({"mixture": [{"dataset": "a"}, {"dataset": "a"}]}, "can stand in the mixture once"),
    ],
)
def test_stages_that_contradict_themselves(change, message):
    value = {"name": "a", "train": ["*"], "steps": 1, "peak_lr": 1e-3} | change
    with pytest.raises(ValidationError, match=message):
        Stage.model_validate(value)


def test_warm_up_steps_are_not_one_too_many():
    stage = Stage(name="a", train=["*"], steps=100, peak_lr=1e-3, warmup_ratio=0.07)
    assert stage.warmup_steps == 7  # 0.07 * 100 is 7.000000000000001 in floating point
