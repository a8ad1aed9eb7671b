"""Translation of mergekit's recipes, on a Llama of 4 layers and a HuBERT-like model."""

import json
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from mergekit_audio.errors import RecipeError
from mergekit_audio.recipe.load import check_file, convert_file, load
from mergekit_audio.recipe.mergekit_yaml import as_yaml, convert, detect

PARTS = ("self_attn.q_proj.weight", "mlp.up_proj.weight", "input_layernorm.weight")
TASK = """\
merge_method: task_arithmetic
base_model: base
models:
  - {model: a, parameters: {weight: 1.0}}
  - {model: b, parameters: {weight: 0.5}}
"""


def write_llama(folder, layers=4, dtype="float32"):
    folder.mkdir()
    names = [f"model.layers.{i}.{part}" for i in range(layers) for part in PARTS]
    names += ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]
    save_file({name: np.ones((2, 2), dtype) for name in names}, folder / "model.safetensors")
    config = {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": layers}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mergekit")
    for name in ("base", "a", "b", "c"):
        write_llama(folder / name)
    write_llama(folder / "half", dtype="float16")
    hubert = ["encoder.layer_norm.weight", "encoder.conv.parametrizations.weight.original0"]
    hubert += [f"encoder.layers.{i}.fc.weight" for i in range(3)]
    hubert += [f"feature_extractor.conv_layers.{i}.weight" for i in range(3)]
    for name in ("hubert", "hubert_a"):
        (folder / name).mkdir()
        tensors = {each: np.ones(2, "float32") for each in hubert}
        save_file(tensors, folder / name / "model.safetensors")
    return folder


def converted(root, text):
    return convert(dedent(text), root / "theirs.yaml", root)


def values(root, text):
    recipe = converted(root, text)
    keys = {"models", "method", "scale", "groups", "stack", "exclude", "dtype", "base"}
    return recipe.model_dump(mode="json", include=keys, exclude_defaults=True)


def faults(root, text):
    with pytest.raises(RecipeError) as caught:
        converted(root, text)
    return [str(fault).split("theirs.yaml:")[1] for fault in caught.value.faults]


def settings_of(recipe, name):
    """Return a tensor's (method, scale, weights, parameters) under a recipe of ours."""
    from mergekit_audio.weights.globs import matches

    group = next(
        (
            group
            for group in recipe.groups
            if any(
                matches(glob, name)
                for glob in ([group.match] if isinstance(group.match, str) else group.match)
            )
        ),
        None,
    )
    weights = [entry.weight for entry in recipe.models]
    parameters = [entry.parameters for entry in recipe.models]
    if group is None:
        return recipe.method, recipe.scale, weights, parameters
    own = group.parameters or [{}] * len(weights)
    return (
        group.method or recipe.method,
        recipe.scale if group.scale is None else group.scale,
        weights if group.weights is None else group.weights,
        [{**first, **second} for first, second in zip(parameters, own, strict=True)],
    )


def test_a_recipe_with_merge_method_and_without_kind_is_mergekits():
    assert detect({"merge_method": "ties"})
    assert not detect({"merge_method": "ties", "kind": "merge"})
    assert not detect({"method": "ties"})
    assert not detect(["merge_method"])


def test_task_arithmetic_becomes_weights_and_scale(root):
    text = TASK + "parameters: {lambda: 0.2, density: 0.3}\nout_dtype: bfloat16\n"
    recipe = converted(root, text)
    assert recipe.base == "base"
    assert [(entry.model, entry.weight) for entry in recipe.models] == [("a", 1.0), ("b", 0.5)]
    assert (recipe.method.name, recipe.scale, recipe.dtype) == ("task_arithmetic", 0.2, "bfloat16")
    assert recipe.groups == []
    assert recipe.output == "theirs-merged"


def test_normalize_divides_by_the_weights_unless_they_cancel(root):
    assert converted(root, TASK + "parameters: {normalize: true}").method.name == "weighted_average"
    text = TASK.replace("0.5", "-1.0") + "parameters: {normalize: true}"
    assert converted(root, text).method.name == "task_arithmetic"


def test_a_gradient_becomes_a_group_for_each_layer(root):
    recipe = converted(root, TASK.replace("weight: 0.5", "weight: [0.2, 0.8]"))
    weights = [settings_of(recipe, f"model.layers.{i}.{PARTS[0]}")[2][1] for i in range(4)]
    assert weights == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert settings_of(recipe, "lm_head.weight")[2] == [1.0, 0.2]
    assert [group.match for group in recipe.groups] == [
        "model.layers.1.*",
        "model.layers.2.*",
        "model.layers.3.*",
    ]


