"""Files of fairseq's layout: what is read of them, and that nothing in them is run."""

import builtins
import json
import os
import zipfile

import numpy as np
import pytest
import torch
from checkpoints import make_mert_checkpoint
from fairseq_files import make_heads, write_fairseq
from safetensors.torch import load_file

from mergekit_audio.errors import InputError
from mergekit_audio.weights._restricted_pickle import read_pickled
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.fairseq import (
    FairseqShard,
    fairseq_file_of,
    import_fairseq,
    is_fairseq_file,
    special_rows,
)

SMALL = {
    "conv_dim": [8, 8, 8, 8, 8, 8, 8],
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
    "initializer_range": 0.02,
}
HEADS = make_heads(16, codebooks=2, rows=12, final_size=4, bins=6)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = make_mert_checkpoint(tmp_path_factory.mktemp("hf") / "base", overrides=SMALL)
    return load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("settings", ["namespace", "omegaconf", "plain", "args"])
def test_weights_config_and_heads_are_those_of_the_file(tmp_path, base, settings, zipped):
    state, config = base
    path = write_fairseq(
        tmp_path / "m_fairseq.pt", state, config, HEADS, settings=settings, zipped=zipped
    )
    assert is_fairseq_file(path)
    checkpoint = Checkpoint.open(str(path))
    read = checkpoint.state_dict()
    assert sorted(read) == sorted(state)
    assert all(torch.equal(read[name], state[name]) for name in state)
    assert checkpoint.config == config
    assert checkpoint.files() == [path]
    heads = checkpoint.fairseq.heads()
    assert sorted(heads) == [
        *("cqt.bias", "cqt.weight"),
        *("encodec.final_proj.bias", "encodec.final_proj.weight", "encodec.label_embs"),
    ]
    expected = HEADS["label_embs_concat"].reshape(2, 12, 4)
    assert torch.equal(torch.from_numpy(heads["encodec.label_embs"]), expected)
    assert torch.equal(torch.from_numpy(heads["cqt.weight"]), HEADS["encoder_cqt_model.fc.weight"])


def test_half_precision_becomes_float32_exactly(tmp_path, base):
    state, config = base
    path = write_fairseq(tmp_path / "m.pt", state, config, HEADS, dtype=torch.float16)
    checkpoint = Checkpoint.open(str(path))
    assert {info.dtype for info in checkpoint.index.values()} == {"float32"}
    name = "encoder.layers.1.attention.q_proj.weight"
    assert torch.equal(checkpoint.tensor(name), state[name].half().float())


def test_the_imported_folder_is_drop_in(tmp_path, base):
    state, config = base
    path = write_fairseq(tmp_path / "m.pt", state, config, HEADS)
    import_fairseq(path, tmp_path / "out")
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == [
        *("config.json", "heads.safetensors", "model.safetensors", "preprocessor_config.json")
    ]
    folder, file = Checkpoint.open(str(tmp_path / "out")), Checkpoint.open(str(path))
    assert folder.digest() == file.digest()
    assert folder.config == file.config
    assert folder.fairseq is None
    preprocessor = json.loads((tmp_path / "out/preprocessor_config.json").read_text())
    assert preprocessor["do_normalize"] is False
    assert load_file(tmp_path / "out/heads.safetensors")["encodec.label_embs"].shape == (2, 12, 4)
    with pytest.raises(InputError, match=r"exists|not empty"):
        import_fairseq(path, tmp_path / "out")


def test_pre_norm_and_attention_relaxation_are_kept(tmp_path, base):
    state, config = base
    path = write_fairseq(
        tmp_path / "m.pt", state, config, HEADS, layer_norm_first=True, attention_relax=32.0
    )
    assert Checkpoint.open(str(path)).config["do_stable_layer_norm"] is True
    assert Checkpoint.open(str(path)).config["attention_relax"] == 32.0
    path = write_fairseq(tmp_path / "n.pt", state, config, HEADS, layer_norm_first=None)
    assert Checkpoint.open(str(path)).config["do_stable_layer_norm"] is False


def test_rows_follow_the_dictionaries_of_the_file(tmp_path, base):
    state, config = base
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    codes = [str(code) for code in range(8)]
    shuffled = ["3", "0", "7", "1", "2", "6", "5", "4"]
    path = write_fairseq(
        *(tmp_path / "m.pt", state, config, HEADS),
        dictionaries=[special + codes, special + shuffled],
    )
    found = FairseqShard(path).heads()["encodec.label_embs"]
    table = HEADS["label_embs_concat"].reshape(2, 12, 4).numpy()
    assert (found[0] == table[0]).all()
    assert (found[1][:4] == table[1][:4]).all()
    for code in range(8):
        assert (found[1][4 + code] == table[1][4 + shuffled.index(str(code))]).all()
    wrong = write_fairseq(
        *(tmp_path / "w.pt", state, config, HEADS), dictionaries=[[*special, *"abcdefgh"]] * 2
    )
    with pytest.raises(InputError, match="a dictionary of its labels"):
        FairseqShard(wrong).heads()


@pytest.mark.parametrize(("rows", "offset"), [(1024, 0), (1028, 4), (1025, None), (500, None)])
def test_the_row_count_tells_the_offset(rows, offset):
    assert special_rows(rows, 1024) == offset


