import numpy as np
import pytest
from checkpoints import make_mert_checkpoint

from mergekit_audio import merge
from mergekit_audio.merge import slices
from mergekit_audio.merge.slices import UnitSlices, units_of
from mergekit_audio.recipe.merge import MergeRecipe


def flat(groups):
    parts = [np.vstack([g.base.reshape(1, -1), g.models.reshape(2, -1)]) for g in groups]
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["ties", "della", "model_stock"])
def test_a_sample_is_every_so_manieth_element(method, dtype, tmp_path, monkeypatch):
    base = make_mert_checkpoint(tmp_path / "base", dtype=dtype)
    for i, name in enumerate("ab"):
        make_mert_checkpoint(tmp_path / name, seed=i + 1, perturb_of=base, dtype=dtype)
    recipe = {
        "kind": "merge",
        "base": "base",
        "models": [{"model": "a"}, {"model": "b"}],
        "method": {"name": method},
        "output": "out",
    }
    plan = merge.plan(MergeRecipe.model_validate(recipe), tmp_path)
    monkeypatch.setattr(slices, "SLICE_ELEMENTS", 100)
    for unit in units_of(plan):
        if not unit.row.fixed:
            tensor = UnitSlices(plan, unit)
            for step in (1, 7, 10**9):
                sample = list(tensor.sampled(step))
                assert np.array_equal(flat(sample), flat(tensor)[:, ::step])
                assert [each.start for each in sample] == [
                    i * 100 * step for i in range(len(sample))
                ]
