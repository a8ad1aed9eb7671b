"""The random-projection quantiser against a loop in NumPy, and its own promises."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.numpy import load_file

from mergekit_audio.errors import InputError
from mergekit_audio.teachers._logmel import LogMel
from mergekit_audio.teachers._nce import CodebookHead
from mergekit_audio.teachers.random_projection import RandomProjection

SETTINGS = {
    "codebooks": 2,
    "codebook_size": 32,
    "codebook_dimension": 4,
    "mel_bins": 20,
    "window": 1024,
}


def noise(seed, samples=12_000):
    """Return noise that gets louder and softer."""
    generator = np.random.default_rng(seed)
    loudness = np.repeat(generator.uniform(0.01, 0.5, samples // 1000), 1000)
    return torch.from_numpy((loudness * generator.standard_normal(samples)).astype(np.float32))


@pytest.fixture(scope="module")
def clips():
    return [noise(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, clips):
    path = tmp_path_factory.mktemp("teacher") / "random_projection.safetensors"
    RandomProjection(**SETTINGS).fit(clips, path, seed=3)
    return path


def codes_by_hand(wave, fitted, stack):
    """Frame by frame and code by code, by the smallest distance on the unit sphere."""
    before, after = (stack - 1) // 2, stack // 2
    silence = [torch.zeros(320 * before), wave, torch.zeros(320 * after)]
    mel = LogMel(20, 1024)(torch.cat(silence)[None])[0].numpy()
    mel = (mel - fitted["mean"].astype(float)) / fitted["deviation"].astype(float)
    rows = []
    for t in range(len(mel) - stack + 1):
        x = np.concatenate([mel[t + i] for i in range(stack)])
        row = []
        for projection, codes in zip(fitted["projection"], fitted["codes"], strict=True):
            y = x @ projection.astype(float)
            y /= np.linalg.norm(y)
            row.append(
                min(range(len(codes)), key=lambda c: np.linalg.norm(y - codes[c].astype(float)))
            )
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("stack", [1, 3, 4])
@pytest.mark.parametrize("normalisation", ["global", "band"])
def test_codes_are_those_of_a_loop(tmp_path, clips, stack, normalisation):
    teacher = RandomProjection(**SETTINGS, stack=stack, normalisation=normalisation)
    teacher.fit(clips, tmp_path / "t", seed=0)
    tensors = load_file(tmp_path / "t")
    assert tensors["projection"].shape == (2, stack * 20, 4)
    assert tensors["codes"].shape == (2, 32, 4)
    np.testing.assert_allclose(np.linalg.norm(tensors["codes"], axis=-1), 1.0, rtol=1e-6)
    codes = teacher.open(tmp_path / "t", root=Path()).targets(clips[1][None])
    assert codes.shape == (1, 37, 2)
    assert codes.dtype == torch.int64
    np.testing.assert_array_equal(codes[0], codes_by_hand(clips[1], tensors, stack))
    assert all(len(codes[..., k].unique()) > 3 for k in range(2))


@pytest.mark.parametrize(("normalisation", "axis"), [("global", None), ("band", 0)])
def test_mean_and_deviation_are_those_of_the_frames(tmp_path, clips, normalisation, axis):
    RandomProjection(**SETTINGS, normalisation=normalisation).fit(clips, tmp_path / "t", seed=0)
    frames = np.concatenate([LogMel(20, 1024)(clip[None])[0].numpy() for clip in clips])
    found = load_file(tmp_path / "t")
    np.testing.assert_allclose(found["mean"], np.atleast_1d(frames.mean(axis)), rtol=1e-6)
    np.testing.assert_allclose(found["deviation"], np.atleast_1d(frames.std(axis)), rtol=1e-6)


def test_the_seed_of_the_recipe_draws_projections_and_codes(tmp_path, fitted, clips):
    again, other = tmp_path / "again", tmp_path / "other"
    RandomProjection(**SETTINGS).fit(iter(clips), again, seed=3)
    RandomProjection(**SETTINGS).fit(clips, other, seed=4)
    assert again.read_bytes() == fitted.read_bytes()
    one, two = load_file(fitted), load_file(other)
    assert not np.array_equal(one["projection"], two["projection"])
    assert not np.array_equal(one["codes"], two["codes"])
    assert not np.array_equal(one["codes"][0], one["codes"][1])
    digests = [
        RandomProjection(**SETTINGS).open(path, root=Path()).digest
        for path in (fitted, again, other)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_codes_do_not_depend_on_the_batch_the_threads_or_the_projections_scale(
    tmp_path, fitted, clips
):
    teacher = RandomProjection(**SETTINGS).open(fitted, root=Path())
    together = teacher.targets(torch.stack(clips))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        apart = torch.cat([teacher.targets(clip[None]) for clip in clips])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(together, apart)
    teacher.projection *= 8.0
    assert torch.equal(together, teacher.targets(torch.stack(clips)))


def test_a_band_that_never_changes_does_not_count(tmp_path):
    time = torch.arange(24_000, dtype=torch.float64) / 24_000
    low = 0.3 * time * torch.sin(2 * torch.pi * 200 * time)  # far above, all bands are at the floor
    teacher = RandomProjection(**SETTINGS, normalisation="band")
    teacher.fit([low], tmp_path / "t", seed=0)
    deviation = load_file(tmp_path / "t")["deviation"]
    assert deviation[-1] == 1.0
    assert deviation[:3].min() > 0.1
    assert len(teacher.open(tmp_path / "t", root=Path()).targets(low[None])[..., 0].unique()) > 3


@pytest.mark.parametrize("samples", [400, 719, 720, 120_000])
def test_as_many_frames_as_the_backbone(fitted, samples):
    codes = RandomProjection(**SETTINGS).open(fitted, root=Path()).targets(torch.zeros(2, samples))
    assert codes.shape == (2, 1 + (samples - 400) // 320, 2)


def test_frames_lie_in_the_middle_of_their_stack(tmp_path):
    """Of four frames, a click changes the codes of the frame itself and of those that see it."""
    teacher = RandomProjection(**SETTINGS | {"window": 512, "codebook_size": 4096}, stack=4)
    teacher.fit([noise(0)], tmp_path / "t", seed=0)
    opened = teacher.open(tmp_path / "t", root=Path())
    quiet = 1e-3 * noise(1)
    clicked = quiet.clone()
    clicked[320 * 20 + 200] += 1.0
    differ = (opened.targets(quiet[None]) != opened.targets(clicked[None])).any(dim=-1)[0]
    # A stack holds frames t - 1 … t + 2, so that frames 18 … 21 see frame 20.
    assert differ[18:22].all()
    assert not differ[:17].any()
    assert not differ[23:].any()


def test_the_head_fits_the_codes(fitted, clips):
    teacher = RandomProjection(**SETTINGS, final_size=5).open(fitted, root=Path())
    head = teacher.head(16)
    assert isinstance(head, CodebookHead)
    assert tuple(head.label_embs.shape) == (2, 32, 5)
    codes = teacher.targets(clips[0][None])[0]
    loss, sums = teacher.loss(head, torch.randn(len(codes), 16), codes)
    assert loss.item() == pytest.approx(sum(sums[f"cross_entropy_{k}"].item() for k in range(2)))


def test_silent_or_no_recordings_are_an_error(tmp_path):
    for clips, message in [
        ([], "no recordings to fit random_projection on"),
        ([torch.zeros(24_000)], "do not vary"),
    ]:
        with pytest.raises(InputError, match=message):
            RandomProjection(**SETTINGS).fit(clips, tmp_path / "t", seed=0)
        assert not list(tmp_path.iterdir())


def test_a_file_of_other_settings_or_a_damaged_one_is_refused(tmp_path, fitted):
    with pytest.raises(InputError, match="random_projection has not been fitted"):
        RandomProjection(**SETTINGS).open(None, root=tmp_path)
    with pytest.raises(InputError, match=r"codes: .*\[2, 32, 4\].*float32 \[2, 64, 4\]"):
        RandomProjection(**SETTINGS | {"codebook_size": 64}).open(fitted, root=tmp_path)
    with pytest.raises(InputError, match=r"'stack': 3.*'stack': 4"):
        RandomProjection(**SETTINGS, stack=4).open(fitted, root=tmp_path)
    cut = tmp_path / "cut"
    cut.write_bytes(fitted.read_bytes()[:-100])
    with pytest.raises(InputError, match="cut: can't read the fitted teacher"):
        RandomProjection(**SETTINGS).open(cut, root=tmp_path)


def test_settings_are_musicfms_and_checked():
    teacher = RandomProjection()
    assert (teacher.codebook_dimension, teacher.codebook_size, teacher.mel_bins) == (16, 4096, 128)
    assert teacher.codebooks == 1
    assert teacher.needs_fit
    assert RandomProjection.targets_are_cached
    with pytest.raises(ValidationError, match="stack"):
        RandomProjection(stack=0)
