# PYTHONPATH=. python benchmarks/search.py [--seeds 10] [--demo FOLDER_OF_CMERGE_DEMO]
"""Print how good a λ per culture each search finds for the same number of extracted λ.

Four cultures, λ from 0 to 1 each, the base and weight averaging among the extracted λ of all:

- cone: one sharp optimum, as OptiMer (arXiv 2603.28858) describes it. Embeddings are a smooth map
  of λ; the goal falls by the distance from the embedding of the optimum, without a flat top;
- network: a small tanh network with random task vectors, linear probes of labels that the network
  gives at a hidden λ; the goal is their mean ROC-AUC on validation;
- demo (with ``--demo``): the models that ``cmerge demo`` trained, ridge probes of one hidden layer
  on 15 % of its training and validation tracks, each cut at 4 s.

Ours extracts the nodes of a polynomial of total degree d, interpolates embeddings, looks for the
best goal on these at 2,048 λ (demo: 256) and from the best of them on along coordinates, and
extracts that λ. Its baseline is MAP's quadratic surrogate of the score (arXiv 2406.07529). Regret
is what is missing to the best goal known: that of the optimum, of 2,048 more λ, and of what any
search found (demo: of the latter alone). Goals are in points.

Measured (10 landscapes each, mean regret in points with 16 and with 36 extracted λ; optuna 5.0, 90
CPU seconds in all):

=============  ========  ========  ===========  ===========
search         cone, 16  cone, 36  network, 16  network, 36
=============  ========  ========  ===========  ===========
tpe                6.58      3.28         0.61         0.12
cmaes              6.72      4.16         0.57         0.25
coordinate         4.16      2.27         0.13         0.06
greedy             8.43      6.53         1.24         0.36
quadratic          7.00      4.76         0.45         0.02
interpolation      2.51      1.83         0.08         0.02
=============  ========  ========  ===========  ===========

With 36 λ on the smooth network the quadratic surrogate is as good as ours; coordinates extracted 31
λ of the 36. The cone's embeddings bend more than a cubic follows, so that ours misses it as well.
"""

from __future__ import annotations

import argparse
import functools
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import qmc, rankdata

from mergekit_audio.sweep.dense.interpolation import Box, Interpolant, leja_nodes
from mergekit_audio.sweep.searches.samplers import search
from mergekit_audio.sweep.searches.trials import best

Point = tuple[float, ...]

CULTURES = 4
BOX = Box((0.0,) * CULTURES, (1.0,) * CULTURES)
FIRST = ((0.0,) * CULTURES, (1 / CULTURES,) * CULTURES)
SAMPLERS = ("tpe", "cmaes", "coordinate", "greedy", "quadratic")
REFINED = 200
"""λ of `coordinate` on interpolated embeddings, from the best candidate on."""
DEMO_SHARE, DEMO_SEEDS, DEMO_CANDIDATES = 0.15, 2, 256
DEGREES = (2, 3)
"""Total degrees of ours: 15 and 35 nodes, and one λ that is extracted at the end."""


@dataclass(frozen=True)
class Landscape:
    """Embeddings at λ, the goal that they give, those between others, and where the goal is best.

    Parameters
    ----------
    embed
        λ to embeddings.
    goal
        Embeddings to points.
    between
        The weighted sum of embeddings.
    optimum
        λ; ``None`` where it is not known.
    candidates
        λ of a Sobol sequence among which the interpolated goal is looked at.
    """

    embed: Callable[[Point], Any]
    goal: Callable[[Any], float]
    between: Callable[[Sequence[Any], Sequence[float]], Any]
    optimum: Point | None = None
    candidates: int = 2048

    def best_known(self) -> float:
        """Return the goal at the optimum, or at another λ that is better."""
        if self.optimum is None:
            return -math.inf
        points = [self.optimum, *map(tuple, sobol(self.candidates, 99))]
        return max(self.goal(self.embed(point)) for point in points)


def main() -> None:
    """Print a table for each landscape."""
    arguments = _parsed()
    for kind in (cone, network):
        report(kind.__name__, [kind(seed) for seed in range(arguments.seeds)], DEGREES)
    if arguments.demo is not None:
        with tempfile.TemporaryDirectory() as store:
            report("demo", [demo(arguments.demo.resolve(), Path(store))], DEGREES[:1])


