"""The command: what it writes, refuses and rebuilds; merges that use it need no audio."""

import json
import shutil

import numpy as np
import pytest
from measuring import add_heads, joint_recipe, make_models, measure_recipe
from small_models import folder_bytes

from mergekit_audio import measure, merge
from mergekit_audio.errors import InputError, LayoutError, RecipeError
from mergekit_audio.lock import read_lock, verify
from mergekit_audio.rebuild import rebuild
from mergekit_audio.recipe.load import from_dict
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.statistics import open_statistics

NAMES = ("makam", "lyra")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = make_models(tmp_path_factory.mktemp("measure"))
    for i, name in enumerate(NAMES):
        add_heads(root / name, seed=i)
        recipe = measure_recipe(
            root, model=name, corpus=f"{name}_audio", statistics=["fisher", "gram"],
            output=f"measured/{name}",
        )  # fmt: skip
        measure.run(measure.plan(recipe, root), command="cmerge measure m.yaml")
    return root


def test_the_folder_verifies_and_rebuilds(project):
    folder = project / "measured" / "makam"
    assert sorted(path.name for path in folder.iterdir()) == [
        "cmerge.lock.json",
        "measure.json",
        "statistics.safetensors",
    ]
    assert verify(folder) == []
    assert rebuild(folder) == []


def test_the_lock_tells_model_heads_and_corpus(project):
    lock = read_lock(project / "measured" / "makam")
    assert (lock.kind, lock.seed) == ("measure", 3)
    model, corpus = lock.inputs
    assert (model.name, model.source) == ("model", "makam")
    assert model.content_digest == Checkpoint.open("makam", root=project).digest()
    assert {"config.json", "model.safetensors", "heads.safetensors"} <= set(model.files)
    assert (corpus.name, sorted(corpus.files)) == ("corpus", [f"track{i}.wav" for i in range(3)])


def test_facts_stand_in_the_file_and_beside_it(project):
    folder = project / "measured" / "makam"
    found = open_statistics(folder)
    assert json.loads((folder / "measure.json").read_text(encoding="utf-8")) == found.facts
    assert found.model_digest == Checkpoint.open("makam", root=project).digest()
    assert found.facts["fisher"]["temperatures"] == {"residual_kmeans": 0.2}


def merge_recipe(root, method, **changes):
    models = [{"model": name, "statistics": f"measured/{name}"} for name in NAMES]
    value = {
        "kind": "merge", "base": "base", "models": models, "method": {"name": method},
 "output": f"merged_{method}", **changes,
    }  # fmt: skip
    return from_dict(value, root)


def tensors(root, name):
    state = Checkpoint.open(name, root=root).state_dict()
    return {key: value.double().numpy() for key, value in state.items()}


def test_a_fisher_merge_is_the_formula(project):
    merge.run(merge.plan(merge_recipe(project, "fisher"), project))
    merged = tensors(project, "merged_fisher")
    models = [tensors(project, name) for name in NAMES]
    found = [open_statistics(project / "measured" / name) for name in NAMES]
    fishers = [{key: each.read("fisher", key).astype(float) for key in merged} for each in found]
    rms = [np.sqrt(np.mean(np.concatenate([f.ravel() for f in each.values()]) ** 2))
           for each in fishers]  # fmt: skip
    for key, value in merged.items():
        shares = [np.maximum(fishers[i][key] / rms[i], 1e-6) for i in range(2)]
        expected = (shares[0] * models[0][key] + shares[1] * models[1][key]) / sum(shares)
        assert np.abs(value - expected).max() < 1e-6, key


def test_a_regmean_merge_is_the_formula(project):
    merge.run(merge.plan(merge_recipe(project, "regmean"), project))
    merged = tensors(project, "merged_regmean")
    models = [tensors(project, name) for name in NAMES]
    found = [open_statistics(project / "measured" / name) for name in NAMES]
    linear = 0
    for key, value in merged.items():
        grams = [each.read("gram", key) for each in found]
        expected = (models[0][key] + models[1][key]) / 2
        if grams[0] is not None:
            linear += 1
            shrunk = [0.95 * gram + 0.05 * np.diag(np.diag(gram)) for gram in np.float64(grams)]
            right = sum(shrunk[i] @ models[i][key].T for i in range(2))
            expected = np.linalg.solve(sum(shrunk), right).T
        assert np.abs(value - expected).max() < 1e-6, key
    assert linear == 13


