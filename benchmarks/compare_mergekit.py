"""Run recipes with mergekit and with cmerge on the same small checkpoints and compare the outputs.

Run with:  python benchmarks/compare_mergekit.py --mergekit-python VENV/bin     (2 minutes, 2 cores)
           python benchmarks/compare_mergekit.py --mergekit-python VENV/bin --only ties
VENV is a virtual environment with mergekit 0.1.5 (`pip install mergekit==0.1.5`). Both tools read
the very same YAML. float32 outputs may differ by 1e-6; bfloat16 outputs by a few units in the last
place, since mergekit rounds on the way; of methods that draw at random the share of kept elements,
mean and L1 norm of Δ are compared. Exit code 1 when a recipe fails.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from mergekit_checkpoints import MODELS, write_checkpoints  # noqa: E402 (they lie beside)
from mergekit_layered import LAYERED  # noqa: E402
from mergekit_recipes import FLAT, Recipe  # noqa: E402

TOLERANCE = 1e-6
# mergekit's console commands in one process, so that its start-up is paid once.
DRIVER = """
import json, sys, traceback
from pathlib import Path
from mergekit.scripts.merge_raw_pytorch import main as flat
from mergekit.scripts.run_yaml import main as layered
for name, tool in json.loads(sys.argv[1]):
    words = [f"{name}.yaml", f"theirs/{name}", "--random-seed", "42", "--quiet"]
    try:
        if tool == "flat":
            flat(words, standalone_mode=False)
        else:
            words += ["--no-copy-tokenizer", "--lora-merge-cache", "loras"]
            layered(words, standalone_mode=False)
    except BaseException as error:
        traceback.print_exc()
        Path(f"{name}.failed").write_text(f"{type(error).__name__}: {error}")