def test_weight_files_have_no_layers_for_gradients(root):
    text = TASK.replace("weight: 0.5", "weight: [0.2, 0.8]")
    for name in ("base", "a", "b"):
        text = text.replace(f": {name}\n", f": {name}/model.safetensors\n")
        text = text.replace(f": {name},", f": {name}/model.safetensors,")
    recipe = converted(root, text)
    assert recipe.groups == []
    assert recipe.models[1].weight == 0.2
    path = root / "flat.yaml"
    path.write_text(text)
    assert "its first value everywhere" in convert_file(path, root).notes[0]
    path.write_text(text.replace("[0.2, 0.8]", "{filter: mlp, value: [1]}"))
    with pytest.raises(RecipeError, match="missing required parameter 'weight'"):
        convert_file(path, root)


def test_filters_of_slerp_become_methods_of_groups(root):
    recipe = converted(
        root,
        """
        merge_method: slerp
        base_model: base
        slices:
          - sources:
              - {model: base, layer_range: [0, 4]}
              - {model: a, layer_range: [0, 4]}
        parameters:
          t:
            - {filter: self_attn, value: [0, 1]}
            - {filter: mlp, value: 0.25}
            - {value: 0.5}
        """,
    )
    assert [entry.model for entry in recipe.models] == ["a"]
    assert recipe.stack == []
    places = {
        name: settings_of(recipe, name)[0].t
        for name in ["lm_head.weight", *(f"model.layers.2.{part}" for part in PARTS)]
    }
    assert list(places.values()) == pytest.approx([0.5, 2 / 3, 0.25, 0.5])
    assert ["model.layers.{0-3}.mlp.up_proj.weight"] in [
        [group.match] for group in recipe.groups if group.method.t == 0.25
    ]


def test_densities_that_differ_are_written_for_each_model(root):
    recipe = converted(
        root,
        """
        merge_method: ties
        base_model: base
        models:
          - {model: a, parameters: {density: {filter: mlp, value: 0.1}}}
          - {model: b, parameters: {density: 0.6}}
        parameters: {weight: 1, density: 0.6, lambda: 0.3, int8_mask: true}
        """,
    )
    method, scale, weights, parameters = settings_of(recipe, f"model.layers.0.{PARTS[1]}")
    assert (method.name, method.semantics, method.normalize, scale) == (
        "ties",
        "mergekit",
        True,
        0.3,
    )
    assert weights == [1.0, 1.0]
    assert parameters == [{"density": 0.1}, {"density": 0.6}]
    assert settings_of(recipe, "lm_head.weight")[3] == [{"density": 0.6}, {"density": 0.6}]


def test_values_beyond_a_bound_mean_the_bound(root):
    text = TASK.replace("task_arithmetic", "dare_ties") + "parameters: {density: 1.5}\n"
    assert converted(root, text).method.density == 1.0
    text = "merge_method: nearswap\nbase_model: base\nmodels: [{model: a}]\nparameters: {t: -1}\n"
    assert converted(root, text).method.t == 0.0


def test_modules_have_their_own_layers(root):
    recipe = converted(
        root,
        """
        merge_method: task_arithmetic
        base_model: hubert
        models: [{model: hubert_a, parameters: {weight: [0, 1]}}]
        """,
    )
    found = {
        name: settings_of(recipe, name)[2]
        for name in (
            "encoder.layers.1.fc.weight",
            "feature_extractor.conv_layers.2.weight",
            "encoder.layer_norm.weight",
        )
    }
    assert list(found.values()) == [[0.5], [1.0], [0.0]]


def test_modules_that_are_not_named_are_copied(root):
    text = """
        merge_method: task_arithmetic
        base_model: hubert
        modules:
          encoder.layers: {models: [{model: hubert_a}], parameters: {weight: 0.5}}
        """
    assert converted(root, text).exclude == [
        "encoder.conv.weight_g",
        "encoder.layer_norm.weight",
        "feature_extractor.conv_layers.{0-2}.weight",
    ]
    assert faults(root, text.replace("encoder.layers:", "encoder.layer:")) == [
        "5:3: modules.encoder.layer: the model has no such module; did you mean 'encoder.layers'?"
    ]


