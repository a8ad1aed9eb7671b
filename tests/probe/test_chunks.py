"""Chunks are whole, nothing is padded, and every track gives at least one."""

import pytest

from mergekit_audio.probe.chunks import chunk_spans
from mergekit_audio.recipe.evaluate import Protocol

RATE = 10


@pytest.mark.parametrize(
    ("seconds", "settings", "expected"),
    [
        (2.5, {}, [(0, 25)]),
        (30, {}, [(0, 300)]),
        (70, {}, [(0, 300), (300, 600)]),
        (70, {"last_chunk": "keep"}, [(0, 300), (300, 600), (600, 700)]),
        (70, {"last_chunk": "keep", "min_last_chunk_s": 11}, [(0, 300), (300, 600)]),
        (70, {"last_chunk": "align"}, [(0, 300), (300, 600), (400, 700)]),
        (60, {"last_chunk": "align"}, [(0, 300), (300, 600)]),
        (60, {"overlap": 0.5}, [(0, 300), (150, 450), (300, 600)]),
        (500, {"max_duration_s": 40}, [(0, 300)]),
        (500, {"max_duration_s": 20}, [(0, 200)]),
    ],
)
def test_spans_of_a_track(seconds, settings, expected):
    spans = chunk_spans(round(seconds * RATE), Protocol(**settings), RATE)
    assert spans == expected
