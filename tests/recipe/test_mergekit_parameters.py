import pytest

from mergekit_audio.recipe._mergekit_parameters import (
    CONTRACTS,
    REQUIRED,
    Parameter,
    coerce,
    resolve,
)
from mergekit_audio.recipe._mergekit_schema import METHODS, Conditional

WEIGHT = Parameter("weight", "number")


def value(setting, name="layers.3.attention.weight", position=0.0, kind="number"):
    return resolve(Parameter("weight", kind), [{"weight": setting}], name, position)


@pytest.mark.parametrize(
    ("position", "expected"), [(0, 0.0), (0.25, 0.25), (0.5, 0.5), (0.75, 0.45), (1, 0.4)]
)
def test_a_list_of_numbers_is_interpolated_over_the_layers(position, expected):
    assert value([0, 0.5, 0.4], position=position) == pytest.approx(expected, abs=1e-15)


def test_six_of_eleven_layers_as_mergekit_was_measured_to_do():
    # weight [0, 1] over 12 layers: layer 6 gets 6/11.
    assert value([0, 1], position=6 / 11) == pytest.approx(0.5454545454545454, abs=1e-15)


def test_a_list_of_switches_is_picked_from():
    assert [value([True, False], position=t, kind="switch") for t in (0, 0.5, 1)] == [
        True,
        True,
        False,
    ]


def test_a_filter_is_a_part_of_the_name_and_the_first_that_fits_counts():
    setting = [
        Conditional(value=0.1, filter="layers.3."),
        Conditional(value=0.2, filter="attention"),
        Conditional(value=0.3),
    ]
    assert value(setting, "layers.3.attention.weight") == 0.1
    assert value(setting, "layers.4.attention.weight") == 0.2
    assert value(setting, "layers.4.mlp.weight") == 0.3
    assert value([Conditional(value=0.5, filter="*")], "x") == 0.5
    # No glob: the star is a star where other text is beside it.
    assert value([Conditional(value=0.5, filter="mlp.*")], "layers.4.mlp.weight") is REQUIRED


def test_a_filter_may_hold_a_gradient():
    assert value(Conditional(value=[1, 0], filter="attention"), position=0.25) == 0.75


def test_what_no_source_says_falls_through_to_the_default():
    sources = [
        {"weight": Conditional(value=1.0, filter="mlp")},
        None,
        {"density": 0.5},
        {"weight": []},
        {"weight": 0.25},
    ]
    assert resolve(WEIGHT, sources, "layers.0.mlp", 0) == 1.0
    assert resolve(WEIGHT, sources, "layers.0.attention", 0) == 0.25
    assert resolve(WEIGHT, sources[:3], "layers.0.attention", 0) is REQUIRED
    assert resolve(Parameter("t", "number", default=0.5), sources, "x", 0) == 0.5


@pytest.mark.parametrize(
    ("given", "kind", "expected"),
    [
        ("1e-8", "number", 1e-8),
        (True, "number", 1.0),
        (1, "switch", True),
        ("False", "switch", False),
        (10.0, "integer", 10),
        ("3", "integer", 3),
    ],
)
def test_values_are_read_as_loosely_as_mergekit_does(given, kind, expected):
    assert coerce(given, kind) == expected
    assert type(coerce(given, kind)) is type(expected)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("x", "number"),
        (float("nan"), "number"),
        ("inf", "number"),
        (2, "switch"),
        ("maybe", "switch"),
        (1.5, "integer"),
        (None, "number"),
    ],
)
def test_values_of_another_kind_are_refused(given, kind):
    with pytest.raises(ValueError, match="expected"):
        coerce(given, kind)


def test_every_method_of_mergekit_has_its_parameters():
    assert set(CONTRACTS) == set(METHODS)
    assert len(METHODS) == 20
    defaults = {each.name: each.default for each in CONTRACTS["ties"].parameters}
    assert defaults["normalize"] is True
    assert defaults["rescale"] is False
    assert defaults["weight"] is REQUIRED
    assert {each.name: each.default for each in CONTRACTS["dare_ties"].parameters}["rescale"]
