"""Grams against the inputs themselves, however clips are batched; clips drawn from the corpus."""

import json

import numpy as np
import pytest
import torch
from measuring import make_models, measure_recipe
from recordings import write_recording
from torch import nn

from mergekit_audio import measure
from mergekit_audio.audio.store import Store
from mergekit_audio.errors import InputError
from mergekit_audio.measure.sound import draw_clips, prepare_sound
from mergekit_audio.progress import silent
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.statistics import open_statistics


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp("grams"))


def inputs_by_weight(folder, waves, monkeypatch):
    """Return the rows that enter each linear layer, caught where the layer computes."""
    from mergekit_audio.backbones.mert import Mert

    checkpoint = Checkpoint.open(str(folder))
    model = Mert().build(checkpoint.config, checkpoint.state_dict(), training=False)
    names = {id(each): name for name, each in model.named_modules()}
    caught = {}
    forward = nn.Linear.forward

    def catching(self, given):
        rows = given.detach().double().numpy().reshape(-1, given.shape[-1])
        caught.setdefault(f"{names[id(self)]}.weight", []).append(rows)
        return forward(self, given)

    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(nn.Linear, "forward", catching)
        for wave in waves:
            model(torch.from_numpy(wave[None]))
    return {name: np.concatenate(rows) for name, rows in caught.items()}


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_against_the_inputs_themselves(project, monkeypatch, batch_size):
    recipe = measure_recipe(project, batch_size=batch_size, output=f"batch{batch_size}")
    planned = measure.plan(recipe, project)
    measure.run(planned)
    found = open_statistics(planned.output)
    sound = prepare_sound(planned, planned.subjects[0], silent)
    inputs = inputs_by_weight(project / "makam", sound.waves(sound.clips), monkeypatch)
    assert sorted(found.names["gram"]) == sorted(inputs)
    assert "feature_projection.projection.weight" in inputs
    assert len(inputs) == 1 + 2 * 6
    for name, rows in inputs.items():
        gram = found.read("gram", name)
        assert gram.dtype == np.float32
        expected = rows.T @ rows / len(rows)
        assert np.abs(gram - expected).max() < 1e-5 * np.abs(expected).max(), name


def test_clips_are_spread_over_the_corpus_and_keyed_by_the_seed(tmp_path):
    for i in range(3):
        write_recording(tmp_path / "audio" / f"{i}.wav", duration_s=2.0, seed=i)
    corpus = Store(tmp_path / "store").prepare(tmp_path / "audio")
    clips = draw_clips(corpus, 7, 0.5, snap=320, seed=1)
    assert clips == draw_clips(corpus, 7, 0.5, snap=320, seed=1)
    assert clips != draw_clips(corpus, 7, 0.5, snap=320, seed=2)
    assert clips[:5] == draw_clips(corpus, 5, 0.5, snap=320, seed=1)
    tracks = [clip.track_index for clip in clips]
    assert sorted(tracks[:3]) == sorted(tracks[3:6]) == [0, 1, 2]
    assert all(clip.start % 320 == 0 and 0 <= clip.start <= 48_000 - 12_000 for clip in clips)
    assert len({clip.start for clip in clips}) > 3


def test_clips_come_from_the_training_split(tmp_path):
    rows = []
    for i, split in enumerate(["train", "valid", "test", "train"]):
        write_recording(tmp_path / "audio" / f"{i}.wav", duration_s=2.0, seed=i)
        rows.append(json.dumps({"id": f"t{i}", "path": f"{i}.wav", "split": split}))
    (tmp_path / "audio" / "manifest.jsonl").write_text("\n".join(rows) + "\n")
    corpus = Store(tmp_path / "store").prepare(tmp_path / "audio")
    clips = draw_clips(corpus, 6, 0.5, snap=320, seed=1)
    assert {clip.track_index for clip in clips} == {0, 3}
    with pytest.raises(InputError, match="no track of the split 'train' is as long as a clip"):
        draw_clips(corpus, 6, 3.0, snap=320, seed=1)