def test_unmapped_and_missing_tensors_are_all_listed(tmp_path, base):
    state, config = base
    left = {name: each for name, each in state.items() if "layers.1.attention.q" not in name}
    extra = {**HEADS, "encoder.layers.0.adapter.weight": torch.zeros(2, 2)}
    path = write_fairseq(tmp_path / "m.pt", left, config, extra)
    with pytest.raises(InputError) as caught:
        Checkpoint.open(str(path))
    assert "3 faults" in caught.value.message
    assert "unexpected tensor encoder.layers.0.adapter.weight [2, 2]" in caught.value.message
    assert "missing tensor encoder.layers.1.self_attn.q_proj.bias" in caught.value.message
    assert "missing tensor encoder.layers.1.self_attn.q_proj.weight" in caught.value.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deepnorm": True}, "deepnorm is True"),
        ({"encoder_embed_dim": 32}, "encoder_embed_dim is 32, expected 16"),
        ({"encoder_attention_heads": None}, "no encoder_attention_heads"),
        ({"encoder_attention_heads": 5}, "does not divide 16"),
        ({"dropout": np.float64(0.1)}, "dropout is <numpy.*scalar>, expected a number"),
        ({"layer_norm_first": "yes"}, "layer_norm_first is 'yes'"),
        ({"conv_feature_layers": "[(9,10,5)]"}, "asks for width 9"),
        ({"conv_feature_layers": "__import__('os').system('x')"}, "expected a list of"),
        ({"extractor_mode": "other"}, "extractor_mode is 'other'"),
    ],
)
def test_settings_that_contradict_the_tensors_are_refused(tmp_path, base, changes, message):
    state, config = base
    path = write_fairseq(tmp_path / "m.pt", state, config, HEADS, **changes)
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        Checkpoint.open(str(path))


class Runs:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda mark: Runs(os.system, f"touch {mark}"), r"(posix|nt)\.system"),
        (lambda mark: Runs(builtins.eval, f"open({mark!r}, 'w')"), "eval"),
        (lambda mark: Runs(builtins.exec, f"open({mark!r}, 'w')"), "exec"),
        (lambda mark: Runs(builtins.getattr, dict, "fromkeys"), "getattr"),
        (lambda mark: Runs(open, mark, "w"), r"io\.open"),
        (lambda mark: [{"deep": (Runs(os.mkdir, mark),)}], "mkdir"),
        (lambda mark: Runs(os.path.join, "a"), "join"),
    ],
)
def test_code_in_a_pickle_is_named_and_never_run(tmp_path, base, make, name, zipped):
    state, config = base
    mark = str(tmp_path / "mark")
    path = write_fairseq(
        *(tmp_path / "m_fairseq.pt", state, config, HEADS), zipped=zipped, junk=make(mark)
    )
    with pytest.raises(InputError, match=f"refused: it asks for .*({name})"):
        Checkpoint.open(str(path))
    assert not os.path.exists(mark)


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.",
        b"\x80\x04\x8c\x08argparse\x8c\x0a_os.system\x93.",
        b"\x80\x04\x8c\x09omegaconf\x8c\x0asys.module\x93.",
        b"\x80\x02c__builtin__\ngetattr\n.",
        b"\x80\x02cbuiltins\n__import__\nX\x02\x00\x00\x00os\x85R.",
        b"\x80\x02ctorch\nload\n.",
        b"\x80\x02ctorch.storage\n_load_from_bytes\n.",
        b"\x80\x02ccollections\nOrderedDict\nN}X\x01\x00\x00\x00xK\x01s\x86b.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x01\x00\x00\x00xK\x01s\x86b.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))tR.",
        b"\x80\x02U\x01aQ.",
        b"garbage",
        b"",
    ],
)
def test_programs_written_by_hand_only_raise(tmp_path, program):
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", program)
    with pytest.raises(InputError, match=r"refused|damaged"):
        read_pickled(path)
    path.write_bytes(program)
    with pytest.raises(InputError, match=r"refused|damaged"):
        read_pickled(path)


def test_tensors_beyond_their_storage_are_refused(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"a": torch.arange(6.0).reshape(2, 3).t(), "b": torch.zeros(2)}, path)
    tensor = read_pickled(path)["a"]
    assert tensor.bits().tolist() == [[0, 3], [1, 4], [2, 5]]
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in entries if name.endswith("data.pkl"))
    assert entries[pickled].count(b"K\x03K\x02\x86") == 1
    entries[pickled] = entries[pickled].replace(b"K\x03K\x02\x86", b"K\x03K\x09\x86")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(InputError, match="larger than its storage"):
        read_pickled(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_cut_file_is_damaged(tmp_path, base, zipped):
    state, config = base
    path = write_fairseq(tmp_path / "m.pt", state, config, HEADS, zipped=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 2000])
    with pytest.raises(InputError):
        read_pickled(path)


def test_files_of_other_kinds_are_not_taken_for_fairseq(tmp_path, base):
    state, _ = base
    torch.save(state, tmp_path / "model_fairseq.pt")
    assert not is_fairseq_file(tmp_path / "model_fairseq.pt")
    assert fairseq_file_of(tmp_path) is None
    assert Checkpoint.open(str(tmp_path / "model_fairseq.pt")).fairseq is None
    (tmp_path / "empty.pt").write_bytes(b"")
    assert not is_fairseq_file(tmp_path / "empty.pt")
    with pytest.raises(InputError, match="can't be read"):
        read_pickled(tmp_path / "missing.pt")