def test_filters_see_names_as_they_are_stored(root):
    recipe = converted(
        root,
        """
        merge_method: task_arithmetic
        base_model: hubert
        models: [{model: hubert_a}]
        parameters: {weight: [{filter: original0, value: 0.25}, {value: 1}]}
        """,
    )
    assert settings_of(recipe, "encoder.conv.weight_g")[2] == [0.25]


def test_layers_of_two_models_are_stacked(root):
    found = values(
        root,
        """
        merge_method: passthrough
        slices:
          - sources: [{model: a, layer_range: [0, 3]}]
          - sources: [{model: b, layer_range: [1, 4]}]
        """,
    )
    assert found["stack"] == [
        {"base": {"first": 0, "last": 2}, "models": [{"first": 0, "last": 2}, None]},
        {"base": {"first": 1, "last": 3}, "models": [None, {"first": 1, "last": 3}]},
    ]
    # The embedding comes from the first slice, norm and head from the last.
    assert found["groups"] == [
        {"match": ["lm_head.weight", "model.norm.weight"], "weights": [0.0, 1.0]},
        {"match": "model.embed_tokens.weight", "weights": [1.0, 0.0]},
    ]
    assert "base" not in found


def test_one_models_layers_may_come_twice_with_a_factor(root):
    found = converted(
        root,
        """
        merge_method: passthrough
        slices:
          - sources: [{model: a, layer_range: [0, 4]}]
          - sources:
              - model: a
                layer_range: [2, 4]
                parameters: {scale: [{filter: mlp, value: 0.0}, {value: 1.0}]}
        """,
    )
    assert [(part.base.first, part.base.last) for part in found.stack] == [(0, 3), (2, 3)]
    method = settings_of(found, "model.layers.5.mlp.up_proj.weight")[0]
    assert (method.name, method.factor) == ("passthrough", 0.0)
    assert settings_of(found, "model.layers.3.mlp.up_proj.weight")[0].factor is None


def test_shifted_sources_have_filters_on_their_own_names(root):
    recipe = converted(
        root,
        """
        merge_method: linear
        slices:
          - sources:
              - {model: a, layer_range: [0, 2], parameters: {weight: 1}}
              - model: b
                layer_range: [2, 4]
                parameters: {weight: [{filter: layers.3., value: 0.5}, {value: 0.25}]}
        """,
    )
    assert recipe.stack[0].models[1].first == 2
    assert settings_of(recipe, f"model.layers.1.{PARTS[0]}")[2] == [1.0, 0.5]
    assert settings_of(recipe, f"model.layers.0.{PARTS[0]}")[2] == [1.0, 0.25]


def test_references_name_adapters_and_revisions(root):
    recipe = converted(
        root,
        """
        merge_method: linear
        models:
          - {model: a+b, parameters: {weight: 1}}
          - model: {model: {path: org/model, revision: v1}, lora: org/adapter@main}
            parameters: {weight: 1}
        dtype: float32
        """,
    )
    assert [(entry.model, entry.adapter) for entry in recipe.models] == [
        ("a", "b"),
        ("org/model@v1", "org/adapter@main"),
    ]


