"""Residual k-means against loops in NumPy, scikit-learn's k-means, and its own promises."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.numpy import load_file
from safetensors.torch import save_file

from mergekit_audio.errors import InputError
from mergekit_audio.progress import silent
from mergekit_audio.teachers._fitting import sample_frames
from mergekit_audio.teachers._kmeans import residual_kmeans
from mergekit_audio.teachers._logmel import LogMel
from mergekit_audio.teachers._nce import CodebookHead
from mergekit_audio.teachers.residual_kmeans import ResidualKmeans

SETTINGS = {"codebooks": 3, "codebook_size": 12, "mel_bins": 20, "window": 1024}


def melody(seed, seconds=4.0):
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
    path = tmp_path_factory.mktemp("teacher") / "residual_kmeans.safetensors"
    ResidualKmeans(**SETTINGS).fit(clips, path, seed=3)
    return path


def log_mel_by_hand(wave, mel_bins, window):
    """One frame after the other, each filter by its definition."""
    wave = np.concatenate([np.zeros(window), wave.astype(np.float64), np.zeros(window)])
    hann = np.array([np.sin(np.pi * n / window) ** 2 for n in range(window)])
    top, bottom = 2595 * np.log10(1 + 12_000 / 700), 2595 * np.log10(1 + 30 / 700)
    edges = [
        700 * (10 ** ((bottom + (top - bottom) * i / (mel_bins + 1)) / 2595) - 1)
        for i in range(mel_bins + 2)
    ]
    hertz = [k * 24_000 / window for k in range(window // 2 + 1)]
    filters = np.array(
        [
            [max(0.0, min((f - low) / (middle - low), (high - f) / (high - middle))) for f in hertz]
            for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False)
        ]
    )
    rows = []
    for t in range(1 + (len(wave) - 2 * window - 400) // 320):
        centre = window + 320 * t + 200
        piece = wave[centre - window // 2 : centre + window // 2] * hann
        power = np.abs(np.fft.rfft(piece)) ** 2 / (hann.sum() / 2) ** 2
        rows.append(np.log(np.maximum(filters @ power, 1e-8)))
    return np.array(rows)


def codes_by_hand(frames, books):
    codes = []
    for frame in frames:
        residual, row = frame.copy(), []
        for book in books:
            best = min(range(len(book)), key=lambda c: ((residual - book[c]) ** 2).sum())
            residual = residual - book[best]
            row.append(best)
        codes.append(row)
    return np.array(codes)


def test_log_mel_frames_are_the_definition():
    wave = melody(9, 0.25).numpy()
    found = LogMel(20, 1024)(torch.from_numpy(wave)[None])[0].numpy()
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, log_mel_by_hand(wave, 20, 1024), rtol=0, atol=1e-9)


def test_codes_are_those_of_a_loop_over_frames_and_codes(fitted, clips):
    books = load_file(fitted)["codebooks"].astype(np.float64)
    assert books.shape == (3, 12, 20)
    codes = ResidualKmeans(**SETTINGS).open(fitted, root=Path()).targets(clips[0][None])
    assert codes.shape == (1, 299, 3)
    assert codes.dtype == torch.int64
    frames = log_mel_by_hand(clips[0].numpy(), 20, 1024)
    np.testing.assert_array_equal(codes[0].numpy(), codes_by_hand(frames, books))


def test_every_codebook_brings_the_frames_nearer(fitted, clips):
    books = load_file(fitted)["codebooks"].astype(np.float64)
    codes = ResidualKmeans(**SETTINGS).open(fitted, root=Path()).targets(clips[1][None])[0].numpy()
    frames = log_mel_by_hand(clips[1].numpy(), 20, 1024)
    errors = [((frames - frames.mean(0)) ** 2).sum(axis=1).mean()]
    for k in range(1, 4):
        reconstruction = sum(books[j][codes[:, j]] for j in range(k))
        errors.append(((frames - reconstruction) ** 2).sum(axis=1).mean())
    assert errors[1] < 0.5 * errors[0]
    assert errors[2] < 0.8 * errors[1]
    assert errors[3] < 0.9 * errors[2]
    assert all(len(np.unique(codes[:, k])) > 6 for k in range(3))


def test_every_code_is_the_mean_of_its_points():
    generator = np.random.default_rng(0)
    points = generator.standard_normal((3000, 6)) * [3, 2, 1, 1, 1, 1]
    books = residual_kmeans(points, 2, 16, iterations=300, seed=1, after_codebook=lambda done: None)
    residual = points
    for book in books:
        nearest = ((residual[:, None] - book[None]) ** 2).sum(axis=2).argmin(axis=1)
        means = np.stack([residual[nearest == code].mean(axis=0) for code in range(16)])
        np.testing.assert_allclose(book, means, atol=1e-6)
        residual = residual - book[nearest]


def test_the_same_recordings_and_seed_give_the_same_bytes(tmp_path, fitted, clips):
    again, other = tmp_path / "again", tmp_path / "other"
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        ResidualKmeans(**SETTINGS).fit(iter(clips), again, seed=3)
    finally:
        torch.set_num_threads(threads)
    ResidualKmeans(**SETTINGS).fit(clips, other, seed=4)
    assert again.read_bytes() == fitted.read_bytes()
    assert other.read_bytes() != fitted.read_bytes()
    digests = [
        ResidualKmeans(**SETTINGS).open(p, root=Path()).digest for p in (fitted, again, other)
    ]
    assert digests[0] == digests[1] != digests[2]
    assert len(digests[0]) == 64


def test_codes_do_not_depend_on_the_batch_or_the_threads(fitted, clips):
    teacher = ResidualKmeans(**SETTINGS).open(fitted, root=Path())
    together = teacher.targets(torch.stack(clips))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        apart = torch.cat([teacher.targets(clip[None]) for clip in clips])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(together, apart)


@pytest.mark.parametrize("samples", [400, 719, 720, 5000, 120_000])
def test_as_many_frames_as_the_backbone(fitted, samples):
    codes = ResidualKmeans(**SETTINGS).open(fitted, root=Path()).targets(torch.zeros(2, samples))
    assert codes.shape == (2, 1 + (samples - 400) // 320, 3)


def test_a_click_shows_in_the_frame_whose_middle_it_is():
    wave = torch.zeros(1, 8000)
    wave[0, 320 * 10 + 200] = 1.0
    frames = LogMel(20, 512)(wave)[0]
    assert frames.sum(dim=1).argmax() == 10


def test_frames_are_drawn_evenly_when_there_are_too_many(tmp_path, clips):
    log_mel = LogMel(20, 1024)
    every = np.concatenate([log_mel(clip[None])[0].numpy() for clip in clips])
    drawn = sample_frames(iter(clips), log_mel, 200, seed=0, teacher="t", progress=silent)
    places = [int(np.abs(every - row).max(axis=1).argmin()) for row in drawn]
    np.testing.assert_allclose(drawn, every[places], rtol=0, atol=1e-9)
    assert len(drawn) == 200
    assert places == sorted(set(places))
    assert all(30 <= count <= 70 for count in np.histogram(places, 4, (0, len(every)))[0])


def test_progress_tells_of_clips_and_codebooks(tmp_path, clips):
    events = []
    ResidualKmeans(**SETTINGS).fit(clips, tmp_path / "t", seed=0, progress=events.append)
    assert [event.done for event in events] == [1, 2, 3, 4, 1, 2, 3]
    assert {event.task for event in events} == {
        "fit residual_kmeans: listen",
        "fit residual_kmeans: cluster",
    }


def test_the_head_fits_the_codes(fitted, clips):
    teacher = ResidualKmeans(**SETTINGS, final_size=5).open(fitted, root=Path())
    head = teacher.head(16)
    assert isinstance(head, CodebookHead)
    assert tuple(head.label_embs.shape) == (3, 12, 5)
    codes = teacher.targets(clips[0][None])[0]
    loss, sums = teacher.loss(head, torch.randn(len(codes), 16), codes)
    assert loss.item() == pytest.approx(sum(sums[f"cross_entropy_{k}"].item() for k in range(3)))
    warmer = ResidualKmeans(**SETTINGS, logit_temperature=1e6).open(fitted, root=Path())
    flat, _ = warmer.loss(warmer.head(16), torch.randn(len(codes), 16), codes)
    assert flat.item() == pytest.approx(len(codes) * 3 * np.log(12), rel=1e-4)


def test_too_little_audio_is_an_error(tmp_path):
    for clips, message in [
        ([], "no recordings"),
        ([torch.zeros(2000)], "hold 6 frames"),
        ([torch.zeros(24_000)], "only 1 different frames"),
    ]:
        with pytest.raises(InputError, match=message):
            ResidualKmeans(**SETTINGS).fit(clips, tmp_path / "t", seed=0)
        assert not list(tmp_path.iterdir())


def test_a_file_of_other_settings_or_a_damaged_one_is_refused(tmp_path, fitted):
    open_with = ResidualKmeans(**SETTINGS).open
    with pytest.raises(InputError, match="has not been fitted"):
        open_with(None, root=tmp_path)
    with pytest.raises(InputError, match="absent: can't read the fitted teacher"):
        open_with(tmp_path / "absent", root=tmp_path)
    with pytest.raises(InputError, match=r"\[3, 12, 20\].*asks for torch.float32 \[2, 12, 20\]"):
        ResidualKmeans(**SETTINGS | {"codebooks": 2}).open(fitted, root=tmp_path)
    with pytest.raises(InputError, match=r"'window': 1024.*'window': 2048"):
        ResidualKmeans(**SETTINGS | {"window": 2048}).open(fitted, root=tmp_path)
    cut = tmp_path / "cut"
    cut.write_bytes(fitted.read_bytes()[:-100])
    with pytest.raises(InputError, match="cut: can't read the fitted teacher"):
        open_with(cut, root=tmp_path)
    metadata = {"features": '{"mel_bins":20,"window":1024}'}
    save_file({"codebooks": torch.full((3, 12, 20), float("nan"))}, tmp_path / "nan", metadata)
    with pytest.raises(InputError, match="nan: codebooks: holds NaN"):
        open_with(tmp_path / "nan", root=tmp_path)
    save_file({"books": torch.zeros(3, 12, 20)}, tmp_path / "other", metadata)
    with pytest.raises(InputError, match=r"holds \['books'\]"):
        open_with(tmp_path / "other", root=tmp_path)


def test_settings_are_checked():
    with pytest.raises(ValidationError, match="codebook_size"):
        ResidualKmeans(codebook_size=1)
    with pytest.raises(ValidationError, match="Extra inputs"):
        ResidualKmeans(code_books=3)
    assert ResidualKmeans().needs_fit
    assert ResidualKmeans.targets_are_cached
