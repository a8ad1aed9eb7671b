import numpy as np
import pytest

from mergekit_audio.pretrain.masking import span_masks
from mergekit_audio.recipe.train_arguments import Masking

FRAMES = 374


def fairseq_masks(rows, frames, mask_prob, length, generator, *, same_count):
    """fairseq's compute_mask_indices for a static length with overlaps, line by line."""
    indices = []
    for _ in range(rows):
        spans = max(2, int(mask_prob * frames / float(length) + generator.random()))
        starts = generator.choice(frames - length, spans, replace=False)
        row = np.asarray(
            [starts[j] + offset for j in range(len(starts)) for offset in range(length)]
        )
        indices.append(np.unique(row[row < frames]))
    least = min(len(row) for row in indices)
    mask = np.full((rows, frames), False)
    for i, row in enumerate(indices):
        kept = (
            generator.choice(row, least, replace=False) if same_count and len(row) > least else row
        )
        mask[i, kept] = True
    return mask


@pytest.mark.parametrize(
    ("rows", "same_count", "measured"),
    [(4, False, 0.583), (4, True, 0.559), (16, True, 0.539), (32, True, 0.531)],
)
def test_share_of_masked_frames_is_fairseqs(rows, same_count, measured):
    generator, other = np.random.default_rng(1), np.random.default_rng(2)
    settings = Masking(same_count=same_count)
    draws = 400
    ours = [span_masks(rows, FRAMES, settings, generator).mean() for _ in range(draws)]
    theirs = [
        fairseq_masks(rows, FRAMES, 0.8, 5, other, same_count=same_count).mean()
        for _ in range(draws)
    ]
    assert np.mean(ours) == pytest.approx(np.mean(theirs), abs=0.005)
    assert np.mean(ours) == pytest.approx(measured, abs=0.005)


def test_rows_have_the_same_count_and_spans_the_asked_length():
    generator = np.random.default_rng(0)
    mask = span_masks(8, FRAMES, Masking(), generator)
    assert len(set(mask.sum(axis=1).tolist())) == 1
    loose = span_masks(8, FRAMES, Masking(mask_prob=0.05, same_count=False), generator)
    for row in loose:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
        assert (edges[1::2] - edges[::2] >= 5).all()


def test_no_start_runs_over_the_end_and_every_frame_but_the_last_can_be_masked():
    generator = np.random.default_rng(0)
    seen = sum(
        span_masks(4, 20, Masking(mask_prob=0.3, same_count=False), generator).sum(axis=0)
        for _ in range(500)
    )
    assert (seen[:19] > 0).all()
    assert seen[19] == 0  # starts are drawn below T - length, as fairseq does


def test_at_least_min_masks_spans():
    mask = span_masks(1, FRAMES, Masking(mask_prob=1e-6, min_masks=3), np.random.default_rng(0))
    assert 5 < mask.sum() <= 15


def test_clips_shorter_than_a_span_are_refused():
    with pytest.raises(ValueError, match="5 frames can't hold"):
        span_masks(1, 5, Masking(), np.random.default_rng(0))