def test_paths_start_from_the_current_folder_first(root, tmp_path, monkeypatch):
    write_llama(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    recipe = converted(root, TASK.replace("model: a", "model: ./a"))
    assert (root / recipe.models[0].model).resolve() == tmp_path / "a"
    assert recipe.models[1].model == "b"


def test_dtypes_that_differ_are_promoted(root):
    assert converted(root, TASK.replace("base_model: base", "base_model: half")).dtype == "float32"
    assert converted(root, TASK).dtype is None


def test_all_faults_come_at_once_with_their_lines(root):
    text = """\
        merge_method: task_arithmetic
        base_model: base
        models:
          - {model: a, parameters: {weight: x, normalize: true}}
          - {model: b, parameters: {weight: {filtr: mlp, value: 3}}}
        parameters: {lamda: 0.2}
        tokenizer_source: union
        chat_template: chatml
        dtype: float64
        """
    found = faults(root, text)
    assert [fault.split(": ")[:2] for fault in found] == [
        ["4:37", "models[0].parameters.weight"],
        ["4:40", "models[0].parameters.normalize"],
        ["5:38", "models[1].parameters.weight.filtr"],
        ["6:14", "parameters.lamda"],
        ["7:19", "tokenizer_source"],
        ["8:16", "chat_template"],
        ["9:8", "dtype"],
    ]
    assert "did you mean 'lambda'?" in found[3]
    assert "put it under the recipe's `parameters`" in found[1]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("merge_method: tie\nmodels: [{model: a}]", "did you mean 'ties'?"),
        (
            "merge_method: linear\nmodls: [{model: a}]",
            "modls: unknown key; did you mean 'mod",
        ),
        ("merge_method: linear", "expected one of models, slices or modules; found none"),
        ("merge_method: ties\nmodels: [{model: a, parameters: {weight: 1}}]", "has a base"),
        ("merge_method: linear\nmodels: [{model: a}, {model: b}]", "missing required parameter"),
        ("merge_method: linear\nmodels: [{model: a+b+c}]", "more than one +"),
        ("merge_method: linear\nmodels: [{model: a@b@c}]", "more than one @"),
        ("merge_method: karcher\nmodels: [{model: a}, {model: a}]", "a is here twice"),
        (
            "merge_method: slerp\nbase_model: base\nmodels: [{model: a}, {model: b}]",
            "takes 2 models",
        ),
        (TASK + "tokenizer: {source: base, tokens: {x: {source: a}}}", "tokenizer: tokenizers are"),
        (
            "merge_method: passthrough\nslices:\n  - sources: [{model: a, layer_range: [3, 1]}]",
            "expected [first, one after the last], found [3, 1]",
        ),
        (
            "merge_method: linear\nslices:\n"
            "  - sources: [{model: a, layer_range: [0, 1]}, {model: b, layer_range: [0, 2]}]",
            "equally many layers",
        ),
        (
            "merge_method: linear\nslices:\n  - sources: [{model: hubert, layer_range: [0, 1]}]",
            "several modules",
        ),
        (
            "merge_method: karcher\nslices:\n"
            "  - sources: [{model: a, layer_range: [0, 2]}]\n"
            "  - sources: [{model: b, layer_range: [2, 4]}]",
            "can't leave models out",
        ),
        (TASK.replace("base_model: base", "base_model: base+a"), "a base takes no adapter"),
        (TASK + "dtype: int64", "dtype: expected"),
        (TASK + "parameters: {weight: .nan}", "finite number"),
    ],
)
def test_what_can_not_be_run_is_a_fault(root, text, problem):
    assert any(problem in fault for fault in faults(root, text)), faults(root, text)


def test_tokenizer_source_base_is_what_happens_anyway(root):
    assert converted(root, TASK + "tokenizer_source: base").base == "base"
    assert converted(root, TASK + "tokenizer: {source: base}").base == "base"


def test_notes_say_what_differs(root):
    path = root / "noted.yaml"
    path.write_text(
        TASK.replace("weight: 0.5", "weight: [{filter: nowhere, value: 1}, {value: 2}]")
        + "parameters: {int8_mask: true, density: 0.5}\ndtype: bfloat16\n"
    )
    conversion = convert_file(path, root)
    text = " ".join(conversion.notes)
    for word in ("bfloat16", "int8_mask", "density", "'nowhere'"):
        assert word in text
    written = as_yaml(conversion, "noted.yaml")
    assert written.startswith("# noted.yaml, converted from mergekit's form.\n# Note: ")
    ours = root / "ours.yaml"
    ours.write_text(written)
    assert load(ours).recipe == conversion.recipe


def test_load_converts_and_overrides_reach_either_form(root):
    path = root / "loaded.yaml"
    path.write_text(TASK + "parameters: {lambda: 0.2}\n")
    loaded = load(path, ["output=out", "seed=3", "parameters.lambda=0.4"], kind="merge")
    assert (loaded.recipe.output, loaded.recipe.seed, loaded.recipe.scale) == ("out", 3, 0.4)
    assert load(path, ["output=out", "scale=0.7"]).recipe.scale == 0.7
    assert check_file(path) == ("mergekit", None)
    with pytest.raises(RecipeError, match="name no output folder"):
        load(path)
    with pytest.raises(RecipeError, match=r"parameters\.lamda: unknown parameter"):
        load(path, ["output=out", "parameters.lamda=0.4"])


def test_our_own_recipe_read_as_mergekits_shows_mergekits_faults(root, tmp_path):
    path = tmp_path / "ours.yaml"
    path.write_text(yaml.safe_dump({"kind": "merge", "base": "x"}))
    with pytest.raises(RecipeError, match="merge_method: missing required key"):
        load(Path(path), mergekit=True)
