"""k-means of log-mel and chroma against loops in NumPy, and the head of two unequal codebooks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.numpy import load_file
from torch.nn import functional

from mergekit_audio.errors import InputError
from mergekit_audio.teachers._chroma import Chroma
from mergekit_audio.teachers._logmel import LogMel
from mergekit_audio.teachers._nce import CodebookHead
from mergekit_audio.teachers.kmeans import Kmeans

SETTINGS = {
    "mel_codes": 10,
    "chroma_codes": 6,
    "mel_bins": 20,
    "chroma_bins": 24,
    "mel_window": 1024,
    "chroma_window": 2048,
}


def melody(seed, seconds=2.0):
    """Return tones with three harmonics that change four times a second, and a little noise."""
    generator = np.random.default_rng(seed)
    notes = 110.0 * 2.0 ** (generator.integers(0, 36, int(4 * seconds)) / 12)
    phase = 2 * np.pi * np.cumsum(np.repeat(notes, 6000)) / 24_000
    tone = sum(0.2 / h * np.sin(h * phase) for h in (1, 2, 3))
    return torch.from_numpy((tone + 0.01 * generator.standard_normal(len(tone))).astype(np.float32))


@pytest.fixture(scope="module")
def clips():
    return [melody(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, clips):
    path = tmp_path_factory.mktemp("teacher") / "kmeans.safetensors"
    Kmeans(**SETTINGS).fit(clips, path, seed=3)
    return path


def chroma_by_hand(wave, bins, window):
    """Frame by frame, frequency by frequency, class by class."""
    wave = np.concatenate([np.zeros(window), wave.astype(np.float64), np.zeros(window)])
    hann = np.array([np.sin(np.pi * n / window) ** 2 for n in range(window)])
    place = lambda k: bins * np.log2(k * 24_000 / window / 440)  # noqa: E731
    filters = np.zeros((window // 2 + 1, bins))
    for k in range(1, window // 2 + 1):
        width = max(place(k + 1) - place(k), 1.0)
        for m in range(bins):
            away = (place(k) - m) % bins
            filters[k, m] = np.exp(-0.5 * (2 * min(away, bins - away) / width) ** 2)
        octave = np.log2(k * 24_000 / window / 880) / 2
        filters[k] *= np.exp(-0.5 * octave**2) / np.sqrt((filters[k] ** 2).sum())
    rows = []
    for t in range(1 + (len(wave) - 2 * window - 400) // 320):
        centre = window + 320 * t + 200
        piece = wave[centre - window // 2 : centre + window // 2] * hann
        energy = (np.abs(np.fft.rfft(piece)) ** 2 / (hann.sum() / 2) ** 2) @ filters
        rows.append(energy / energy.max())
    return np.array(rows)


def test_chroma_frames_are_the_definition():
    wave = melody(9, 0.25).numpy()
    found = Chroma(24, 2048)(torch.from_numpy(wave)[None])[0].numpy()
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, chroma_by_hand(wave, 24, 2048), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("hertz", "pitch_class"), [(440.0, 0), (880.0, 0), (523.251, 66)])
def test_a_tone_shows_in_its_pitch_class_in_every_octave_and_silence_in_none(hertz, pitch_class):
    wave = 0.3 * torch.sin(2 * torch.pi * hertz * torch.arange(24_000, dtype=torch.float64) / 24e3)
    chroma = Chroma(264, 8192)
    assert chroma(wave[None])[0, 37].argmax().item() == pytest.approx(pitch_class, abs=1)
    assert not chroma(torch.zeros(1, 4000)).any()
    assert torch.equal(
        chroma(wave[None])[0, 37].argmax(), chroma(0.01 * wave[None])[0, 37].argmax()
    )


@pytest.mark.parametrize("kind", [lambda: LogMel(20, 1024), lambda: Chroma(24, 2048)])
def test_frames_by_number_are_those_of_the_whole_clip(kind, clips):
    features = kind()
    whole = features(clips[0][None])[0]
    places = torch.tensor([0, 3, 77, len(whole) - 1])
    torch.testing.assert_close(features.at(clips[0], places), whole[places], rtol=0, atol=1e-9)
    assert torch.equal(features.at(clips[0], None), whole)


def test_codes_are_those_of_a_loop_over_frames_and_means(fitted, clips):
    means = {name: each.astype(np.float64) for name, each in load_file(fitted).items()}
    assert {name: each.shape for name, each in means.items()} == {
        "mel": (10, 20),
        "chroma": (6, 24),
    }
    codes = Kmeans(**SETTINGS).open(fitted, root=Path()).targets(clips[1][None])
    assert codes.shape == (1, 149, 2)
    assert codes.dtype == torch.int64
    mel = LogMel(20, 1024)(clips[1][None])[0].numpy()
    for column, (name, frames) in enumerate(
        [("mel", mel), ("chroma", chroma_by_hand(clips[1].numpy(), 24, 2048))]
    ):
        distances = ((frames[:, None] - means[name][None]) ** 2).sum(axis=2)
        np.testing.assert_array_equal(codes[0, :, column], distances.argmin(axis=1))
    assert len(codes[0, :, 0].unique()) > 5
    assert len(codes[0, :, 1].unique()) > 3


def test_every_mean_is_that_of_its_frames(tmp_path, clips):
    path = tmp_path / "t"
    Kmeans(**SETTINGS, iterations=300).fit(clips, path, seed=1)
    teacher = Kmeans(**SETTINGS, iterations=300).open(path, root=Path())
    codes = torch.cat([teacher.targets(clip[None])[0] for clip in clips])
    mel = torch.cat([LogMel(20, 1024)(clip[None])[0] for clip in clips])
    chroma = torch.cat([Chroma(24, 2048)(clip[None])[0] for clip in clips])
    for column, (name, frames) in enumerate([("mel", mel), ("chroma", chroma)]):
        for code, mean in enumerate(load_file(path)[name]):
            own = frames[codes[:, column] == code].mean(dim=0)
            np.testing.assert_allclose(mean, own, atol=2e-5)


def test_the_same_recordings_and_seed_give_the_same_bytes(tmp_path, fitted, clips):
    again, other = tmp_path / "again", tmp_path / "other"
    Kmeans(**SETTINGS).fit(iter(clips), again, seed=3)
    Kmeans(**SETTINGS).fit(clips, other, seed=4)
    assert again.read_bytes() == fitted.read_bytes()
    assert other.read_bytes() != fitted.read_bytes()
    opened = [Kmeans(**SETTINGS).open(path, root=Path()) for path in (fitted, again, other)]
    assert opened[0].digest == opened[1].digest != opened[2].digest
    pairs = Kmeans(**SETTINGS, classes="product").open(fitted, root=Path())
    assert pairs.digest != opened[0].digest


def test_codes_do_not_depend_on_the_batch(fitted, clips):
    teacher = Kmeans(**SETTINGS).open(fitted, root=Path())
    apart = torch.cat([teacher.targets(clip[None]) for clip in clips])
    assert torch.equal(teacher.targets(torch.stack(clips)), apart)


@pytest.mark.parametrize("samples", [400, 719, 720, 120_000])
def test_as_many_frames_as_the_backbone(fitted, samples):
    codes = Kmeans(**SETTINGS).open(fitted, root=Path()).targets(torch.zeros(2, samples))
    assert codes.shape == (2, 1 + (samples - 400) // 320, 2)


def test_a_pair_is_one_class(fitted, clips):
    two = Kmeans(**SETTINGS).open(fitted, root=Path()).targets(clips[0][None])
    teacher = Kmeans(**SETTINGS, classes="product").open(fitted, root=Path())
    assert torch.equal(teacher.targets(clips[0][None]), two[..., :1] * 6 + two[..., 1:])
    assert tuple(teacher.head(16).label_embs.shape) == (1, 60, 64)


def test_unequal_codebooks_are_predicted_among_their_own_codes(fitted, clips):
    teacher = Kmeans(**SETTINGS, final_size=5).open(fitted, root=Path())
    torch.manual_seed(0)
    head = teacher.head(16)
    assert isinstance(head, CodebookHead)
    assert {name: tuple(each.shape) for name, each in head.state_dict().items()} == {
        "final_proj.weight": (10, 16),
        "final_proj.bias": (10,),
        "label_embs": (2, 10, 5),
    }
    codes = teacher.targets(clips[0][None])[0]
    frames = torch.randn(len(codes), 16)
    loss, sums = teacher.loss(head, frames, codes)
    projected = head.final_proj(frames).double().view(-1, 2, 5)
    expected = 0.0
    for k, size in enumerate((10, 6)):
        keys = functional.normalize(head.label_embs[k, :size].double(), dim=-1)
        logits = functional.normalize(projected[:, k], dim=-1) @ keys.T / 0.1
        own = functional.cross_entropy(logits, codes[:, k], reduction="sum")
        assert sums[f"cross_entropy_{k}"].item() == pytest.approx(own.item(), rel=1e-5)
        expected += own.item()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert all(bool(torch.isfinite(each.grad).all()) for each in head.parameters())
    assert not head.label_embs.grad[1, 6:].any()
    assert head.label_embs.grad[0].any(dim=-1).all()


def test_progress_tells_of_clips_and_clusterings(tmp_path, clips):
    events = []
    Kmeans(**SETTINGS).fit(clips, tmp_path / "t", seed=0, progress=events.append)
    assert [(event.task, event.done, event.total) for event in events] == [
        *[("fit kmeans: listen", done, None) for done in (1, 2, 3, 4)],
        *[("fit kmeans: cluster", done, 2) for done in (1, 2)],
    ]


def test_a_sample_of_the_frames_is_clustered(tmp_path, clips, monkeypatch):
    analysed = []
    whole = LogMel.at
    monkeypatch.setattr(
        LogMel, "at", lambda self, *given: analysed.append(whole(self, *given)) or analysed[-1]
    )
    Kmeans(**SETTINGS, max_frames=20).fit([*clips, *clips], tmp_path / "t", seed=0)
    # 149 frames a clip; of later clips only those are analysed that can still be among the 20.
    assert len(analysed[0]) == 149
    assert all(len(each) < 40 for each in analysed[1:])


def test_too_little_audio_is_an_error(tmp_path):
    for clips, message in [
        ([], "no recordings to fit kmeans on"),
        ([torch.zeros(2000)], "hold 6 frames .* fewer than the 10 codes of kmeans"),
        ([torch.zeros(24_000)], "only 1 different frames"),
    ]:
        with pytest.raises(InputError, match=message):
            Kmeans(**SETTINGS).fit(clips, tmp_path / "t", seed=0)
        assert not list(tmp_path.iterdir())


def test_a_file_of_other_settings_is_refused(tmp_path, fitted):
    with pytest.raises(InputError, match="kmeans has not been fitted"):
        Kmeans(**SETTINGS).open(None, root=tmp_path)
    with pytest.raises(InputError, match=r"mel: .*\[10, 20\].*asks for torch.float32 \[11, 20\]"):
        Kmeans(**SETTINGS | {"mel_codes": 11}).open(fitted, root=tmp_path)
    with pytest.raises(InputError, match=r"'chroma_window': 2048.*'chroma_window': 4096"):
        Kmeans(**SETTINGS | {"chroma_window": 4096}).open(fitted, root=tmp_path)


def test_settings_are_those_of_the_paper_and_checked():
    assert (Kmeans().mel_codes, Kmeans().mel_bins) == (300, 229)
    assert (Kmeans().chroma_codes, Kmeans().chroma_bins) == (200, 264)
    assert Kmeans(classes="product").classes == "product"
    assert Kmeans().needs_fit
    assert Kmeans.targets_are_cached
    with pytest.raises(ValidationError, match="90000 classes, more than the 65536"):
        Kmeans(mel_codes=300, chroma_codes=300, classes="product")
