"""Every shipped merge recipe runs as it is, on small models that lie where it looks for them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from checkpoints import make_mert_checkpoint
from measuring import add_heads
from pretraining import SMALL, make_corpus

from mergekit_audio import measure, merge, registry
from mergekit_audio.lock import Lock, read_lock, verify
from mergekit_audio.merge.extract_lora import extract
from mergekit_audio.merge.extraction_plan import ExtractSettings, plan_extraction
from mergekit_audio.merge.stages import resolve_stages
from mergekit_audio.recipe.load import load
from mergekit_audio.recipe.measure import MeasureRecipe
from mergekit_audio.recipe.merge import MergeRecipe
from mergekit_audio.recipe.shipped import shipped_recipes
from mergekit_audio.weights.checkpoint import Checkpoint

BASE = "m-a-p/MERT-v1-95M@main"
CULTURES = ("makam", "hindustani", "carnatic", "lyra")
LAYERS = 8  # a recipe speaks of the first six
CHANGES = {
    # What probing accepts is decided in tests/sweep/test_soup.py.
    "greedy_soup": ["method.accepted=[makam, lyra]"],
    "mergekit_ties": ["output=runs/mergekit_ties"],
}
RECIPES = {each.path.stem: each.path for each in shipped_recipes() if each.group == "merge"}
MEASURES = {each.path.stem: each.path for each in shipped_recipes() if each.group == "measure"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay out base, models, adapters and measurements as the recipes' comments say."""
    root = tmp_path_factory.mktemp("merges")
    for path in (*RECIPES.values(), *MEASURES.values()):
        shutil.copy(path, root)
    overrides = SMALL | {"num_hidden_layers": LAYERS}
    base = make_mert_checkpoint(root / BASE, overrides=overrides)
    for seed, name in enumerate((*CULTURES, "multi"), start=1):
        make_mert_checkpoint(root / "runs" / name, overrides=overrides, seed=seed, perturb_of=base)
    for i, name in enumerate(CULTURES):
        add_heads(root / "runs" / name, seed=i)
        make_corpus(root / "data" / name, tracks=2, seed=i)
        changes = [f"model=runs/{name}", f"corpus=data/{name}", f"output=runs/measured/{name}"]
        run_measure(root, "fisher_gram", changes)
    run_measure(root, "gram_merged", [])
    for name in ("makam", "lyra"):
        settings = ExtractSettings(
            model=f"runs/{name}", base=BASE, rank=4, output=f"runs/{name}_lora"
        )
        extract(plan_extraction(settings, root))
    return root


def run_measure(root: Path, name: str, changes: list[str]) -> None:
    small = ["examples=2", "crop_s=0.5", "batch_size=2", "num_threads=1"]
    recipe = load(root / f"{name}.yaml", [*small, *changes]).recipe
    assert isinstance(recipe, MeasureRecipe)
    measure.run(measure.plan(recipe, root))


def run_merge(root: Path, name: str) -> Lock:
    path = root / f"{name}.yaml"
    loaded = load(path, CHANGES.get(name, []))
    assert isinstance(loaded.recipe, MergeRecipe)

    def run(recipe: MergeRecipe, folder: Path, force: bool) -> Lock:
        return merge.run(merge.plan(recipe, folder), force=force)

    recipe = resolve_stages(loaded.recipe, loaded.root, run, path=path, force=True)
    return run(recipe, loaded.root, True)


def weights(root: Path, source: str) -> dict[str, np.ndarray]:
    checkpoint = Checkpoint.open(source, root=root)
    return {name: checkpoint.array(name).astype("f8") for name in checkpoint.index}


def test_there_is_a_recipe_for_every_method() -> None:
    ours = [load(path).recipe for stem, path in RECIPES.items() if stem != "mergekit_ties"]
    shown = {recipe.method.name for recipe in ours if isinstance(recipe, MergeRecipe)}
    assert shown == set(registry.discover("methods"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_shipped_merge_runs(project: Path, name: str) -> None:
    lock = run_merge(project, name)
    output = project / lock.recipe["output"]
    assert verify(output) == []
    assert read_lock(output).kind == "merge"
    before, after = weights(project, BASE), weights(project, lock.recipe["output"])
    assert before.keys() == after.keys()
    moved = max(float(np.abs(after[key] - before[key]).max()) for key in before)
    assert 0 < moved < 0.1  # the models lie within about 0.005 of the base


@pytest.mark.parametrize(
    ("name", "factors"),
    [
        ("culturemert_ta", dict.fromkeys(CULTURES, 0.2)),
        ("weight_average", dict.fromkeys(CULTURES, 0.25)),
        (
            "per_culture_scales",
            {"makam": 0.3, "hindustani": 0.15, "carnatic": 0.15, "lyra": 0.2},
        ),
        ("negation", {"makam": -0.2}),
    ],
)
def test_cultures_are_merged_as_the_recipe_says(
    project: Path, name: str, factors: Mapping[str, float]
) -> None:
    lock = run_merge(project, name)
    base, merged = weights(project, BASE), weights(project, lock.recipe["output"])
    models = {culture: weights(project, f"runs/{culture}") for culture in factors}
    for key, start in base.items():
        expected = start.copy()
        if not (name == "negation" and key.startswith("feature_extractor.")):
            for culture, factor in factors.items():
                expected += factor * (models[culture][key] - start)
        np.testing.assert_allclose(merged[key], expected, rtol=1e-6, atol=1e-9)
