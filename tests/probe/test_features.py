"""Features equal a plain HubertModel's averaged hidden states, and are cached by content."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch
from checkpoints import make_mert_checkpoint
from probing import CONFIG, write_corpus
from transformers import HubertConfig, HubertModel

from mergekit_audio.audio.store import Store
from mergekit_audio.backbones.mert import Mert
from mergekit_audio.errors import InputError
from mergekit_audio.probe.features import extract
from mergekit_audio.probe.points import checkpoint_row
from mergekit_audio.recipe.evaluate import Protocol
from mergekit_audio.weights.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("features")
    make_mert_checkpoint(root / "model", overrides=CONFIG, seed=0)
    write_corpus(root / "corpus", tracks=10)
    return root


class Counting:
    """Builds an encoder and counts its forward passes."""

    def __init__(self, folder):
        self.row = checkpoint_row("model", "model", Checkpoint.open(str(folder)), Mert())
        self.built = self.clips = 0

    def build(self):
        self.built += 1
        model = self.row.build()
        model.register_forward_pre_hook(self.count)
        return model

    def count(self, module, arguments):
        self.clips += len(arguments[0])


def features_of(world, cache, *, folder=None, corpus="corpus", protocol=None, workers=1):
    counting = Counting(folder or world / "model")
    prepared = Store(world / "store").prepare(world / corpus)
    settings = protocol or Protocol(chunk_s=0.5)
    features = extract(
        counting.row.key, counting.build, Mert(), prepared, settings, cache, workers=workers
    )
    return features, counting, prepared


def plain_model(folder):
    """Load the weights into transformers' own model without this package."""
    from safetensors.torch import load_file

    config = json.loads((folder / "config.json").read_text())
    known = HubertConfig().to_dict()
    kept = {key: value for key, value in config.items() if key in known and "dtype" not in key}
    kept = {key: value for key, value in kept.items() if key not in ("model_type", "architectures")}
    model = HubertModel(HubertConfig(**kept))
    state = load_file(folder / "model.safetensors")
    prefix = "encoder.pos_conv_embed.conv."
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        state[f"{prefix}parametrizations.weight.{new}"] = state.pop(prefix + old)
    model.load_state_dict(state, strict=True)
    return model.eval()


@pytest.mark.parametrize("normalize", [True, False])
def test_features_equal_a_plain_hubert_model(world, tmp_path, normalize):
    protocol = Protocol(chunk_s=0.5, last_chunk="keep", min_last_chunk_s=0.1, normalize=normalize)
    features, _, prepared = features_of(world, tmp_path, protocol=protocol)
    model = plain_model(world / "model")
    row = 0
    for index, track in enumerate(prepared.tracks):
        wave, rate = soundfile.read(world / "corpus" / f"{track.track.id}.wav", dtype="float32")
        assert rate == 24_000
        for start in range(0, len(wave), 12_000):
            chunk = wave[start : start + 12_000].astype(np.float64)
            if len(chunk) < 2_400:
                continue
            if normalize:
                chunk = (chunk - chunk.mean()) / np.sqrt(chunk.var() + 1e-7)
            with torch.inference_mode():
                wave_in = torch.from_numpy(chunk.astype(np.float32))[None]
                states = model(wave_in, output_hidden_states=True).hidden_states
            expected = np.stack([state[0].double().mean(dim=0).numpy() for state in states])
            assert features.track_of_chunk[row] == index
            np.testing.assert_allclose(features.values[row], expected, rtol=0, atol=2e-5)
            row += 1
    assert row == len(features.values)


def test_a_chunk_does_not_know_its_neighbours(world, tmp_path):
    """Lengths differ between the tracks: padding would change the shorter ones."""
    together, _, prepared = features_of(world, tmp_path / "all", protocol=Protocol(chunk_s=30))
    lengths = {track.samples for track in prepared.tracks}
    assert len(lengths) == 2
    row = checkpoint_row("m", "model", Checkpoint.open(str(world / "model")), Mert())
    model = row.build()
    for index in (0, 1, 9):
        wave = prepared.tracks[index].wave()
        wave = (wave - wave.mean(dtype=np.float64)) / np.sqrt(wave.var(dtype=np.float64) + 1e-7)
        with torch.inference_mode():
            states = Mert().hidden_states(model, torch.from_numpy(wave.astype(np.float32))[None])
        np.testing.assert_allclose(
            together.values[index], states[0].mean(dim=1).numpy(), rtol=0, atol=2e-6
        )


