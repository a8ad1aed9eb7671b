"""Objectives of a choice of λ, read and computed by hand."""

import pytest

from mergekit_audio.recipe.objective import parse_objective

SCORES = {"makam": 80.0, "lyra": 70.0, "fma": 90.0, "mtat-clean": 60.0}
BASE = {"makam": 75.0, "lyra": 75.0, "fma": 91.0, "mtat-clean": 60.0}
GROUPS = {
    "all": tuple(SCORES),
    "non_western": ("makam", "lyra"),
    "western": ("fma", "mtat-clean"),
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("mean(all)", 75.0),
        ("mean(non_western)", 75.0),
        ("min(makam, lyra)", 70.0),
        ("max(western)", 90.0),
        ("min(western, makam)", 60.0),
        ("mean(mtat-clean)", 60.0),
        ("lyra", 70.0),
        ("mean(makam,non_western)", 75.0),
    ],
)
def test_goals_by_hand(text, value):
    found = parse_objective(text)
    assert found.goal.value(SCORES, GROUPS) == value
    assert found.constraints == ()


@pytest.mark.parametrize(
    ("text", "excess"),
    [
        ("western >= base - 0.5", 0.0),
        ("western >= base", -0.5),
        ("western>=base+1", -1.5),
        ("min(all) >= 55", 5.0),
        ("lyra <= base", 5.0),
        ("lyra <= -1", -71.0),
    ],
)
def test_constraints_by_hand(text, excess):
    (found,) = parse_objective(f"mean(all) subject to {text}").constraints
    assert found.excess(SCORES, BASE, GROUPS) == excess


def test_several_constraints():
    found = parse_objective("mean(all) subject to western >= base - 0.5 and lyra >= 60")
    assert [each.term.names for each in found.constraints] == [("western",), ("lyra",)]
    assert found.names() == ("all", "western", "lyra")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "expected a function or a name, found 'its end'"),
        ("median(all)", "no function 'median', only mean, min, max"),
        ("mean(all", r"expected '\)', found 'its end'"),
        ("mean(,all)", "expected a name, found ','"),
        ("mean()", r"expected a name, found '\)'"),
        ("mean(all) subject western >= 1", "expected 'to'"),
        ("mean(all) subject to western = 1", "'= 1' is not understood"),
        ("mean(all) subject to western > 1", "'> 1' is not understood"),
        ("mean(all) subject to western >= lots", "expected a number, found 'lots'"),
        ("mean(all) nonsense", "expected its end, found 'nonsense'"),
    ],
)
def test_what_is_no_objective(text, problem):
    with pytest.raises(ValueError, match=problem):
        parse_objective(text)
