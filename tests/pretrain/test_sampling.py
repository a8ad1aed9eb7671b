from fractions import Fraction

import numpy as np
import pytest

from mergekit_audio.pretrain.sampling import clip_order, crop_start, interleave, whole_counts


def test_shares_are_exact_and_spread_evenly():
    shares = [Fraction(4, 5), Fraction(1, 5)]
    order = clip_order(shares, [7, 3], 100, seed=1, stage=0)
    assert np.bincount(order.sources).tolist() == [80, 20]
    blocks = order.sources.reshape(10, 10).sum(axis=1)
    assert blocks.tolist() == [2] * 10


def test_every_segment_comes_once_a_pass():
    order = clip_order([Fraction(1)], [6], 15, seed=1, stage=0)
    assert sorted(order.segments[:6]) == sorted(order.segments[6:12]) == list(range(6))
    assert order.segments[:6].tolist() != order.segments[6:12].tolist()
    again = clip_order([Fraction(1)], [6], 15, seed=1, stage=0)
    other_stage = clip_order([Fraction(1)], [6], 15, seed=1, stage=1)
    assert order.segments.tolist() == again.segments.tolist()
    assert order.segments.tolist() != other_stage.segments.tolist()


def test_whole_counts_by_largest_remainder():
    assert whole_counts([Fraction(1, 3)] * 3, 10) == [4, 3, 3]
    assert whole_counts([Fraction(55, 100), Fraction(45, 100)], 3) == [2, 1]


def test_interleave_by_hand():
    # thirds of the first stand at 1/6, 3/6, 5/6, the one of the second at 1/2: the first goes first
    assert interleave([3, 1]).tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("snap", [1, 320])
def test_crops_cover_the_segment_on_the_grid(snap):
    starts = [
        crop_start(24_000, 12_000, snap=snap, seed=0, stage=0, position=i) for i in range(2000)
    ]
    assert min(starts) >= 0
    assert max(starts) <= 12_000
    assert all(start % snap == 0 for start in starts)
    assert np.mean(starts) == pytest.approx(6000, rel=0.05)
    assert crop_start(12_000, 12_000, snap=snap, seed=0, stage=0, position=0) == 0
