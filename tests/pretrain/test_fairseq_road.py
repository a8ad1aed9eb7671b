"""The whole road of a fairseq file on the command line: train, export, plain HuBERT, go on."""

import json

import pytest
import torch
import yaml
from commands import run
from fairseq_files import make_heads, write_fairseq
from pretraining import DROPOUT, SMALL, make_base, make_corpus, make_recipe
from safetensors.torch import load_file
from transformers import EncodecConfig, EncodecModel, HubertModel

from mergekit_audio.backbones.mert import Mert
from mergekit_audio.weights.checkpoint import Checkpoint

CODES, BINS, FINAL = 1024, 24, 8
TEACHERS = [
    {"name": "encodec", "model": "codec", "codebooks": 2, "final_size": FINAL},
    {"name": "cqt", "bins": BINS, "bins_per_octave": 12, "lowest_hz": 200.0},
]
STAGES = [
    {
        "name": "stabilise",
        "train": ["feature_extractor.*", "heads.*.label_embs"],
        "steps": 2,
        "peak_lr": 1e-3,
    },
    {"name": "adapt", "train": ["*"], "steps": 2, "peak_lr": 1e-3},
]
# What the settings of the two released sizes say, at another width.
LIKE_95M = DROPOUT | {"feat_proj_dropout": 0.1, "do_stable_layer_norm": False}
LIKE_330M = {
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "layerdrop": 0.0,
    "do_stable_layer_norm": True,
    "attention_relax": 32.0,
}


def make_codec(folder):
    """Save a random EnCodec of 1,024 codes whose codebooks hold frames of noise."""
    torch.manual_seed(0)
    model = EncodecModel(
        EncodecConfig(
            num_filters=4,
            hidden_size=16,
            codebook_size=CODES,
            num_lstm_layers=1,
            target_bandwidths=[1.5],
        )
    ).eval()
    with torch.no_grad():
        frames = model.encoder(0.3 * torch.randn(1, 1, 320 * (CODES + 8)))[0].T
        for place, layer in enumerate(model.quantizer.layers):
            layer.codebook.embed.copy_(frames[place % 8 :][:CODES])
    model.save_pretrained(folder)


def train(root, base, output):
    """Run `cmerge train-culture` and return what it said."""
    made = make_recipe(
        base=base,
        heads="import",
        teachers=TEACHERS,
        stages=STAGES,
        replay=None,
        arguments={"gradient_accumulation_steps": 1},
        output=output,
    )
    (root / "recipe.yaml").write_text(
        yaml.safe_dump(made.model_dump(mode="json", exclude_unset=True))
    )
    done = run(root, "train-culture", "recipe.yaml")
    assert done.code == 0, done.err
    return done


def hidden_states_of_plain_hubert(folder, wave):
    model, report = HubertModel.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    with torch.no_grad():
        return torch.stack(model.eval()(wave, output_hidden_states=True).hidden_states, dim=1)


@pytest.mark.parametrize(
    ("like", "settings", "offset"),
    [(LIKE_95M, "omegaconf", 4), (LIKE_330M, "args", 0)],
    ids=["95M, 1028 rows", "330M, 1024 rows"],
)
def test_from_fairseqs_file_to_our_own_output_and_on(tmp_path, like, settings, offset):
    make_base(tmp_path / "hf", **like)
    make_corpus(tmp_path / "makam", tracks=2, seed=1)
    make_codec(tmp_path / "codec")
    config = json.loads((tmp_path / "hf/config.json").read_text())
    heads = make_heads(16, codebooks=2, rows=CODES + offset, final_size=FINAL, bins=BINS)
    state = load_file(tmp_path / "hf/model.safetensors")
    write_fairseq(tmp_path / "mert_fairseq.pt", state, config, heads, settings=settings)

    told = train(tmp_path, "mert_fairseq.pt", "first")
    assert ("special_rows is 4" in told.err) == (offset == 4)
    first = tmp_path / "first"
    exported = json.loads((first / "config.json").read_text())
    assert exported["do_stable_layer_norm"] is like["do_stable_layer_norm"]
    assert exported["attention_relax"] == like.get("attention_relax", -1.0)
    assert sorted(load_file(first / "model.safetensors")) == sorted(state)  # weight_g, weight_v
    shapes = {
        name: tuple(each.shape) for name, each in load_file(first / "heads.safetensors").items()
    }
    assert shapes == {
        "cqt.bias": (BINS,),
        "cqt.weight": (BINS, SMALL["hidden_size"]),
        "encodec.final_proj.bias": (2 * FINAL,),
        "encodec.final_proj.weight": (2 * FINAL, SMALL["hidden_size"]),
        "encodec.label_embs": (2, CODES + offset, FINAL),
    }

    wave = 0.1 * torch.randn(2, 12_000, generator=torch.Generator().manual_seed(0))
    checkpoint, mert = Checkpoint.open(str(first)), Mert(attention="eager")
    trained = mert.build(exported, checkpoint.state_dict(), training=False)
    with torch.no_grad():
        own = mert.hidden_states(trained, wave)
    plain = hidden_states_of_plain_hubert(first, wave)
    torch.testing.assert_close(own, plain, rtol=1e-5, atol=1e-5)
    before = hidden_states_of_plain_hubert(tmp_path / "hf", wave)
    assert (before - plain).abs().max() > 1e-4

    train(tmp_path, "first", "second")
    lines = [json.loads(line) for line in (tmp_path / "second/log.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [
        *(("stabilise", 0), ("stabilise", 2), ("adapt", 2))
    ]
    moved = load_file(tmp_path / "second/heads.safetensors")
    for name, kept in load_file(first / "heads.safetensors").items():
        assert moved[name].shape == kept.shape
        assert 0 < (moved[name] - kept).abs().max() < 0.02, name
    if offset:  # no code is one of the rows before code 0, whose gradient is only the softmax's
        table = heads["label_embs_concat"].reshape(2, -1, FINAL)
        assert (moved["encodec.label_embs"] - table).abs().max() < 0.02