def test_a_fused_kernel_is_averaged(project):
    recipe = merge_recipe(project, "fisher", weight_norm="fused", output="merged_fused")
    merge.run(merge.plan(recipe, project))
    states = [tensors(project, name) for name in (*NAMES, "merged_fused")]
    prefix = "encoder.pos_conv_embed.conv.weight_"
    kernels = []
    for state in states:
        v = state[f"{prefix}v"]
        norm = np.sqrt((v**2).sum(axis=(0, 1), keepdims=True))
        kernels.append(state[f"{prefix}g"] * v / norm)
    assert np.abs(kernels[2] - (kernels[0] + kernels[1]) / 2).max() < 1e-6


def test_statistics_are_reused_without_the_audio(project, tmp_path):
    copy = tmp_path / "copy"
    for name in ("base", *NAMES, "measured"):
        shutil.copytree(project / name, copy / name)
    merge.run(merge.plan(merge_recipe(copy, "regmean"), copy))
    assert verify(copy / "merged_regmean") == []


def test_an_output_is_kept_without_force_and_replaced_with_it(project):
    recipe = measure_recipe(project, output="measured/makam")
    planned = measure.plan(recipe, project)
    before = folder_bytes(planned.output)
    with pytest.raises(InputError, match="already exists"):
        measure.run(planned)
    with pytest.raises(InputError, match="would replace an input"):
        measure.run(measure.plan(measure_recipe(project, output="makam"), project), force=True)
    assert folder_bytes(planned.output) == before


def test_a_failure_leaves_nothing(project, monkeypatch):
    from mergekit_audio.measure import running

    def fail(*_, **__):
        raise RuntimeError("boom")

    monkeypatch.setattr(running, "write_lock", fail)
    before = sorted(path.name for path in project.iterdir())
    with pytest.raises(RuntimeError, match="boom"):
        measure.run(measure.plan(measure_recipe(project, output="failed"), project))
    assert {path.name for path in project.iterdir()} - set(before) <= {"store"}


def test_models_of_a_merge_have_one_layout(project):
    from checkpoints import make_mert_checkpoint
    from pretraining import SMALL

    make_mert_checkpoint(project / "wide", overrides=SMALL | {"intermediate_size": 32})
    models = [{"model": name, "corpus": "makam_audio"} for name in ("makam", "wide")]
    with pytest.raises(LayoutError, match="intermediate_dense"):
        measure.plan(joint_recipe(project, models=models), project)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"statistics": ["gram", "gram"]}, "statistics must differ"),
        ({"statistics": ["gram_merged", "gram"]}, "measured by itself"),
        ({"statistics": ["gram_merged"]}, "needs `base` and two or more"),
        ({"alpha": 0.5}, "belong to statistics"),
        ({"model": None}, "`model` and `corpus` are needed"),
        ({"examples": 0}, "examples"),
        ({"statistics": ["hessian"]}, "statistics"),
    ],
)
def test_recipes_that_contradict_themselves_are_refused(tmp_path, change, problem):
    with pytest.raises(RecipeError, match=problem):
        measure_recipe(tmp_path, **change)


def test_joint_recipes_that_contradict_themselves_are_refused(tmp_path):
    twice = [{"model": folder, "corpus": "c"} for folder in ("a/m", "b/m")]
    with pytest.raises(RecipeError, match="names of models must differ"):
        joint_recipe(tmp_path, models=twice)
    with pytest.raises(RecipeError, match="not `model`"):
        joint_recipe(tmp_path, model="makam")
    names = [each.name for each in joint_recipe(tmp_path).models]
    assert names == list(NAMES)
    hub = joint_recipe(tmp_path, models=[{"model": m, "corpus": "c"} for m in ("o/x@rev", "./y/")])
    assert [each.name for each in hub.models] == ["x", "y"]
