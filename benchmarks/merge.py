"""Merge a base and four cultures of MERT-v1-95M's size and compare with loading everything.

Run with:  python benchmarks/merge.py            (Linux; 2.3 GB of disk while it runs)
           python benchmarks/merge.py --preset tiny --repeats 1
Both ways start a fresh process in turn, on the same random checkpoints; the median counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from checkpoints import make_mert_checkpoint  # noqa: E402 (the tests' helpers lie beside)
from memory_watch import Usage, watch  # noqa: E402

CULTURES = ("makam", "hindustani", "carnatic", "lyra")

CMERGE = """
import sys
from pathlib import Path
from mergekit_audio import merge
from mergekit_audio.recipe.merge import MergeRecipe
recipe = MergeRecipe.model_validate({
    "kind": "merge", "base": "base", "models": [{"model": name} for name in sys.argv[2:]],
    "method": {"name": "task_arithmetic"}, "scale": 0.2, "output": "merged",
})
merge.run(merge.plan(recipe, Path(sys.argv[1])), force=True)
"""

NAIVE = """
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file
root = Path(sys.argv[1])
base = load_file(root / "base" / "model.safetensors")
models = [load_file(root / name / "model.safetensors") for name in sys.argv[2:]]
merged = {k: v + 0.2 * sum(model[k] - v for model in models) for k, v in base.items()}
(root / "naive").mkdir(exist_ok=True)
save_file(merged, root / "naive" / "model.safetensors", metadata={"format": "pt"})
"""

FLOOR = """
import sys
from pathlib import Path
root = Path(sys.argv[1])
buffer = bytearray(1 << 20)
for name in ["base", *sys.argv[2:]]:
    with open(root / name / "model.safetensors", "rb", buffering=0) as stream:
        while stream.readinto(buffer):
            pass
content = root / "base" / "model.safetensors"
with open(content, "rb", buffering=0) as source, open(root / "copy", "wb", buffering=0) as target:
    while count := source.readinto(buffer):
        target.write(memoryview(buffer)[:count])
"""

WAYS = {
    "cmerge (checks, hashes, locks)": CMERGE,
    "load everything, merge, save": NAIVE,
    "read inputs, copy one": FLOOR,
}


def main() -> None:
    """Make the checkpoints, measure each way, print the medians and the ratios."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="cmerge-benchmark-") as folder:
        root = Path(folder)
        _make_inputs(root, arguments.preset)
        taken: dict[str, list[Usage]] = {way: [] for way in WAYS}
        for _ in range(arguments.repeats):
            for way, code in WAYS.items():
                taken[way].append(watch(code, root, *CULTURES))
    medians = {way: _median(usages) for way, usages in taken.items()}
    if arguments.json:
        print(json.dumps(medians, indent=2))
    else:
        _print_table(medians, arguments)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="95m", choices=("tiny", "95m", "330m"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the checkpoints are made")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args()


def _make_inputs(root: Path, preset: str) -> None:
    make_mert_checkpoint(root / "base", preset=preset, seed=0)
    for i, name in enumerate(CULTURES):
        make_mert_checkpoint(root / name, preset=preset, seed=i + 1, perturb_of=root / "base")


def _median(usages: list[Usage]) -> dict[str, float]:
    return {
        key: round(statistics.median(getattr(usage, key) for usage in usages), 3)
        for key in ("seconds", "cpu_seconds", "anonymous_mb", "resident_mb")
    }


def _print_table(medians: dict[str, dict[str, float]], arguments: argparse.Namespace) -> None:
    print(f"base + {len(CULTURES)} models, preset {arguments.preset}, task arithmetic at λ = 0.2")
    print(f"median of {arguments.repeats}, process start included")
    print(f"{'':32}{'wall s':>8}{'CPU s':>8}{'anonymous MB':>14}{'resident MB':>13}")
    for way, row in medians.items():
        print(
            f"{way:32}{row['seconds']:8.2f}{row['cpu_seconds']:8.2f}"
            f"{row['anonymous_mb']:14.0f}{row['resident_mb']:13.0f}"
        )
    ours, naive, _ = medians.values()
    for key, name in (("seconds", "time"), ("anonymous_mb", "anonymous memory")):
        print(f"cmerge / load everything, {name}: {ours[key] / naive[key]:.2f}")


if __name__ == "__main__":
    main()
