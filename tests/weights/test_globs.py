"""Globs of tensor names."""

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergekit_audio.errors import InputError
from mergekit_audio.weights.globs import matches, validate_glob


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "encoder.layers.0.weight", True),
        ("feature_extractor.*", "feature_extractor.conv_layers.0.conv.weight", True),
        ("feature_extractor.*", "encoder.feature_extractor.x", False),
        ("feature_extractor", "feature_extractor.x", False),
        ("encoder.layers.{0-5}.*", "encoder.layers.5.attention.k_proj.bias", True),
        ("encoder.layers.{0-5}.*", "encoder.layers.6.attention.k_proj.bias", False),
        ("encoder.layers.{0-5}.*", "encoder.layers.10.attention.k_proj.bias", False),
        ("encoder.layers.{0-5}.*", "encoder.layers.05.attention.k_proj.bias", False),
        ("encoder.layers.{9-11}.*", "encoder.layers.10.x", True),
        ("encoder.layers.{0-5,8}.*", "encoder.layers.8.x", True),
        ("encoder.layers.{0-5,8}.*", "encoder.layers.7.x", False),
        ("*.{q_proj,k_proj}.weight", "a.k_proj.weight", True),
        ("*.{q_proj,k_proj}.weight", "a.v_proj.weight", False),
        ("*.{?_proj,bias}", "a.v_proj", True),
        ("layers.?.x", "layers.1.x", True),
        ("layers.?.x", "layers.11.x", False),
        ("a.b", "aXb", False),
        ("Encoder.*", "encoder.x", False),
        ("a[0].*", "a[0].b", True),
        ("a[0].*", "a0.b", False),
        ("{1-1}", "1", True),
    ],
)
def test_whole_names_match(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("", "empty glob"),
        ("a{0-5", "a '{' without its '}'"),
        ("a0-5}", "a '}' without its '{'"),
        ("{a,{b}}", "can't be nested"),
        ("{}", "an empty item"),
        ("{a,}", "an empty item"),
        ("{5-0}", "runs backwards"),
        ("{0-10000}", "longer than 10,000"),
        ("{0-99999999999999999999}", "longer than 10,000"),
    ],
)
def test_faulty_globs_are_refused(pattern: str, problem: str) -> None:
    with pytest.raises(InputError, match=re.escape(problem)):
        validate_glob(pattern)
    with pytest.raises(InputError, match=re.escape(problem)):
        matches(pattern, "encoder")


@given(
    st.text("ab.*?", min_size=1, max_size=8),
    st.text("ab.", max_size=8),
)
def test_without_braces_equal_to_fnmatch(pattern: str, name: str) -> None:
    assert matches(pattern, name) is fnmatch.fnmatchcase(name, pattern)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 60))
def test_ranges_hold_their_ends(low: int, extra: int, number: int) -> None:
    assert matches(f"x{{{low}-{low + extra}}}", f"x{number}") is (low <= number <= low + extra)