"""


@dataclass(frozen=True)
class Outcome:
    """What came out of one recipe: the largest difference, or what was compared instead."""

    difference: str
    good: bool


def main() -> None:
    """Write checkpoints and recipes, run both tools, print the table."""
    arguments = _arguments()
    chosen = [each for each in (*FLAT, *LAYERED) if arguments.only in each.name]
    with tempfile.TemporaryDirectory(prefix="cmerge-compare-") as folder:
        root = arguments.folder or Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        write_checkpoints(root)
        for recipe in chosen:
            (root / f"{recipe.name}.yaml").write_text(recipe.text, encoding="utf-8")
            (root / f"{recipe.name}.failed").unlink(missing_ok=True)
        _run_mergekit(root, arguments.mergekit_python, chosen)
        print(f"{'recipe':<34}  {'largest difference':<44}  verdict")
        failed = 0
        for recipe in chosen:
            outcome = _compare(root, recipe)
            failed += not outcome.good
            print(
                f"{recipe.name:<34}  {outcome.difference:<44}  {'ok' if outcome.good else 'FAIL'}"
            )
    print(f"{len(chosen)} recipes, {failed} failed")
    sys.exit(1 if failed else 0)


def _run_mergekit(root: Path, binaries: Path, recipes: list[Recipe]) -> None:
    variables = {"PYTHONHASHSEED": "0", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    jobs = json.dumps([(recipe.name, recipe.tool) for recipe in recipes])
    done = subprocess.run(
        [binaries / "python", "-c", DRIVER, jobs],
        cwd=root,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )
    (root / "mergekit.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode:
        sys.exit(f"mergekit did not run:\n{done.stderr}")


def _compare(root: Path, recipe: Recipe) -> Outcome:
    failure = root / f"{recipe.name}.failed"
    if failure.is_file():
        return Outcome(f"mergekit: {failure.read_text()}"[:90], False)
    words = ["merge", f"{recipe.name}.yaml", "--output", f"ours/{recipe.name}", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "mergekit_audio", *words, "--force"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        return Outcome(f"cmerge: {done.stderr.strip()}"[:300], False)
    ours, theirs = _tensors(root / "ours" / recipe.name), _tensors(root / "theirs" / recipe.name)
    if ours.keys() != theirs.keys():
        return Outcome(f"other tensors: {sorted(ours.keys() ^ theirs.keys())[:3]}", False)
    if any(ours[name].shape != theirs[name].shape for name in ours):
        return Outcome("other shapes", False)
    if recipe.random:
        return _distributions(ours, theirs, _tensors(root / recipe.base))
    if recipe.last_places:
        inputs = [_tensors((root / recipe.base).parent / model) for model in MODELS]
        return _last_places(ours, theirs, inputs, recipe.last_places)
    if recipe.rounding:
        return _shares(ours, theirs, recipe.rounding)
    worst = max(ours, key=lambda name: float(np.max(np.abs(ours[name] - theirs[name]), initial=0)))
    largest = float(np.max(np.abs(ours[worst] - theirs[worst])))
    place = f" ({worst})" if largest > TOLERANCE else ""
    return Outcome(f"{largest:.1e}{place}", largest <= TOLERANCE)


def _distributions(
    ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], base: dict[str, np.ndarray]
) -> Outcome:
    """Compare shares of changed elements, means and L1 norms of Δ over all tensors."""
    mine, other = (
        np.concatenate([(each[name] - base[name]).ravel() for name in sorted(each)])
        for each in (ours, theirs)
    )
    kept = [float(np.mean(delta != 0)) for delta in (mine, other)]
    norms = [float(np.sum(np.abs(delta))) for delta in (mine, other)]
    error = np.sqrt(mine.var() / mine.size + other.var() / other.size)
    mean = abs(mine.mean() - other.mean()) / error
    share = abs(kept[0] - kept[1])
    ratio = abs(norms[0] / norms[1] - 1)
    # Five standard errors of a share near one half, and of a mean.
    good = share < 5 * np.sqrt(0.5 / mine.size) and ratio < 0.01 and mean < 5
    text = (
        f"kept {kept[0]:.3f}|{kept[1]:.3f}, L1 ratio {norms[0] / norms[1]:.4f}, mean {mean:.1f} σ"
    )
    return Outcome(text, bool(good))


def _shares(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], limit: float) -> Outcome:
    """Count the elements that mergekit's rounding in float32 moved."""
    gaps = np.concatenate([np.abs(ours[name] - theirs[name]).ravel() for name in ours])
    share = float(np.mean(gaps > TOLERANCE))
    return Outcome(f"{gaps.max():.1e}, above 1e-6: {share:.3%}", share <= limit)


def _last_places(
    ours: dict[str, np.ndarray],
    theirs: dict[str, np.ndarray],
    inputs: list[dict[str, np.ndarray]],
    limit: float,
) -> Outcome:
    """Count bfloat16's units in the last place of the largest input."""
    largest, different, total = 0.0, 0, 0
    for name, mine in ours.items():
        size = np.max([np.abs(each[name]) for each in inputs], axis=0) + 1e-30
        unit = 2.0 ** (np.floor(np.log2(size)) - 7)
        largest = max(largest, float(np.max(np.abs(mine - theirs[name]) / unit)))
        different += int(np.sum(mine != theirs[name]))
        total += mine.size
    text = f"{largest:.1f} last places, {different / total:.2%} of elements"
    return Outcome(text, largest <= limit)


def _tensors(folder: Path) -> dict[str, np.ndarray]:
    """Return a folder's tensors in float64."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        content = path.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:start])
        header.pop("__metadata__", None)
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            raw = content[start + first : start + last]
            if entry["dtype"] == "BF16":
                values = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
            else:
                values = np.frombuffer(raw, {"F32": "<f4", "F16": "<f2"}[entry["dtype"]])
            found[name] = values.astype(np.float64).reshape(entry["shape"])
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mergekit-python", type=Path, required=True, help="the venv's bin folder")
    parser.add_argument("--folder", type=Path, help="keep checkpoints and outputs here")
    parser.add_argument("--only", default="", help="recipes whose name holds this text")
    return parser.parse_args()


if __name__ == "__main__":
    main()