def report(name: str, landscapes: Sequence[Landscape], degrees: Sequence[int]) -> None:
    """Search each landscape with each method at each budget and print means over landscapes."""
    seeds = range(len(landscapes)) if len(landscapes) > 1 else range(DEMO_SEEDS)
    for degree in degrees:
        nodes = len(leja_nodes(BOX, degree))
        budget = nodes + 1
        found: dict[str, list[tuple[int, float]]] = {}
        for seed in seeds:
            place = landscapes[seed % len(landscapes)]
            for sampler in SAMPLERS:
                found.setdefault(sampler, []).append(searched(place, sampler, budget, seed))
            found.setdefault("interpolation", []).append(interpolated(place, degree, seed))
        known = [place.best_known() for place in landscapes]
        for run in range(len(seeds)):
            reached = [each[run][1] for each in found.values()]
            known[run % len(known)] = max(known[run % len(known)], *reached)
        count = f"{len(landscapes)} landscapes" if len(landscapes) > 1 else f"{len(seeds)} seeds"
        print(f"\n{name}, {budget} extracted λ at most, {count}")
        print(f"{'search':<14}{'extracted':>10}{'best goal':>11}{'regret':>9}{'worst':>8}")
        for method, each in found.items():
            lost = [known[i % len(known)] - value for i, (_, value) in enumerate(each)]
            extracted = statistics.fmean(count for count, _ in each)
            goal = statistics.fmean(value for _, value in each)
            print(
                f"{method:<14}{extracted:>10.1f}{goal:>11.2f}{statistics.fmean(lost):>9.2f}"
                f"{max(lost):>8.2f}"
            )
        sys.stdout.flush()


def searched(place: Landscape, sampler: str, budget: int, seed: int) -> tuple[int, float]:
    """Return how many λ a direct search extracted, and the best goal among them."""
    goals: dict[tuple[float, ...], float] = {}

    def score(point: tuple[float, ...]) -> tuple[float]:
        goals[point] = place.goal(place.embed(point))
        return (goals[point],)

    search(score, BOX, sampler=sampler, trials=budget, seed=seed, first=FIRST)
    return len(goals), max(goals.values())


def interpolated(place: Landscape, degree: int, seed: int) -> tuple[int, float]:
    """Return the same of ours: nodes, the best λ by interpolated embeddings, that one extracted."""
    nodes = leja_nodes(BOX, degree, first=FIRST)
    embeddings = [place.embed(tuple(map(float, node))) for node in nodes]
    through = Interpolant(BOX, nodes, degree)

    def guess(point: Point) -> tuple[float]:
        weights = through.weights(np.array([point]))[0]
        return (place.goal(place.between(embeddings, weights)),)

    candidates = [tuple(map(float, point)) for point in sobol(place.candidates, seed)]
    best_candidate = max(candidates, key=guess)
    refined = search(
        guess, BOX, sampler="coordinate", trials=REFINED, seed=seed, first=[best_candidate]
    )
    chosen = best(refined).point
    goals = [place.goal(each) for each in embeddings]
    return len(nodes) + 1, max(*goals, place.goal(place.embed(chosen)))


def sobol(count: int, seed: int) -> Any:
    """Return points of a scrambled Sobol sequence in the box, shape ``[count, K]``."""
    return qmc.Sobol(CULTURES, seed=seed).random(count)


def of_arrays(arrays: Sequence[Any], weights: Sequence[float]) -> Any:
    """Return the weighted sum of arrays."""
    return np.tensordot(np.asarray(weights), np.stack(arrays), axes=1)


def cone(seed: int) -> Landscape:
    """Return ``goal = 75 - 20 ‖f(λ) - f(λ*)‖ / ‖f(λ*)‖``, ``f(λ) = tanh(B λ)`` of 8 dimensions."""
    generator = np.random.default_rng([1, seed])
    inner = generator.normal(size=(8, CULTURES))
    best = tuple(generator.uniform(0.05, 0.6, CULTURES))
    target = np.tanh(inner @ best)
    unit = float(np.linalg.norm(target))
    return Landscape(
        embed=lambda point: np.tanh(inner @ np.asarray(point)),
        goal=lambda found: 75.0 - 20.0 * float(np.linalg.norm(found - target)) / unit,
        between=of_arrays,
        optimum=best,
    )


