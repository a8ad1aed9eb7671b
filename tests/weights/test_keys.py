"""Canonical names of tensors."""

import pytest

from mergekit_audio.weights.keys import canonical_name


@pytest.mark.parametrize(
    ("stored", "canonical"),
    [
        ("a.conv.parametrizations.weight.original0", "a.conv.weight_g"),
        ("a.conv.parametrizations.weight.original1", "a.conv.weight_v"),
        ("parametrizations.weight.original0", "weight_g"),
        ("a.conv.weight_g", "a.conv.weight_g"),
        ("a.conv.parametrizations.weight.original2", "a.conv.parametrizations.weight.original2"),
        ("a.conv.parametrizations.weight.original10", "a.conv.parametrizations.weight.original10"),
        ("a.myparametrizations.weight.original0", "a.myparametrizations.weight.original0"),
        ("a.parametrizations.bias.original0", "a.parametrizations.bias.original0"),
        ("a.parametrizations.weight.original0.b", "a.parametrizations.weight.original0.b"),
    ],
)
def test_both_spellings_of_weight_norm_have_one_name(stored: str, canonical: str) -> None:
    assert canonical_name(stored) == canonical
    assert canonical_name(canonical) == canonical