def test_the_second_time_nothing_is_built(world, tmp_path):
    first, counting, _ = features_of(world, tmp_path)
    assert counting.built == 1
    assert counting.clips == len(first.values) == 20
    again, idle, _ = features_of(world, tmp_path)
    assert (idle.built, idle.clips) == (0, 0)
    assert again.key == first.key
    np.testing.assert_array_equal(again.values, first.values)


def test_the_bytes_do_not_depend_on_threads(world, tmp_path):
    one, _, _ = features_of(world, tmp_path / "one")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        three, _, _ = features_of(world, tmp_path / "three", workers=3)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert (tmp_path / "one" / f"{one.key}.npy").read_bytes() == (
        tmp_path / "three" / f"{three.key}.npy"
    ).read_bytes()


def test_other_weights_audio_or_settings_are_computed_anew(world, tmp_path):
    first, _, _ = features_of(world, tmp_path)
    make_mert_checkpoint(
        world / "near", overrides=CONFIG, seed=1, perturb_of=world / "model", perturb_scale=1e-4
    )
    write_corpus(world / "other", tracks=10, seed=1)
    changed = [
        features_of(world, tmp_path, folder=world / "near"),
        features_of(world, tmp_path, corpus="other"),
        features_of(world, tmp_path, protocol=Protocol(chunk_s=0.4)),
        features_of(world, tmp_path, protocol=Protocol(chunk_s=0.5, normalize=False)),
    ]
    assert [counting.built for _, counting, _ in changed] == [1, 1, 1, 1]
    assert len({first.key, *(features.key for features, _, _ in changed)}) == 5
    probe_only = Protocol(chunk_s=0.5, hidden_size=7, learning_rate=0.1, layer=1, standardize=True)
    same, idle, _ = features_of(world, tmp_path, protocol=probe_only)
    assert (same.key, idle.built) == (first.key, 0)


def test_tags_are_not_part_of_the_key(world, tmp_path):
    first, _, _ = features_of(world, tmp_path)
    shutil.copytree(world / "corpus", world / "retagged", dirs_exist_ok=True)
    manifest = world / "retagged" / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace("pitch--high", "register--upper"))
    same, idle, _ = features_of(world, tmp_path, corpus="retagged")
    assert (same.key, idle.built) == (first.key, 0)


def test_a_cut_cache_file_is_computed_again(world, tmp_path):
    first, _, _ = features_of(world, tmp_path)
    values = np.array(first.values)
    path = tmp_path / f"{first.key}.npy"
    path.write_bytes(path.read_bytes()[:-8])
    again, counting, _ = features_of(world, tmp_path)
    assert counting.built == 1
    np.testing.assert_array_equal(again.values, values)


def test_features_that_are_not_finite_name_the_recording(world, tmp_path):
    prepared = Store(world / "store").prepare(world / "corpus")
    row = checkpoint_row("m", "model", Checkpoint.open(str(world / "model")), Mert())
    model = row.build()
    with torch.no_grad():
        model.encoder.layers[1].final_layer_norm.weight[0] = float("nan")
    with pytest.raises(InputError, match=r"track000\.wav: the encoder's features are not finite"):
        extract("broken", lambda: model, Mert(), prepared, Protocol(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_chunk_shorter_than_a_frame_is_refused(world, tmp_path):
    protocol = Protocol(chunk_s=0.5, last_chunk="keep", min_last_chunk_s=0.001)
    write_corpus(world / "odd", tracks=10, duration_s=1.01)
    with pytest.raises(InputError, match="shorter than one frame"):
        features_of(world, tmp_path, corpus="odd", protocol=protocol)
