from hypothesis import given, settings
from hypothesis import strategies as st

from mergekit_audio.recipe._mergekit_globs import globs_of
from mergekit_audio.weights.globs import matches

PARTS = ("attention.q.weight", "attention.q.bias", "attention.k.weight", "mlp.weight", "norm")
NAMES = [f"encoder.layers.{i}.{part}" for i in range(4) for part in PARTS]
NAMES += [f"conv.{i}.conv.weight" for i in range(3)]
NAMES += ["conv.bias", "encoder.norm.weight", "encoder.norm.bias", "head", "mlp.weight"]


@given(st.sets(st.sampled_from(NAMES), min_size=1))
@settings(max_examples=300, deadline=None)
def test_globs_match_what_is_wanted_and_nothing_else(wanted):
    globs = globs_of(wanted, NAMES)
    found = {name for name in NAMES if any(matches(glob, name) for glob in globs)}
    assert found == wanted
    assert len(set(globs)) == len(globs)


def test_layers_share_a_range():
    wanted = [name for name in NAMES if ".layers." in name and not name.startswith("encoder.l" * 9)]
    assert globs_of(wanted, NAMES) == ["encoder.layers.{0-3}.*"]
    some = [f"encoder.layers.{i}.{part}" for i in (0, 1, 3) for part in PARTS[:3]]
    assert globs_of(some, NAMES) == ["encoder.layers.{0-1,3}.attention.*"]
    assert globs_of(NAMES, NAMES) == ["*"]
    assert globs_of(["head", "encoder.layers.2.mlp.weight"], NAMES) == [
        "head",
        "encoder.layers.2.mlp.weight",
    ]
    assert globs_of([], NAMES) == []
