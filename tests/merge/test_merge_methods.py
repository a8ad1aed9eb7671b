"""Every method through the engine: streamed from files it gives what it gives in memory."""

import dataclasses

import numpy as np
import pytest
from groups import make_group, merge_tensors
from safetensors.torch import load_file
from small_models import (
    SHAPES,
    bits,
    family,
    random_tensors,
    recipe,
    same_bits,
    write_model,
)
from test_method_properties import CASES, made

from mergekit_audio import merge
from mergekit_audio.merge import arithmetic, slices
from mergekit_audio.weights.digest import content_digest, tensor_digest

SMALL_SHAPES = SHAPES | {"encoder.layers.1.feed_forward.weight": (90, 100)}
"""Its largest tensor has more than two of the slices of ``small_slices``."""
LAYERS = {"encoder.layers.0.", "encoder.layers.1.", "encoder.layers.10."}


def models_for(method):
    least, most = method.model_counts
    return ("makam", "lyra", "carnatic")[: 3 if most is None else most][: max(least, 3)]


def engine_recipe(method, **changes):
    names = models_for(method)
    return recipe([name for name in names], method=method, scale=0.7, **changes)


def labelled(values, names):
    """Return the parameters with the labels of the engine's models for those of the groups."""
    swap = {f"m{i}": name for i, name in enumerate(names)}
    return {
        key: swap.get(value, value)
        if isinstance(value, str)
        else [swap.get(each, each) for each in value]
        if isinstance(value, list)
        else value
        for key, value in values.items()
    }


@pytest.fixture
def small_slices(monkeypatch):
    monkeypatch.setattr(slices, "SLICE_ELEMENTS", 1 << 12)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Three folders of the same base and models, in one file each or (``b``) in three."""
    root = tmp_path_factory.mktemp("models")
    tensors = family(root / "a", shapes=SMALL_SHAPES)
    for place, shards in (("b", 3), ("c", 1)):
        for key, state in tensors.items():
            write_model(root / place / key, state, shards=shards if key != "base" else 1)
    return root, tensors


@pytest.mark.parametrize(("name", "values"), CASES)
def test_streamed_is_in_memory(models, small_slices, name, values):
    method = made(name, values)
    if method.needs_statistics:
        pytest.skip("needs measured statistics: tests/measure merges with them")
    method = made(name, labelled(values, models_for(method)))
    root, tensors = models
    plan = merge.plan(engine_recipe(method), root / "a")
    found = dict(merge.merged_tensors(plan))
    order = [entry.label for entry in plan.recipe.models]
    groups = {}
    for key, base in tensors["base"].items():
        if not base.is_floating_point():
            continue
        layer = next((int(key.split(".")[2]) for prefix in LAYERS if key.startswith(prefix)), None)
        group = make_group(tuple(base.shape), len(order))
        groups[key] = dataclasses.replace(
            group,
            name=key,
            base=base.double().numpy(),
            models=np.stack([tensors[each][key].double().numpy() for each in order]),
            weights=(1.0,) * len(order),
            labels=tuple(order),
            digests=tuple(model.digest for model in plan.models),
            layer=None if layer is None else (layer, 11),
        )
    for key, delta in merge_tensors(method, groups).items():
        expected = groups[key].base + 0.7 * delta
        np.testing.assert_allclose(
            found[key].numpy(), expected.astype(np.float32), rtol=2e-6, atol=2e-7, err_msg=key
        )


@pytest.mark.parametrize(("name", "values"), CASES)
def test_bits_for_any_threads_order_and_sharding(models, small_slices, monkeypatch, name, values):
    method = made(name, values)
    if method.needs_statistics:
        pytest.skip("needs measured statistics: tests/measure merges with them")
    names = models_for(method)
    method = made(name, labelled(values, names))
    root, _ = models
    contents = []
    for cores, place in ((1, "a"), (2, "b"), (3, "c")):
        monkeypatch.setattr(arithmetic, "core_count", lambda cores=cores: cores)
        made_recipe = engine_recipe(method)
        if method.symmetric and place == "b":
            reverse = made_recipe.models[::-1]
            made_recipe = made_recipe.model_copy(update={"models": reverse})
        merged = merge.merged_tensors(merge.plan(made_recipe, root / place))
        contents.append({key: bits(value).tobytes() for key, value in merged})
    assert contents[0] == contents[1] == contents[2]


@pytest.mark.parametrize(("name", "values"), CASES)
def test_scale_zero_is_the_base(models, name, values):
    method = made(name, values)
    if method.needs_statistics:
        pytest.skip("needs measured statistics: tests/measure merges with them")
    names = models_for(method)
    root, tensors = models
    zero = engine_recipe(made(name, labelled(values, names))).model_copy(update={"scale": 0.0})
    found = dict(merge.merged_tensors(merge.plan(zero, root / "a")))
    assert all(same_bits(found[key], base) for key, base in tensors["base"].items())


def test_randomness_follows_seed_tensor_and_content_alone(tmp_path):
    from mergekit_audio.methods.dare_linear import DareLinear

    base = random_tensors(0)
    family(tmp_path, ["makam", "lyra"])
    write_model(tmp_path / "again", {**load_file(tmp_path / "lyra" / "model.safetensors")})

    def merged(models, seed=0):
        made_recipe = recipe(models, method=DareLinear(density=0.5), seed=seed)
        return dict(merge.merged_tensors(merge.plan(made_recipe, tmp_path)))

    name = "encoder.layers.1.feed_forward.weight"
    first = merged(["makam", "lyra"])[name]
    assert first.equal(merged(["again", "makam"])[name])
    assert not first.equal(merged(["makam", "lyra"], seed=1)[name])
    dropped = merged(["makam"])[name] == base[name]
    assert abs(dropped.float().mean() - 0.5) < 0.01


def test_the_digest_of_a_tensor_is_that_of_the_checkpoint(tmp_path):
    tensors = family(tmp_path, ["makam"])
    plan = merge.plan(recipe(["makam"]), tmp_path)
    digests = {
        name: tensor_digest(name, str(value.dtype).removeprefix("torch."), value.numpy())
        for name, value in tensors["makam"].items()
    }
    assert plan.models[0].digest == content_digest(digests)
