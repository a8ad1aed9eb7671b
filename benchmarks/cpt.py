"""python benchmarks/cpt.py: a step of `cmerge train-culture` beside that of a plain loop.

python benchmarks/cpt.py                                   # tiny and 95m, fp32 and bf16
python benchmarks/cpt.py --presets tiny --turns 9 --threads 1

The loop is cpt_reference.py. Both run in processes of their own and take turns, a step each, so
that other load hits both alike; medians count. `work` is CPU seconds over all threads (seconds on a
GPU), which other load hardly changes; shares are shares of it. A step is `accumulation`
micro-batches of `batch` clips of 5 s with every loss, backward, clipping and AdamW. Ours is the
whole product (Trainer, prepared store, cached codes, CQT in the step, log); the loop makes codes
and CQT in every step from noise that it has in memory.

Cached codes are made once a 30-s segment before the stage, which the steps here leave out: the
first run over a corpus that takes six crops of each segment pays the column `EnCodec` once, later
stages and runs nothing. `of peak` is 3 x the forward pass's matrix products over work over what
torch.mm reaches in between (the loop's without its teachers). Memory is that of the whole process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

UNCOUNTED = 1
CLIP_S = 5
Turn = dict[str, float]


def main() -> None:
    """Print a table for each preset and precision."""
    options = _options()
    if options.side:
        (_ours if options.side == "ours" else _reference)(options)
        return
    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(
        f"{device}, {options.threads} threads, {options.accumulation} x {options.batch} clips of "
        f"{CLIP_S} s a step, medians of {options.turns} turns"
    )
    for preset in options.presets:
        for precision in options.precisions:
            _compare(options, preset, precision, device)


def _compare(options: argparse.Namespace, preset: str, precision: str, device: str) -> None:
    sides = {side: _Side(options, side, preset, precision) for side in ("ours", "reference")}
    turns: dict[str, list[Turn]] = {side: [] for side in sides}
    peaks = []
    for turn in range(UNCOUNTED + options.turns):
        for side, process in sides.items():
            result = process.step()
            if turn >= UNCOUNTED:
                turns[side].append(result)
        peaks.append(_matmul_peak(precision, device))
    for process in sides.values():
        process.end()
    _print(options, preset, precision, turns, statistics.median(peaks))


def _print(
    options: argparse.Namespace,
    preset: str,
    precision: str,
    turns: dict[str, list[Turn]],
    peak: float,
) -> None:
    from cpt_reference import forward_flops

    clips = options.batch * options.accumulation
    flops = 3 * clips * forward_flops(preset)
    middle = {
        side: {name: statistics.median(turn[name] for turn in each) for name in each[0]}
        for side, each in turns.items()
    }
    ours, loop = middle["ours"], middle["reference"]
    bare = loop["work"] - loop["encodec"] - loop["cqt"]
    print(f"\n{preset} {precision}, torch.mm {peak / 1e9:.0f} GFLOP per unit of work")
    print("             s/step     work  of peak    memory  teachers     data  EnCodec     CQT")
    print(
        f"ours        {ours['seconds']:7.3f}  {ours['work']:7.3f}  "
        f"{flops / ours['work'] / peak:7.1%}  {ours['memory_gb']:5.2f} GB  "
        f"{ours['teachers'] / ours['work']:8.2%}  {ours['data'] / ours['work']:7.2%}"
    )
    print(
        f"plain loop  {loop['seconds']:7.3f}  {loop['work']:7.3f}  {flops / bare / peak:7.1%}  "
        f"{loop['memory_gb']:5.2f} GB  {(loop['encodec'] + loop['cqt']) / loop['work']:8.2%}"
        f"           {loop['encodec']:7.3f} {loop['cqt']:7.3f}"
    )
    pairs = list(zip(turns["ours"], turns["reference"], strict=True))
    faster, cheaper = (
        statistics.median(theirs[name] / own[name] for own, theirs in pairs)
        for name in ("seconds", "work")
    )
    print(
        f"ours is {faster:.2f} x as fast, takes 1/{cheaper:.2f} of the work (1/"
        f"{bare / ours['work']:.2f} of the loop's without its teachers) and "
        f"{ours['memory_gb'] / loop['memory_gb']:.2f} of the memory",
        flush=True,
    )


class _Side:
    """One of the two in a process of its own that does a step when it is told to."""

    def __init__(self, options: argparse.Namespace, side: str, preset: str, precision: str) -> None:
        command = [sys.executable, __file__, "--side", side]
        command += ["--presets", preset, "--precisions", precision]
        for name in ("batch", "accumulation", "threads", "turns"):
            command += [f"--{name}", str(getattr(options, name))]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def step(self) -> Turn:
        """Let it do a step and return what it says of it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the process ended early with {self.process.wait()}")
        result: Turn = json.loads(line)
        return result

    def end(self) -> None:
        """Wait until it has ended."""
        self.process.communicate()


