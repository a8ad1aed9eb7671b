from mergekit_audio.recipe._mergekit_layout import architecture_of, modules

LLAMA = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]
LLAMA += [f"model.layers.{i}.mlp.experts.{j}.weight" for i in range(3) for j in range(2)]
HUBERT = ["masked_spec_embed", "encoder.layer_norm.weight"]
HUBERT += [f"feature_extractor.conv_layers.{i}.conv.weight" for i in range(7)]
HUBERT += [f"encoder.layers.{i}.attention.weight" for i in range(12)]


def test_a_known_llm_is_one_module_with_an_input_and_an_output_side():
    (module,) = modules(LLAMA, "LlamaForCausalLM")
    assert (module.name, module.prefix, module.count) == ("default", "model.layers", 3)
    assert module.before == ["model.embed_tokens.weight"]
    assert module.after == ["lm_head.weight", "model.norm.weight"]
    assert module.names_of(2) == [
        "model.layers.2.mlp.experts.0.weight",
        "model.layers.2.mlp.experts.1.weight",
    ]


def test_an_unknown_model_is_parted_by_what_stands_before_its_layers_numbers():
    found = {module.name: module for module in modules(HUBERT, "HubertModel")}
    assert {name: module.count for name, module in found.items()} == {
        "encoder.layers": 12,
        "feature_extractor.conv_layers": 7,
        "default": 0,
    }
    assert found["default"].before == ["encoder.layer_norm.weight", "masked_spec_embed"]


def test_one_stack_alone_takes_all_tensors():
    (module,) = modules(LLAMA, "NoSuchModel")
    assert (module.name, module.count) == ("default", 3)
    assert module.after == []
    assert len(module.before) == 3


def test_whisper_has_two_modules_whose_loose_tensors_are_their_own():
    names = [
        f"model.{part}.layers.{i}.fc1.weight" for part in ("encoder", "decoder") for i in (0, 1)
    ]
    names += ["model.encoder.conv1.weight", "model.decoder.embed_tokens.weight"]
    names += ["model.decoder.layer_norm.weight"]
    found = {module.name: module for module in modules(names, "WhisperForConditionalGeneration")}
    assert {name: module.count for name, module in found.items()} == {"decoder": 2, "encoder": 2}
    assert found["decoder"].before == ["model.decoder.embed_tokens.weight"]
    assert found["decoder"].after == ["model.decoder.layer_norm.weight"]


def test_the_longest_prefix_decides_in_vision_models():
    names = ["visual.merger.mlp.0.weight", "visual.blocks.0.attn.weight", "visual.patch.weight"]
    names += ["model.layers.0.mlp.weight", "lm_head.weight"]
    found = {each.name: each for each in modules(names, "Qwen2VLForConditionalGeneration")}
    assert found["multi_modal_projector"].after == ["visual.merger.mlp.0.weight"]
    assert found["vision_tower"].count == 1
    assert found["text_decoder"].after == ["lm_head.weight"]


def test_a_model_without_layers_is_one_module():
    (module,) = modules(["a.weight", "b.weight"], None)
    assert (module.name, module.count, len(module.before)) == ("default", 0, 2)


def test_an_architecture_is_known_where_the_config_names_one():
    assert architecture_of({"architectures": ["HubertModel"]}) == "HubertModel"
    assert architecture_of({"architectures": ["A", "B"]}) is None
    assert architecture_of(None) is None
