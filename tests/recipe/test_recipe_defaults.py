"""What a recipe may leave out or write short."""

import pytest
from pydantic import ValidationError

from mergekit_audio.errors import RecipeError
from mergekit_audio.pretrain.parameters import require_matches, trainable_names
from mergekit_audio.recipe.evaluate import EvaluateRecipe
from mergekit_audio.recipe.merge import MergeRecipe
from mergekit_audio.recipe.train import TrainRecipe

STAGE = {"train": ["*"], "steps": 1, "peak_lr": 1e-3}
TRAIN = {
    "kind": "train",
    "base": "base",
    "culture": "makam",
    "corpus": "data",
    "teachers": ["cqt"],
    "stages": [STAGE, {**STAGE, "name": "adapt"}, STAGE],
    "output": "out",
}
NAMES = [
    "feature_extractor.conv_layers.0.conv.weight",
    "feature_projection.projection.weight",
    "encoder.layers.0.attention.q_proj.weight",
    "heads.cqt.weight",
]


def test_a_plugin_with_its_defaults_may_be_its_name_alone():
    merge = {"kind": "merge", "base": "b", "models": [{"model": "m"}], "scale": 1, "output": "o"}
    short = MergeRecipe.model_validate({**merge, "method": "task_arithmetic"})
    long = MergeRecipe.model_validate({**merge, "method": {"name": "task_arithmetic"}})
    assert short == long


def test_the_backbone_and_stage_names_may_be_left_out():
    recipe = TrainRecipe.model_validate(TRAIN)
    assert recipe.backbone.model_dump()["name"] == "mert"
    assert recipe.transfer.model_dump()["name"] == "full"
    assert [stage.name for stage in recipe.stages] == ["stage1", "adapt", "stage3"]
    assert TrainRecipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_stage_names_that_collide_are_refused():
    stages = [STAGE, {**STAGE, "name": "stage1"}]
    with pytest.raises(ValidationError, match="stage names must differ"):
        TrainRecipe.model_validate({**TRAIN, "stages": stages})


def test_a_row_without_a_name_has_its_models():
    recipe = EvaluateRecipe.model_validate(
        {
            "kind": "evaluate",
            "models": [{"model": "runs/makam"}, {"model": "m-a-p/MERT-v1-95M", "name": "MERT"}],
            "tasks": [{"name": "makam", "corpus": "data"}],
            "output": "out",
        }
    )
    assert [entry.name for entry in recipe.models] == ["makam", "MERT"]


def test_a_stage_may_name_the_backbones_groups():
    stages = [{**STAGE, "train": ["front", "heads.*"]}]
    recipe = TrainRecipe.model_validate({**TRAIN, "stages": stages})
    assert trainable_names(recipe, recipe.stages[0], NAMES) == [NAMES[0], NAMES[3]]
    require_matches(recipe, NAMES)


def test_a_misspelt_group_is_a_fault_with_a_suggestion():
    recipe = TrainRecipe.model_validate({**TRAIN, "stages": [{**STAGE, "train": ["frnt"]}]})
    with pytest.raises(RecipeError, match=r"stages\[0\]\.train\[0\]: 'frnt' matches no.*'front'"):
        require_matches(recipe, NAMES)