def _reference(options: argparse.Namespace) -> None:
    from cpt_reference import ReferenceLoop

    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loop = ReferenceLoop(
        options.presets[0], options.precisions[0], options.batch, options.accumulation, device
    )
    for _ in range(UNCOUNTED + options.turns):
        sys.stdin.readline()
        _tell(loop.step())


def _ours(options: argparse.Namespace) -> None:
    from cpt_reference import worked

    from mergekit_audio import pretrain
    from mergekit_audio.pretrain.trainer import StageTrainer
    from mergekit_audio.recipe.train import TrainRecipe

    spent = {"teachers": 0.0, "data": 0.0}
    _time_method(StageTrainer, "_targets", spent, "teachers")
    _time_method(StageTrainer, "get_batch_samples", spent, "data")
    steps = UNCOUNTED + options.turns
    device = "cuda" if torch.cuda.is_available() else "cpu"
    started = [0.0, 0.0]

    def tell(event: Any) -> None:
        if event.task != "stage measured":
            return
        if event.done > 0:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            work = worked(device) - started[1]
            _tell({"seconds": time.perf_counter() - started[0], "work": work, **spent})
        if event.done < steps:
            sys.stdin.readline()
            spent.update(teachers=0.0, data=0.0)
            started[:] = time.perf_counter(), worked(device)

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write_inputs(root, seconds=steps * options.batch * options.accumulation * CLIP_S)
        recipe = TrainRecipe.model_validate(_recipe(options, steps))
        pretrain.run(pretrain.plan(recipe, root), progress=tell)


def _recipe(options: argparse.Namespace, steps: int) -> dict[str, Any]:
    return {
        "kind": "train",
        "base": {"preset": options.presets[0], "init": "random"},
        "backbone": {"name": "mert"},
        "culture": "noise",
        "corpus": "noise",
        "teachers": [{"name": "encodec", "model": "encodec"}, {"name": "cqt"}],
        "stages": [{"name": "measured", "train": ["*"], "steps": steps, "peak_lr": 1e-5}],
        "arguments": {
            "batch_size": options.batch,
            "gradient_accumulation_steps": options.accumulation,
            "precision": options.precisions[0],
            "num_threads": options.threads,
            "save_steps": 1_000_000,
        },
        "store": "store",
        "output": "out",
    }


def _write_inputs(root: Path, *, seconds: float) -> None:
    """Write noise, and a small EnCodec of random weights: its codes cost a step what others do."""
    import numpy as np
    import soundfile
    from transformers import EncodecConfig, EncodecModel

    (root / "noise").mkdir()
    generator = np.random.default_rng(0)
    for number in range(max(2, -(-int(seconds) // 30))):
        noise = 0.1 * generator.standard_normal(30 * 24_000)
        soundfile.write(root / "noise" / f"{number}.wav", noise.astype(np.float32), 24_000)
    torch.manual_seed(0)
    config = EncodecConfig(num_filters=2, hidden_size=8, codebook_dim=8, num_lstm_layers=1)
    EncodecModel(config).save_pretrained(root / "encodec")


def _time_method(owner: Any, name: str, spent: Turn, key: str) -> None:
    from cpt_reference import worked

    method = getattr(owner, name)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def timed(self: Any, *rest: Any, **named: Any) -> Any:
        start = worked(device)
        result = method(self, *rest, **named)
        if device == "cuda":
            torch.cuda.synchronize()
        spent[key] += worked(device) - start
        return result

    setattr(owner, name, timed)


def _tell(turn: Turn) -> None:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if torch.cuda.is_available():
        memory = torch.cuda.max_memory_allocated() / 1e9
    print(json.dumps(turn | {"memory_gb": memory}), flush=True)


def _matmul_peak(precision: str, device: str) -> float:
    """Return FLOPs per unit of work of the best of some square matrix products."""
    from cpt_reference import worked

    size = 8192 if device == "cuda" else 2048
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        start = worked(device)
        torch.mm(left, right)
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, worked(device) - start)
    return 2 * size**3 / best


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["tiny", "95m"])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--accumulation", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--side", choices=("ours", "reference"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
