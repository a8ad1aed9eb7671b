"""The tag rule, worked by hand."""

from __future__ import annotations

import random
from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from mergekit_audio.datasets._tags import Difference, vocabulary


def test_tags_are_sorted_by_count_and_then_alphabetically():
    # b 3, a 2, c 2, d 1
    labels = [["b", "c"], ["b", "a"], ["b", "d", "c"], ["a"], []]
    assert vocabulary(labels) == ["b", "a", "c", "d"]
    assert vocabulary(labels, 2) == ["b", "a"]
    assert vocabulary(labels, 9) == ["b", "a", "c", "d"]


def test_a_tie_at_the_cut_is_decided_by_the_alphabet_of_code_points():
    labels = [["z", "É", "Z", "e"]]
    assert vocabulary(labels, 3) == ["Z", "e", "z"]


def test_the_order_of_items_and_of_their_labels_does_not_matter():
    generator = random.Random(0)
    labels = [[f"t{generator.randrange(20)}" for _ in range(4)] for _ in range(200)]
    expected = vocabulary(labels, 10)
    for _ in range(5):
        generator.shuffle(labels)
        for entry in labels:
            generator.shuffle(entry)
        assert vocabulary(labels, 10) == expected


def test_a_label_that_an_item_has_twice_counts_twice():
    assert vocabulary([["b", "b"], ["a"]]) == ["b", "a"]


@given(st.lists(st.lists(st.sampled_from("abcdeÉé"))), st.integers(0, 8))
def test_it_is_counting_in_alphabetical_order_and_a_stable_sort(
    labels: list[list[str]], top: int
) -> None:
    merged = sorted(label for entry in labels for label in entry)
    counts = [(name, len(list(group))) for name, group in groupby(merged)]
    counts.sort(key=lambda pair: pair[1], reverse=True)  # stable, also in reverse
    assert vocabulary(labels, top) == [name for name, _ in counts][:top]


def test_nothing_gives_nothing():
    assert vocabulary([]) == []
    assert vocabulary([[], []], 5) == []


def test_differences_are_sorted_and_empty_when_there_are_none():
    difference = Difference.of(["b", "a", "x"], ["y", "a", "b"])
    assert (difference.only_pinned, difference.only_counted) == (("x",), ("y",))
    assert difference
    assert not Difference.of(["a", "b"], ["b", "a"])