def network(seed: int) -> Landscape:
    """Return three tanh layers on 400 inputs with four binary labels; half of the inputs train."""
    generator = np.random.default_rng([2, seed])
    shape = (3, 24, 24)
    inputs = generator.normal(size=(400, 24))
    base = generator.normal(size=shape) / np.sqrt(24)
    vectors = 0.5 * generator.normal(size=(CULTURES, *shape)) / np.sqrt(24)
    best = tuple(generator.uniform(0.05, 0.6, CULTURES))

    def embed(point: Point) -> Any:
        values = inputs
        for layer in base + np.tensordot(np.asarray(point), vectors, axes=1):
            values = np.tanh(values @ layer.T)
        return values

    scores = embed(best) @ generator.normal(size=(24, 4))
    scores += 0.3 * scores.std(axis=0) * generator.normal(size=scores.shape)
    labels = scores > np.median(scores, axis=0)

    def goal(found: Any) -> float:
        train, valid = found[:200], found[200:]
        mean = train.mean(axis=0)
        train, valid = train - mean, valid - mean
        penalty = 1e-2 * len(train) * np.eye(train.shape[1])
        wanted = labels[:200] - labels[:200].mean(axis=0)
        heads = np.linalg.solve(train.T @ train + penalty, train.T @ wanted)
        return 100.0 * float(np.mean(roc_auc(valid @ heads, labels[200:])))

    return Landscape(embed, goal, of_arrays, best)


def roc_auc(scores: Any, labels: Any) -> Any:
    """Return the ROC-AUC of each column."""
    ranks, positives = rankdata(scores, axis=0), labels.sum(axis=0)
    sums = (ranks * labels).sum(axis=0) - positives * (positives + 1) / 2
    return sums / (positives * (len(labels) - positives))


def demo(folder: Path, store: Path) -> Landscape:
    """Return the models of the demo on a share of their training and validation tracks."""
    from mergekit_audio.audio.store import Store
    from mergekit_audio.probe.ledger import Ledger
    from mergekit_audio.probe.points import PointRunner
    from mergekit_audio.probe.scoring import probe
    from mergekit_audio.probe.splits import load_splits
    from mergekit_audio.probe.tasks import prepare_task
    from mergekit_audio.progress import silent
    from mergekit_audio.recipe.load import from_dict
    from mergekit_audio.sweep import plan
    from mergekit_audio.sweep.dense import interpolated as features_between
    from mergekit_audio.sweep.merges import Merges
    from mergekit_audio.sweep.searches.halving import part_of_task
    from mergekit_audio.sweep.spaces import Point as Merge
    from mergekit_audio.weights.checkpoint import Checkpoint

    recipe: Any = from_dict(demo_recipe(), folder)
    planned = plan(recipe, folder)
    assert planned.space is not None
    held = Store(store)
    whole = [prepare_task(task, recipe.backbone, folder, held) for task in recipe.tasks]
    tasks = [part_of_task(task, DEMO_SHARE, seed=0) for task in whole]
    ledger = Ledger(store / "unused.jsonl")
    runner = PointRunner(tasks, [0], recipe.backbone, ledger, store / "features", 0, silent)
    merges = Merges(planned, planned.space, Checkpoint.open("runs/base", root=folder))

    @functools.cache
    def embed(point: Point) -> Any:
        row = merges.row(Merge(point), ("valid",))
        build = functools.lru_cache(maxsize=1)(row.encoder.build)
        return [runner.features(row, task, build) for task in tasks]

    def goal(found: Any) -> float:
        scores = []
        for task, features in zip(tasks, found, strict=True):
            result = probe(load_splits(features, task), task, 0, splits=("valid",))
            scores.append(result.scores["valid"].macro("roc_auc"))
        return 100.0 * statistics.fmean(scores)

    def between(found: Sequence[Any], weights: Sequence[float]) -> Any:
        of_tasks = zip(*found, strict=True)
        return [features_between.interpolated(nodes, list(weights)) for nodes in of_tasks]

    return Landscape(embed, goal, between, candidates=DEMO_CANDIDATES)


def demo_recipe() -> dict[str, Any]:
    """Return a sweep of the demo's models; nothing is written to its output."""
    names = ("makam", "hindustani", "carnatic", "lyra")
    protocol = {"preset": "screen", "layer": 3, "max_duration_s": 4}
    tasks = [
        {"name": name, "corpus": f"data/{name}", "western": name == "western", "protocol": protocol}
        for name in (*names, "western")
    ]
    return {
        "kind": "sweep",
        "base": "runs/base",
        "cultures": [{"name": name, "model": f"runs/{name}"} for name in names],
        "method": "task_arithmetic",
        "space": "per_culture",
        "scales": [0.0, 1.0],
        "tasks": tasks,
        "seeds": [0],
        "output": "unused",
    }


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, help="landscapes of cone and network")
    parser.add_argument("--demo", type=Path, help="a folder that `cmerge demo` made")
    return parser.parse_args()


if __name__ == "__main__":
    main()
