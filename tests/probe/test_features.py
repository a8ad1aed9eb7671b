"""Features equal a plain HubertModel's averaged hidden states, and are cached by content."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch
from checkpoints import make_mert_checkpoint
from fairseq_files import make_heads, write_fairseq
from probing import CONFIG, write_corpus
from transformers import HubertConfig, HubertModel

from mergekit_audio.audio.store import Store
from mergekit_audio.backbones.hubert import Hubert
from mergekit_audio.backbones.mert import Mert
from mergekit_audio.errors import InputError
from mergekit_audio.probe import feature_cache
from mergekit_audio.probe import features as features_module
from mergekit_audio.probe.encoders import FrozenEncoder
from mergekit_audio.probe.features import extract, layers_needed
from mergekit_audio.recipe.protocols import Protocol
from mergekit_audio.weights.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("features")
    make_mert_checkpoint(root / "model", overrides=CONFIG, seed=0)
    write_corpus(root / "corpus", tracks=10)
    return root


class Counting:
    """Builds an encoder and counts what is built and how many clips it is given."""

    def __init__(self, folder, backbone=None):
        self.encoder = FrozenEncoder.of_checkpoint(Checkpoint.open(str(folder)), backbone or Mert())
        self.built = []
        self.clips = 0

    def build(self, last_layer):
        self.built.append(last_layer)
        model = self.encoder.build(last_layer)
        model.feature_projection.projection.register_forward_pre_hook(self.count)
        return model

    def count(self, module, arguments):
        self.clips += len(arguments[0])


def features_of(
    world, cache, *, folder=None, corpus="corpus", protocol=None, workers=1, layers=None
):
    counting = Counting(folder or world / "model")
    prepared = Store(world / "store").prepare(world / corpus)
    features = extract(
        counting.encoder,
        prepared,
        protocol or Protocol(chunk_s=0.5),
        cache,
        workers=workers,
        layers=layers,
        build=counting.build,
    )
    return features, counting, prepared


def one_corpus(world):
    return Store(world / "store").prepare(world / "corpus")


def array_of(cache, features):
    (path,) = cache.rglob(f"{features.key}.npy")
    return path


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
    model = Counting(world / "model").build(2)
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
    assert counting.built == [2]
    assert counting.clips == len(first.values) == 20
    assert first.layers == (0, 1, 2)
    again, idle, _ = features_of(world, tmp_path)
    assert (idle.built, idle.clips) == ([], 0)
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
    assert array_of(tmp_path / "one", one).read_bytes() == (
        array_of(tmp_path / "three", three).read_bytes()
    )


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
        features_of(world, tmp_path, protocol=Protocol(chunk_s=0.5, storage="float16")),
        features_of(world, tmp_path, protocol=Protocol(chunk_s=0.5, precision="bf16")),
    ]
    assert [counting.built for _, counting, _ in changed] == [[2]] * 6
    assert len({first.key, *(features.key for features, _, _ in changed)}) == 7
    probe_only = Protocol(chunk_s=0.5, hidden_size=7, learning_rate=0.1, layer=1, standardize=True)
    same, idle, _ = features_of(world, tmp_path, protocol=probe_only)
    assert (same.key, idle.built) == (first.key, [])


def test_tags_are_not_part_of_the_key(world, tmp_path):
    first, _, _ = features_of(world, tmp_path)
    shutil.copytree(world / "corpus", world / "retagged", dirs_exist_ok=True)
    manifest = world / "retagged" / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace("pitch--high", "register--upper"))
    same, idle, _ = features_of(world, tmp_path, corpus="retagged")
    assert (same.key, idle.built) == (first.key, [])


def test_only_the_layers_that_are_needed_are_built(world, tmp_path):
    every, _, _ = features_of(world, tmp_path / "all")
    first, counting, _ = features_of(world, tmp_path / "one", layers=(1,))
    assert counting.built == [1]
    assert first.layers == (1,)
    assert first.column(1) == 0
    np.testing.assert_array_equal(first.values[:, 0], every.values[:, 1])
    found, idle, _ = features_of(world, tmp_path / "all", layers=(1,))
    assert (idle.built, found.key, found.layers) == ([], every.key, (0, 1, 2))
    front, counting, _ = features_of(world, tmp_path / "one", layers=(0,))
    assert counting.built == [0]
    np.testing.assert_array_equal(front.values[:, 0], every.values[:, 0])


def test_weights_behind_the_last_layer_are_not_part_of_the_key(world, tmp_path):
    """Two merges that differ only in the last layer, or in the mask vector, share the others."""
    first, _, _ = features_of(world, tmp_path, layers=(1,))
    state = Checkpoint.open(str(world / "model")).state_dict()
    config = Checkpoint.open(str(world / "model")).config
    prepared = one_corpus(world)
    keys = []
    for name in ("encoder.layers.1.layer_norm.bias", "masked_spec_embed", None):
        changed = dict(state)
        if name is not None:
            changed[name] = changed[name] + 1
        encoder = FrozenEncoder.of_state(changed, config | {"layerdrop": 0.5}, Mert())
        found = extract(encoder, prepared, Protocol(chunk_s=0.5), tmp_path, layers=(1,))
        assert found.key == first.key
        keys.append(encoder.key(2))
    assert keys[0] != keys[1] == keys[2]


def test_a_layer_that_is_not_there_is_refused(world, tmp_path):
    with pytest.raises(InputError, match="hidden states 0 to 2"):
        features_of(world, tmp_path, layers=(3,))


def test_a_corpus_of_the_same_tracks_takes_their_rows_over(world, tmp_path):
    every, _, _ = features_of(world, tmp_path)
    shutil.copytree(world / "corpus", world / "part", dirs_exist_ok=True)
    manifest = world / "part" / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    renamed = [{**row, "id": f"z{row['id']}"} for row in rows[3:7]]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in renamed))
    part, idle, _ = features_of(world, tmp_path, corpus="part")
    assert idle.built == []
    np.testing.assert_array_equal(part.values, every.values[6:14])
    write_corpus(world / "more", tracks=5, seed=9)
    for row in rows[3:7]:
        shutil.copy(world / "corpus" / row["path"], world / "more" / f"old-{row['path']}")
    added = [{**row, "id": f"z{row['id']}", "path": f"old-{row['path']}"} for row in rows[3:7]]
    with open(world / "more" / "manifest.jsonl", "a") as stream:
        stream.write("".join(json.dumps(row) + "\n" for row in added))
    more, counting, _ = features_of(world, tmp_path, corpus="more")
    assert counting.clips == 10
    np.testing.assert_array_equal(more.values[10:], part.values)
    alone, _, _ = features_of(world, tmp_path / "alone", corpus="more")
    np.testing.assert_array_equal(alone.values, more.values)


def test_a_cut_cache_file_is_computed_again(world, tmp_path):
    first, _, _ = features_of(world, tmp_path)
    values = np.array(first.values)
    path = array_of(tmp_path, first)
    path.write_bytes(path.read_bytes()[:-8])
    again, counting, _ = features_of(world, tmp_path)
    assert counting.built == [2]
    np.testing.assert_array_equal(again.values, values)


def test_features_that_are_not_finite_name_the_recording(world, tmp_path):
    counting = Counting(world / "model")
    prepared = one_corpus(world)

    def broken(last_layer):
        model = counting.build(last_layer)
        model.encoder.layers[1].final_layer_norm.weight.data[0] = float("nan")
        return model

    for precision in ("fp32", "bf16"):
        protocol = Protocol(precision=precision)
        with pytest.raises(InputError, match=r"track000\.wav: .* not finite, in float32 either"):
            extract(counting.encoder, prepared, protocol, tmp_path, build=broken)
    assert not list(tmp_path.rglob("*.npy"))


def test_a_chunk_that_is_not_finite_in_bfloat16_is_computed_in_float32(world, tmp_path):
    """One chunk overflows in bfloat16; the others stay as they are."""
    counting = Counting(world / "model")
    prepared = one_corpus(world)
    chosen = prepared.tracks[4].wave(0, 12_000)
    mean, deviation = chosen.mean(dtype=np.float64), np.sqrt(chosen.var(dtype=np.float64) + 1e-7)
    marked = float(np.float32((chosen[0] - mean) / deviation))

    class Overflowing(Mert):
        def pooler(self, model, *, bfloat16):
            pooled = super().pooler(model, bfloat16=bfloat16)

            def call(wave):
                values = pooled(wave).clone()
                if bfloat16 and abs(float(wave[0, 0]) - marked) < 1e-6 and wave.shape[1] == 12_000:
                    values[0, 1, 0] = float("inf")
                return values

            return call

    object.__setattr__(counting.encoder, "backbone", Overflowing())
    features = extract(
        counting.encoder, prepared, Protocol(chunk_s=0.5, precision="bf16"), tmp_path
    )
    assert features.facts["retried"] == ["track004"]
    exact, _, _ = features_of(world, tmp_path, protocol=Protocol(chunk_s=0.5, precision="fp32"))
    np.testing.assert_array_equal(features.values[8], exact.values[8])
    assert not np.array_equal(features.values[7], exact.values[7])


@pytest.mark.parametrize("storage", ["float32", "float16"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision_and_storage_are_told_and_stay_near(world, tmp_path, precision, storage):
    exact, _, _ = features_of(world, tmp_path / "exact", protocol=Protocol(chunk_s=0.5))
    protocol = Protocol(chunk_s=0.5, precision=precision, storage=storage)
    found, _, _ = features_of(world, tmp_path, protocol=protocol)
    assert found.values.dtype == np.dtype(storage)
    assert found.facts["precision"] == precision
    assert found.facts["storage"] == storage
    difference = found.facts["relative_difference"]
    assert (difference is None) == (precision == "fp32")
    error = np.linalg.norm(found.values.astype(np.float64) - exact.values)
    limit = 2.0**-11 * (storage == "float16") + (0.02 if precision == "bf16" else 0.0)
    assert error <= (limit + 1e-12) * np.linalg.norm(exact.values)
    if precision == "bf16":
        assert 0 < difference < 0.02


@pytest.mark.parametrize(("limit", "taken"), [(0.0, "fp32"), (1.0, "bf16")])
def test_auto_measures_bfloat16_and_decides(world, tmp_path, monkeypatch, limit, taken):
    monkeypatch.setattr(feature_cache, "SAFE_DIFFERENCE", limit)
    monkeypatch.setattr(features_module, "may_use_bfloat16", lambda width, device: True)
    found, counting, _ = features_of(world, tmp_path)
    assert found.facts["precision"] == taken
    assert 0 < found.facts["relative_difference"] < 0.02
    assert counting.built == [2]
    again, idle, _ = features_of(world, tmp_path)
    assert (again.facts, idle.built) == (found.facts, [])


def test_narrow_encoders_stay_in_float32(world, tmp_path):
    found, _, _ = features_of(world, tmp_path)
    assert found.facts == {
        "precision": "fp32",
        "relative_difference": None,
        "retried": [],
        "storage": "float32",
    }


def test_a_value_too_large_for_float16_is_refused(world, tmp_path):
    counting = Counting(world / "model")
    prepared = one_corpus(world)

    def loud(last_layer):
        model = counting.build(last_layer)
        model.encoder.layers[1].final_layer_norm.weight.data *= 1e6
        return model

    protocol = Protocol(chunk_s=0.5, storage="float16")
    with pytest.raises(InputError, match="too large for float16") as caught:
        extract(counting.encoder, prepared, protocol, tmp_path, build=loud)
    assert "storage to float32" in caught.value.hint


def test_a_model_in_training_mode_is_refused(world, tmp_path):
    counting = Counting(world / "model")
    prepared = one_corpus(world)

    def training(last_layer):
        model = counting.build(last_layer)
        model.encoder.layers[0].dropout.train()
        return model

    with pytest.raises(ValueError, match=r"encoder\.layers\.0\.dropout is in training mode"):
        extract(counting.encoder, prepared, Protocol(), tmp_path, build=training)


def test_another_sample_rate_is_refused(world, tmp_path):
    with pytest.raises(InputError, match=r"sampling_rate is 24000, .* sound at 16000 Hz"):
        FrozenEncoder.of_checkpoint(Checkpoint.open(str(world / "model")), Hubert())
    prepared = Store(world / "store").prepare(world / "corpus", sample_rate_hz=16_000)
    with pytest.raises(InputError, match="prepared at 16000 Hz, but the encoder wants 24000 Hz"):
        extract(Counting(world / "model").encoder, prepared, Protocol(), tmp_path)


def test_a_chunk_shorter_than_a_frame_is_refused(world, tmp_path):
    protocol = Protocol(chunk_s=0.5, last_chunk="keep", min_last_chunk_s=0.001)
    write_corpus(world / "odd", tracks=10, duration_s=1.01)
    with pytest.raises(InputError, match="shorter than one frame"):
        features_of(world, tmp_path, corpus="odd", protocol=protocol)


def test_a_fairseq_file_gives_the_features_of_its_folder(world, tmp_path):
    folder = world / "model"
    checkpoint = Checkpoint.open(str(folder))
    heads = make_heads(16, codebooks=2, rows=9, final_size=8, bins=4)
    path = write_fairseq(
        tmp_path / "checkpoint.pt", checkpoint.state_dict(), checkpoint.config, heads
    )
    expected, _, prepared = features_of(world, tmp_path / "cache")
    encoder = FrozenEncoder.of_checkpoint(Checkpoint.open(str(path)), Mert())
    found = extract(encoder, prepared, Protocol(chunk_s=0.5), tmp_path / "cache")
    np.testing.assert_array_equal(found.values, expected.values)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, None),
        ({"layer": 6}, (6,)),
        ({"layer": 6, "select": {"layers": [3, 5]}}, (3, 5)),
        ({"layer": 6, "select": {"layers": [3, "weighted"]}}, None),
        ({"layer": 6, "select": {"layers": "all"}}, None),
        ({"layer": 6, "select": {"learning_rates": [1e-3]}}, (6,)),
    ],
)
def test_the_layers_that_a_protocol_needs(settings, expected):
    assert layers_needed(Protocol.model_validate(settings)) == expected


def test_several_devices_share_the_chunks(world, tmp_path, monkeypatch):
    """As with several GPUs: a copy of the model for each, the same bytes."""
    one, _, _ = features_of(world, tmp_path / "one")
    monkeypatch.setattr(features_module, "embedding_devices", lambda: ("cpu", "cpu:0"))
    encoder, prepared = Counting(world / "model").encoder, one_corpus(world)
    two = extract(encoder, prepared, Protocol(chunk_s=0.5), tmp_path / "two")
    np.testing.assert_array_equal(two.values, one.values)
