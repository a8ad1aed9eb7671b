"""Masks against what fairseq's rule says of them: figures known, and probabilities worked out."""

from math import comb

import numpy as np
import pytest

from mergekit_audio.pretrain.masking import span_masks
from mergekit_audio.recipe.train_arguments import Masking

FRAMES, LENGTH = 374, 5
ROOM = FRAMES - LENGTH  # starts lie in [0, 369)


def probabilities():
    """The probability of each frame to be masked, from sampling without replacement.

    0.8 · 374 / 5 + u = 59.84 + u is cut to 60 spans with probability 0.84, else to 59; frame t
    stays clear when no start lies in (t - 5, t] below 369.
    """
    masked = np.zeros(FRAMES)
    for frame in range(FRAMES):
        covering = min(frame, ROOM - 1) - max(frame - LENGTH + 1, 0) + 1
        for spans, share in ((59, 0.16), (60, 0.84)):
            clear = comb(ROOM - covering, spans) / comb(ROOM, spans)
            masked[frame] += share * (1 - clear)
    return masked


def share_by_frame(rows, *, draws, same_count):
    generator = np.random.default_rng(rows)
    settings = Masking(same_count=same_count)
    total = np.zeros(FRAMES)
    for _ in range(draws):
        total += span_masks(rows, FRAMES, settings, generator).mean(axis=0)
    return total / draws


def test_untrimmed_masks_are_drawn_without_replacement_below_369():
    """With replacement 2.6 % less would be masked; a start at 369 would mask the last frame."""
    expected = probabilities()
    assert expected.mean() == pytest.approx(0.583, abs=0.0005)
    found = share_by_frame(64, draws=150, same_count=False)
    assert found.mean() == pytest.approx(expected.mean(), abs=0.001)
    np.testing.assert_allclose(found, expected, atol=0.025)  # 5 standard errors of a frame
    assert found[-1] == 0.0
    assert found[-2] == pytest.approx(60 / ROOM, abs=0.02)  # the start 368 alone masks it


def smallest_share(rows, batches):
    """The mean share of the sparsest of `rows` rows, drawn by sorting uniform numbers."""
    generator = np.random.default_rng(99)
    spans = (59.84 + generator.random(batches * rows)).astype(int)
    order = generator.random((batches * rows, ROOM)).argsort(axis=1).argsort(axis=1)
    starts = np.zeros((batches * rows, FRAMES + LENGTH), dtype=bool)
    starts[:, LENGTH : LENGTH + ROOM] = order < spans[:, None]
    masked = sum(starts[:, LENGTH - k : FRAMES + LENGTH - k] for k in range(LENGTH)) > 0
    return masked.mean(axis=1).reshape(batches, rows).min(axis=1).mean()


@pytest.mark.parametrize(
    ("rows", "published", "draws"), [(4, 0.559, 1500), (16, 0.539, 500), (32, 0.531, 300)]
)
def test_trimmed_shares_are_the_published_ones(rows, published, draws):
    """The figures were measured over few batches; the order statistic is exact to 0.1 %."""
    found = share_by_frame(rows, draws=draws, same_count=True).mean()
    assert found == pytest.approx(published, abs=0.003)
    assert found == pytest.approx(smallest_share(rows, draws), abs=0.002)


def test_trimming_deletes_frames_anywhere_alike():
    """What is left of a frame's share is the same factor everywhere, at the edges too."""
    found = share_by_frame(16, draws=600, same_count=True)
    factor = found.mean() / probabilities().mean()
    np.testing.assert_allclose(found[:-1], factor * probabilities()[:-1], atol=0.03)


def test_all_rows_have_the_count_of_the_smallest_untrimmed_row():
    """The same draws, untrimmed, tell the count; trimming draws after all rows are drawn."""
    for seed in range(20):
        loose = span_masks(8, FRAMES, Masking(same_count=False), np.random.default_rng(seed))
        even = span_masks(8, FRAMES, Masking(), np.random.default_rng(seed))
        assert set(even.sum(axis=1).tolist()) == {int(loose.sum(axis=1).min())}
        assert (even <= loose).all()
