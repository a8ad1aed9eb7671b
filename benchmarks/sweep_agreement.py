# PYTHONPATH=. python benchmarks/sweep_agreement.py cmerge_demo [--points 21]
"""Print how far a dense sweep's interpolated features and scores are from those computed directly.

In a folder that ``cmerge demo`` made, the λ of ``recipes/sweep/demo_dense.yaml`` are swept on
interpolated features, without its search for λ; then some of the same λ, at even places from the
first to the last, are extracted and probed with the same probes. Features are kept in the recipe's
store: the same command goes on where it was stopped. Exit status 1 where features miss the
tolerance or a ROC-AUC differs by more than 0.002.

Measured (five corpora of 300 tracks of 8 s, λ from 0 to 0.32, ridge probes, 60 validation tracks):
with a tolerance of 1e-2, 5 λ are extracted, features are off by up to 4.9e-3 of the largest shift,
ROC-AUC by 0.0026 (between 0 and 0.09, where the fewest nodes are); with 3e-3, the recipe's, 7 λ,
8.8e-4 and 0.0010. Average precision of 60 tracks jumps more: by up to 0.013 and 0.0064.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from mergekit_audio.audio.store import Store
from mergekit_audio.probe.ledger import Ledger
from mergekit_audio.probe.points import PointRunner
from mergekit_audio.probe.run import store_folder
from mergekit_audio.probe.tasks import prepare_task
from mergekit_audio.progress import ProgressEvent
from mergekit_audio.recipe.load import load
from mergekit_audio.recipe.shipped import shipped_recipe
from mergekit_audio.recipe.spaces import even_values
from mergekit_audio.recipe.sweep import SweepRecipe
from mergekit_audio.sweep import plan
from mergekit_audio.sweep.dense.interpolated import held_out_error, mean_shift
from mergekit_audio.sweep.landscape import Landscape
from mergekit_audio.sweep.merges import VALID_ALONE, Merges
from mergekit_audio.sweep.spaces import Point
from mergekit_audio.weights.checkpoint import Checkpoint

MOST_ROC_AUC = 0.002
SCORES = ("roc_auc", "average_precision")


def main() -> None:
    """Sweep twice, print a line for each λ and one for each task, and say whether they agree."""
    arguments = _parsed()
    root = arguments.folder
    loaded = load(arguments.recipe or shipped_recipe("sweep/demo_dense"), arguments.set)
    without = {"label_free": None, "similarity": None, "search": None, "write_best": False}
    recipe = loaded.recipe.model_copy(update=without)
    assert isinstance(recipe, SweepRecipe)
    assert recipe.interpolate is not None
    with tempfile.TemporaryDirectory() as name:
        started = time.monotonic()
        dense = opened(recipe, root, Path(name) / "dense")
        dense.run()
        dense_s = time.monotonic() - started
        found = dense.interpolations[0]
        print(*found.notes, sep="\n")
        if not found.accepted:
            sys.exit("nothing was interpolated: there is nothing to compare")
        box = dense.space.box
        all_scales = even_values(box.low[0], box.high[0], recipe.interpolate.points)
        scales = even_places(all_scales, arguments.points)
        started = time.monotonic()
        direct = opened(
            recipe.model_copy(update={"interpolate": None, "scales": scales}),
            root,
            Path(name) / "direct",
        )
        direct.run()
        direct_s = time.monotonic() - started
        errors = feature_errors(dense, direct, scales)
    print(f"{len(curve(dense))} λ between {len(found.nodes)} extracted ones: {dense_s:.0f} s")
    print(f"{len(scales)} λ direct: {direct_s:.0f} s (what the store held before is not computed)")
    differences = score_differences(dense, direct, scales)
    print_lines(errors, differences, scales)
    tolerance = recipe.interpolate.tolerance
    worst = max(error["mean"] for each in errors.values() for error in each.values())
    apart = max(each["roc_auc"] for of_tasks in differences.values() for each in of_tasks.values())
    print(f"features: largest mean error {worst:.2g} of the shift, tolerance {tolerance:g}")
    print(f"ROC-AUC on validation: largest difference {apart:.5f}, allowed {MOST_ROC_AUC:g}")
    sys.exit(0 if worst <= tolerance and apart <= MOST_ROC_AUC else 1)


def opened(recipe: SweepRecipe, root: Path, work: Path) -> Landscape:
    """Return a sweep's points before any is scored; results go to a folder of their own."""
    planned = plan(recipe, root)
    assert planned.space is not None
    store = Store(store_folder(recipe.store, root))
    tasks = [prepare_task(task, recipe.backbone, root, store, told) for task in recipe.tasks]
    runner = PointRunner(
        tasks=tasks,
        seeds=recipe.seeds,
        backbone=recipe.backbone,
        ledger=Ledger(work / "results.jsonl"),
        cache=store.root / "features",
        total=planned.points or 0,
        progress=told,
    )
    models = {name: Checkpoint.open(source, root=root) for name, source in planned.sources()}
    merges = Merges(planned, planned.space, models["base"])
    return Landscape(recipe, planned.space, models, merges, runner)


