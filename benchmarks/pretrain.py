"""Steps per second of continual pre-training on this machine, and the peak memory.

python benchmarks/pretrain.py                  # tiny and 95m, batch 4 x 5 s, fp32 and bf16
python benchmarks/pretrain.py --threads 1 --presets tiny --batch 8
python benchmarks/pretrain.py --preset 95m     # one preset in this process

Each preset runs in a process of its own: the base is a random checkpoint, the sound is noise, the
whole road of a stage is taken (mixture, masks, cached k-means codes, CQT, loss, AdamW, log), and
the first steps are not counted. A step is one micro-batch: divide by gradient_accumulation_steps.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

UNCOUNTED = 2


def main() -> None:
    """Print a line for each preset and precision."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["tiny", "95m"])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, help="counted steps; default 20 for tiny, else 3")
    parser.add_argument("--preset", help="measure this one here, in the first of --precisions")
    arguments = parser.parse_args()
    if arguments.preset:
        measure(arguments)
        return
    print("preset  precision  batch  threads  steps/s  clips/s  seconds/step  CPU s/step  peak RSS")
    for preset in arguments.presets:
        for precision in arguments.precisions:
            command = [sys.executable, __file__, "--preset", preset, "--precisions", precision]
            command += ["--batch", str(arguments.batch), "--threads", str(arguments.threads)]
            command += ["--steps", str(arguments.steps)] if arguments.steps else []
            subprocess.run(command, check=True)


def measure(arguments: argparse.Namespace) -> None:
    """Train some steps of one preset and print how long they took."""
    from mergekit_audio import pretrain
    from mergekit_audio.recipe.train import TrainRecipe

    steps = UNCOUNTED + (arguments.steps or (20 if arguments.preset == "tiny" else 3))
    precision = arguments.precisions[0]
    told: list[tuple[float, float]] = []

    def tell(event: Any) -> None:
        if event.task == "stage measured":
            told.append((time.perf_counter(), time.process_time()))

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_noise(root / "noise")
        recipe = TrainRecipe.model_validate(recipe_value(arguments, precision, steps))
        pretrain.run(pretrain.plan(recipe, root), progress=tell)
    seconds, cpu_seconds = (
        (last - first) / (steps - UNCOUNTED)
        for first, last in zip(told[UNCOUNTED], told[-1], strict=True)
    )
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{arguments.preset:<7} {precision:<10} {arguments.batch:<6} {arguments.threads:<8} "
        f"{1 / seconds:<8.3f} {arguments.batch / seconds:<8.2f} {seconds:<13.3f} "
        f"{cpu_seconds:<11.3f} {peak_gb:.2f} GB",
        flush=True,
    )


def write_noise(folder: Path) -> None:
    """Write four 30-s recordings of coloured noise."""
    import numpy as np
    import soundfile

    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(4):
        noise = np.cumsum(generator.standard_normal(30 * 24_000))
        noise -= np.convolve(noise, np.full(512, 1 / 512), mode="same")
        soundfile.write(folder / f"{i}.flac", 0.3 * noise / np.abs(noise).max(), 24_000)


def recipe_value(arguments: argparse.Namespace, precision: str, steps: int) -> dict[str, Any]:
    """Return a recipe of one stage that trains everything from random weights."""
    small = arguments.preset == "tiny"
    kmeans = {"codebooks": 4, "codebook_size": 64} if small else {"codebooks": 8, "iterations": 2}
    return {
        "kind": "train",
        "base": {"preset": arguments.preset, "init": "random"},
        "backbone": {"name": "mert"},
        "culture": "noise",
        "corpus": "noise",
        "teachers": [
            {"name": "residual_kmeans", **kmeans},
            {"name": "cqt", **({"bins": 84, "bins_per_octave": 12} if small else {})},
        ],
        "stages": [{"name": "measured", "train": ["*"], "steps": steps, "peak_lr": 1e-5}],
        "arguments": {
            "batch_size": arguments.batch,
            "gradient_accumulation_steps": 1,
            "precision": precision,
            "num_threads": arguments.threads,
            "save_steps": 1_000_000,
        },
        "store": "store",
        "output": "out",
    }


if __name__ == "__main__":
    main()
