"""Written folders load with transformers and run; broken ones are told apart."""

import json
from pathlib import Path

import pytest
import torch
from adapters import (
    tiny_bert,
    tiny_encodec,
    tiny_hubert,
    tiny_llama,
    tiny_wav2vec2,
    tiny_whisper,
)
from checkpoints import make_mert_checkpoint
from safetensors.torch import load_file, save_file

from mergekit_audio.errors import VerificationError
from mergekit_audio.merge.check_load import check_load
from mergekit_audio.weights.keys import canonical_name


@pytest.fixture
def hubert(tmp_path: Path) -> Path:
    tiny_hubert().save_pretrained(tmp_path / "hubert")
    (tmp_path / "hubert/preprocessor_config.json").write_text('{"sampling_rate": 24000}')
    return tmp_path / "hubert"


def change(folder: Path, **values) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def rewrite(folder: Path, edit) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors = edit(tensors) or tensors
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("build", "name", "inputs"),
    [
        (tiny_hubert, "HubertModel", {"input_values": (1, 16000)}),
        (tiny_wav2vec2, "Wav2Vec2ForCTC", {"input_values": (1, 16000)}),
        (
            tiny_whisper,
            "WhisperForConditionalGeneration",
            {"input_features": (1, 8, 60), "decoder_input_ids": (1, 1)},
        ),
        (tiny_encodec, "EncodecModel", {"input_values": (1, 1, 8000)}),
        (tiny_llama, "LlamaForCausalLM", {"input_ids": (1, 8)}),
        (tiny_bert, "BertModel", {"input_ids": (1, 8)}),
    ],
    ids=["hubert", "wav2vec2", "whisper", "encodec", "llama", "bert"],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_families_load_and_run(tmp_path: Path, build, name, inputs, dtype) -> None:
    model = build()
    model.to(getattr(torch, dtype)).save_pretrained(tmp_path)
    before = torch.random.get_rng_state()
    report = check_load(tmp_path)
    assert torch.equal(before, torch.random.get_rng_state())
    assert (report.model_class, report.inputs) == (name, inputs)
    assert report.parameters == sum(each.numel() for each in model.parameters())
    assert report.outputs > 0
    assert not report.own_code
    assert json.loads(json.dumps(report.as_dict()))["inputs"] == {
        key: list(shape) for key, shape in inputs.items()
    }


def test_the_preprocessors_rate_counts_and_both_spellings_of_weight_norm_load(hubert: Path) -> None:
    assert check_load(hubert).inputs == {"input_values": (1, 24000)}
    rewrite(hubert, lambda tensors: {canonical_name(name): t for name, t in tensors.items()})
    assert "encoder.pos_conv_embed.conv.weight_g" in load_file(hubert / "model.safetensors")
    assert check_load(hubert).model_class == "HubertModel"


@pytest.mark.parametrize("spelling", ["g_v", "original"])
def test_merts_own_type_loads_as_hubert(tmp_path: Path, spelling) -> None:
    make_mert_checkpoint(tmp_path, spelling=spelling)
    change(tmp_path, auto_map={"AutoModel": "modeling_MERT.MERTModel"})
    report = check_load(tmp_path)
    assert (report.model_class, report.inputs) == ("HubertModel", {"input_values": (1, 24000)})
    change(tmp_path, feature_extractor_cqt=True)
    with pytest.raises(VerificationError, match="feature_extractor_cqt is true") as caught:
        check_load(tmp_path)
    assert "--trust-remote-code" in caught.value.hint


def test_the_type_decides_where_architectures_do_not(hubert: Path) -> None:
    change(hubert, architectures=["SomebodysModel"])
    assert check_load(hubert).model_class == "HubertModel"


def test_missing_unexpected_and_mismatched_tensors_are_all_named(hubert: Path) -> None:
    def edit(tensors):
        tensors.pop("encoder.layer_norm.weight")
        tensors["extra"] = torch.ones(2)
        tensors["encoder.layer_norm.bias"] = torch.ones(3)

    rewrite(hubert, edit)
    with pytest.raises(VerificationError) as caught:
        check_load(hubert)
    assert caught.value.message.splitlines()[1:] == [
        "  missing tensor encoder.layer_norm.weight",
        "  unexpected tensor extra",
        "  encoder.layer_norm.bias: shape [3], the config asks for [16]",
    ]


def test_outputs_that_are_not_finite_are_refused(hubert: Path) -> None:
    def edit(tensors):
        tensors["encoder.layer_norm.weight"][0] = float("nan")

    rewrite(hubert, edit)
    with pytest.raises(VerificationError, match="not finite"):
        check_load(hubert)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden_size": 15}, "does not load as HubertModel"),
        ({"model_type": "unheard_of"}, "model_type is 'unheard_of', which transformers"),
        ({"conv_stride": [20000, 2]}, "forward pass of HubertModel on input_values .* failed"),
    ],
)
def test_folders_that_do_not_run_are_refused(hubert: Path, values, message: str) -> None:
    change(hubert, **values)
    with pytest.raises(VerificationError, match=message) as caught:
        check_load(hubert)
    assert caught.value.hint


def test_a_folder_without_a_config_or_weights_is_refused(hubert: Path) -> None:
    (hubert / "model.safetensors").unlink()
    with pytest.raises(VerificationError, match="does not load as HubertModel"):
        check_load(hubert)
    (hubert / "config.json").unlink()
    with pytest.raises(VerificationError, match="nothing says which model"):
        check_load(hubert)


def test_own_code_runs_only_when_it_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "own"
    tiny_hubert().save_pretrained(folder)
    (folder / "configuration_own.py").write_text(
        "from transformers import HubertConfig\n"
        "class OwnConfig(HubertConfig):\n    model_type = 'own'\n"
    )
    (folder / "modeling_own.py").write_text(
        "from transformers import HubertModel\nfrom .configuration_own import OwnConfig\n"
        "class OwnModel(HubertModel):\n    config_class = OwnConfig\n"
    )
    auto_map = {
        "AutoConfig": "configuration_own.OwnConfig",
        "AutoModel": "modeling_own.OwnModel",
    }
    change(folder, model_type="own", architectures=["OwnModel"], auto_map=auto_map)
    with pytest.raises(VerificationError, match="model_type is 'own'") as caught:
        check_load(folder)
    assert "--trust-remote-code" in caught.value.hint
    report = check_load(folder, trust_remote_code=True)
    assert (report.model_class, report.own_code) == ("OwnModel", True)
