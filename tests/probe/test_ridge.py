"""Ridge regression: scikit-learn's solution for every penalty, from one eigendecomposition."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from mergekit_audio.probe.ridge import fit_ridge


@pytest.mark.parametrize("rows", [50, 8])
def test_every_penalty_gives_sklearns_solution(rows):
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((rows, 12)) * generator.uniform(0.1, 5, 12) + 3
    outputs = generator.standard_normal((rows, 4)) + 1
    penalties = [1e-3, 0.1, 10.0]
    heads = fit_ridge(torch.from_numpy(inputs), torch.from_numpy(outputs), penalties)
    for head, penalty in zip(heads, penalties, strict=True):
        theirs = Ridge(alpha=penalty * rows, solver="cholesky").fit(inputs, outputs)
        found = head(torch.from_numpy(inputs)).numpy()
        np.testing.assert_allclose(found, theirs.predict(inputs), atol=1e-8)
        np.testing.assert_allclose(head.weight.numpy(), theirs.coef_, atol=1e-8)
        assert head.penalty == penalty


def test_layers_are_averaged():
    features = torch.from_numpy(np.random.default_rng(1).standard_normal((20, 3, 5)))
    targets = torch.arange(20.0)[:, None]
    (several,) = fit_ridge(features, targets, [0.1])
    (one,) = fit_ridge(features.mean(dim=1), targets, [0.1])
    np.testing.assert_allclose(several(features).numpy(), one(features.mean(dim=1)).numpy())
    assert several.layer_weights() is None
