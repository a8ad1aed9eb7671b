"""RegMean++: RegMean's formula over its own Grams, which hold for one set of models and one α."""

from pathlib import Path

import numpy as np
import pytest
from groups import make_group, merge
from test_regmean import least_squares, with_inputs

from mergekit_audio.errors import InputError, RecipeError
from mergekit_audio.methods.regmean import Regmean
from mergekit_audio.methods.regmean_plus_plus import RegmeanPlusPlus
from mergekit_audio.weights.statistics import Statistics


def test_the_formula_is_regmeans():
    group, inputs = with_inputs(5, 4, 3)
    own = make_group((5, 4), 3, statistics={"gram_merged": group.statistics["gram"]})
    assert (merge(RegmeanPlusPlus(), own) == merge(Regmean(), group)).all()
    found = merge(RegmeanPlusPlus(alpha=0.5), own)
    assert np.abs(found - (least_squares(group, inputs, 0.5) - group.base)).max() < 1e-10


def test_grams_of_models_by_themselves_do_not_count():
    group, _ = with_inputs(5, 4, 3)
    mean = np.average(group.models, axis=0, weights=group.weights) - group.base
    assert np.allclose(merge(RegmeanPlusPlus(), group), mean, atol=1e-15)


def measured(alpha=0.95, models=(("aa", 1.0), ("bb", 2.0))):
    facts = {
        "model_digest": "aa",
        "alpha": alpha,
        "models": [{"digest": digest, "weight": weight} for digest, weight in models],
    }
    return Statistics(Path("m/statistics.safetensors"), "aa", ("gram_merged",), facts, {})


def test_statistics_of_this_merge_are_taken():
    RegmeanPlusPlus().check_statistics([measured()], ["bb", "aa"], [2.0, 1.0])


@pytest.mark.parametrize(
    ("statistics", "digests", "weights", "message"),
    [
        (measured(alpha=0.5), ["aa", "bb"], [1.0, 2.0], "measured with alpha 0.5"),
        (measured(), ["aa", "cc"], [1.0, 2.0], "recipe merges aa .weight 1., cc .weight 2."),
        (measured(), ["aa"], [1.0], "recipe merges aa"),
        (measured(), ["aa", "bb"], [1.0, 1.0], "weight 2"),
    ],
)
def test_statistics_of_another_merge_are_refused(statistics, digests, weights, message):
    with pytest.raises(InputError, match=message):
        RegmeanPlusPlus().check_statistics([statistics], digests, weights)


def test_weights_are_shares():
    with pytest.raises(RecipeError, match="regmean_plus_plus"):
        RegmeanPlusPlus().check_weights([1.0, -1.0])