def even_places(scales: list[float], count: int) -> list[float]:
    """Return so many λ of a list, at even places, the first and the last among them."""
    last = len(scales) - 1
    return [scales[round(place * last / (count - 1))] for place in range(count)]


def feature_errors(
    dense: Landscape, direct: Landscape, scales: list[float]
) -> dict[float, dict[str, dict[str, float]]]:
    """Return mean and largest error by λ and task, in units of the task's largest mean shift."""
    found: dict[float, dict[str, dict[str, float]]] = {scale: {} for scale in scales}
    interpolation = dense.interpolations[0]
    for task in direct.runner.tasks:
        name = task.task.name
        origin = interpolation.nodes[0.0,].features[name]
        nodes = [node.features[name] for node in interpolation.nodes.values()]
        unit = max(mean_shift(each, origin)[0] for each in nodes)
        for scale in scales:
            near = interpolation.features((scale,), name)
            is_there = np.isin(np.arange(len(near.track_ids)), near.track_of_chunk)
            row = direct.base if scale == 0 else direct.merges.row(Point((scale,)), VALID_ALONE)
            exact = direct.runner.features(row, task).of_tracks(is_there)
            found[scale][name] = held_out_error(near, exact, unit)
    return found


def score_differences(
    dense: Landscape, direct: Landscape, scales: list[float]
) -> dict[float, dict[str, dict[str, float]]]:
    """Return the difference of every score on validation by λ and task."""
    ours = {row["scale"]: row["scores"] for row in curve(dense)}
    theirs = {row["scale"]: row["scores"] for row in curve(direct)}
    return {
        scale: {
            task: {
                score: abs(
                    held["valid"][score]["mean"] - theirs[scale][task]["valid"][score]["mean"]
                )
                for score in SCORES
            }
            for task, held in ours[scale].items()
        }
        for scale in scales
    }


def curve(landscape: Landscape) -> list[dict[str, Any]]:
    """Return the rows of the λ curve, in rising order."""
    rows = [row for row in landscape.ordered_rows() if row["in_grid"]]
    return sorted(rows, key=lambda row: float(row["scale"]))


def print_lines(
    errors: dict[float, dict[str, dict[str, float]]],
    differences: dict[float, dict[str, dict[str, float]]],
    scales: list[float],
) -> None:
    """Print a table of λ, and one of tasks."""
    print("largest over tasks at each λ:")
    print("       λ  error, mean  error, max  ROC-AUC  average precision")
    for scale in scales:
        print_line(f"{scale:8.4g}", list(errors[scale].values()), list(differences[scale].values()))
    print("largest over λ of each task:")
    for task in errors[scales[0]]:
        own = [errors[scale][task] for scale in scales]
        print_line(f"{task:>12}", own, [differences[scale][task] for scale in scales])


def print_line(
    head: str, errors: list[dict[str, float]], differences: list[dict[str, float]]
) -> None:
    """Print the largest errors and differences of some λ or tasks."""
    mean, most = (max(each[name] for each in errors) for name in ("mean", "max"))
    area, precision = (max(each[name] for each in differences) for name in SCORES)
    print(f"{head}  {mean:11.2e}  {most:10.2e}  {area:7.5f}  {precision:17.5f}")


def told(event: ProgressEvent) -> None:
    """Say on stderr how far the sweep is."""
    print(f"\r{event.task} {event.done}/{event.total} {event.note}\033[K", end="", file=sys.stderr)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="what `cmerge demo` made")
    parser.add_argument("--recipe", type=Path, help="a sweep's (default: sweep/demo_dense)")
    parser.add_argument("--points", type=int, default=21, help="λ that are extracted")
    parser.add_argument("--set", action="append", default=[], help="key=value of the recipe")
    return parser.parse_args()


if __name__ == "__main__":
    main()
