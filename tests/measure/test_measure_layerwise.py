"""RegMean++ against a naive walk that starts anew for every layer, and merged without the audio."""

import numpy as np
import pytest
import torch
from measuring import joint_recipe, make_models
from torch import nn

from mergekit_audio import measure, merge
from mergekit_audio.backbones.mert import Mert
from mergekit_audio.errors import InputError
from mergekit_audio.measure.sound import prepare_sound
from mergekit_audio.progress import silent
from mergekit_audio.recipe.load import from_dict
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.statistics import open_statistics

NAMES = ("makam", "lyra")
WEIGHTS = (1.0, 0.5)
ALPHA = 0.9
PROJECTION = "feature_projection.projection.weight"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = make_models(tmp_path_factory.mktemp("layerwise"))
    models = [
        {"model": name, "corpus": f"{name}_audio", "weight": weight}
        for name, weight in zip(NAMES, WEIGHTS, strict=True)
    ]
    measure.run(measure.plan(joint_recipe(root, models=models, alpha=ALPHA), root))
    return root


def build(folder, state=None):
    checkpoint = Checkpoint.open(str(folder))
    state = checkpoint.state_dict() if state is None else state
    return Mert().build(checkpoint.config, state, training=False)


def naive_walk(root):
    """Return the Grams of each model by weight, and the merged tensors, in plain float64 NumPy."""
    planned = measure.plan(joint_recipe(root), root)
    waves = [
        torch.from_numpy(sound.waves(sound.clips))
        for sound in (prepare_sound(planned, each, silent) for each in planned.subjects)
    ]
    states = [
        {k: v.double().numpy() for k, v in Checkpoint.open(str(root / n)).state_dict().items()}
        for n in NAMES
    ]
    models = [build(root / name) for name in NAMES]
    linear = {f"{n}.weight" for n, each in models[0].named_modules() if isinstance(each, nn.Linear)}
    merged = {  # everything but linear weights is a mean; those stay the base's until their turn
        name: np.average([state[name] for state in states], axis=0, weights=WEIGHTS)
        for name in states[0]
    }
    base = Checkpoint.open(str(root / "base")).state_dict()
    merged |= {name: base[name].double().numpy() for name in linear}
    grams = [{} for _ in NAMES]

    def solve(names, inputs):
        for name in names:
            left, right = 0.0, 0.0
            for i, weight in enumerate(WEIGHTS):
                rows = inputs[i][name]
                gram = rows.T @ rows / len(rows)
                grams[i][name] = gram
                shrunk = ALPHA * gram + (1 - ALPHA) * np.diag(np.diag(gram))
                left = left + weight * shrunk
                right = right + weight * shrunk @ states[i][name].T
            merged[name] = (np.linalg.inv(left) @ right).T

    def partly_merged():
        return build(root / "base", {k: torch.from_numpy(v).float() for k, v in merged.items()})

    with torch.no_grad():
        front = partly_merged()
        found = []
        for wave in waves:
            features = front.feature_extractor(wave).transpose(1, 2)
            rows = front.feature_projection.layer_norm(features)
            found.append({PROJECTION: rows.double().numpy().reshape(-1, rows.shape[-1])})
        solve([PROJECTION], found)
        for depth in range(len(front.encoder.layers)):
            encoder, found = partly_merged(), []
            for i, wave in enumerate(waves):
                entering = encoder(wave, output_hidden_states=True).hidden_states[depth]
                found.append(caught(models[i].encoder.layers[depth], depth, entering))
            solve(sorted(found[0]), found)
    return grams, merged


def caught(layer, depth, entering):
    inputs = {}

    def keep(name):
        def hook(module, given, output):
            rows = given[0].double().numpy()
            inputs[f"encoder.layers.{depth}.{name}.weight"] = rows.reshape(-1, rows.shape[-1])

        return hook

    handles = [
        each.register_forward_hook(keep(name))
        for name, each in layer.named_modules()
        if isinstance(each, nn.Linear)
    ]
    layer(entering)
    for handle in handles:
        handle.remove()
    return inputs


def merge_recipe(root, **changes):
    value = {
        "kind": "merge",
        "base": "base",
        "models": [
            {"model": name, "weight": weight, "statistics": f"measured/{name}"}
            for name, weight in zip(NAMES, WEIGHTS, strict=True)
        ],
        "method": {"name": "regmean_plus_plus", "alpha": ALPHA},
        "output": "merged",
        **changes,
    }
    return from_dict(value, root)


def test_against_a_naive_walk(project):
    grams, merged = naive_walk(project)
    for i, name in enumerate(NAMES):
        found = open_statistics(project / "measured" / name)
        assert sorted(found.names["gram_merged"]) == sorted(grams[i])
        for weight, expected in grams[i].items():
            values = found.read("gram_merged", weight)
            assert np.abs(values - expected).max() < 1e-4 * np.abs(expected).max(), weight
    merge.run(merge.plan(merge_recipe(project), project))
    for name, tensor in Checkpoint.open("merged", root=project).state_dict().items():
        assert np.abs(tensor.double().numpy() - merged[name]).max() < 1e-4, name


def test_later_inputs_differ_from_those_of_the_models_themselves(project):
    """Else RegMean++ would be RegMean."""
    from measuring import measure_recipe

    measure.run(measure.plan(measure_recipe(project, output="alone"), project))
    alone = open_statistics(project / "alone")
    joint = open_statistics(project / "measured" / "makam")
    name = "encoder.layers.1.feed_forward.intermediate_dense.weight"
    here, there = alone.read("gram", name), joint.read("gram_merged", name)
    assert np.abs(here - there).max() > 1e-3 * np.abs(here).max()


def test_the_facts_name_the_merge(project):
    found = open_statistics(project / "measured" / "lyra")
    digests = [Checkpoint.open(name, root=project).digest() for name in NAMES]
    assert found.model_digest == digests[1]
    assert found.facts["models"] == [
        {"digest": digest, "weight": weight}
        for digest, weight in zip(digests, WEIGHTS, strict=True)
    ]
    assert found.facts["alpha"] == ALPHA


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": {"name": "regmean_plus_plus"}}, r"measured with alpha 0\.9"),
        ({"method": {"name": "regmean"}}, "holds gram_merged, but not gram"),
        ({"models": [("makam", 1.0, "makam"), ("lyra", 1.0, "lyra")]}, "measured for a merge of"),
        ({"models": [("makam", 1.0, "makam")]}, "measured for a merge of"),
        ({"models": [("makam", 1.0, "lyra"), ("lyra", 0.5, "makam")]}, "but makam has"),
    ],
)
def test_another_merge_is_refused_before_it_begins(project, change, message):
    entries = [
        {"model": name, "weight": weight, "statistics": f"measured/{statistics}"}
        for name, weight, statistics in change.pop("models", [])
    ]
    recipe = merge_recipe(project, **change, **({"models": entries} if entries else {}))
    with pytest.raises(InputError, match=message):
        merge.plan(recipe, project)
