"""Merge with cmerge and with mergekit, method by method, against the floor of reading and writing.

Run with:  python benchmarks/merge.py                              (Linux; 3 GB of disk, 5 minutes)
           python benchmarks/merge.py --mergekit-python VENV/bin   (mergekit 0.1.5 in a venv)
           python benchmarks/merge.py --size large                 (12 GB of disk)
           python benchmarks/merge.py --size tiny --repeats 1
Sizes: `95m` is a base and four models of MERT-v1-95M's size, float32, 1.9 GB; `large` five models
of Llama's layout, 748 M parameters in bfloat16, four shards each, 7.5 GB. Every run is a process of
its own, start-up included; the tools and the floor take turns, and medians count. `first` is a
merge whose inputs cmerge never hashed before; later ones remember the digests. The floor reads the
inputs and writes and syncs the output, nothing else. MB are 10⁶ bytes of anonymous memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]

from merge_checkpoints import SIZES, write_models  # noqa: E402 (they lie beside)
from merge_methods import CASES, Case  # noqa: E402

FLOOR = """
import os, sys
total = 0
for path in sys.argv[2:]:
    with open(path, "rb", buffering=0) as stream:
        block = bytearray(1 << 20)
        while count := stream.readinto(block):
            total += count
size = total // int(os.environ["INPUTS"])
with open(sys.argv[1], "wb", buffering=0) as stream:
    for _ in range(size >> 20):
        stream.write(block)
    os.fsync(stream.fileno())
"""


@dataclass(frozen=True)
class Usage:
    """Wall and CPU seconds, and the largest anonymous memory in MB."""

    wall_s: float
    cpu_s: float
    anonymous_mb: float


def main() -> None:
    """Print one line for each method."""
    options = _options()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        root = Path(folder)
        names = write_models(root, options.size)
        floor = _median([_floor(root, names) for _ in range(options.repeats)])
        print(f"size {options.size}, {options.repeats} runs each; {os.cpu_count()} cores")
        print(f"floor: {floor.wall_s:.2f} s\n")
        print("| merge | first s | s | CPU s | MB | mergekit s | mergekit MB | ratio | x floor |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        for case in CASES:
            if options.only and case.name not in options.only.split(","):
                continue
            print(_row(root, names, case, options, floor), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=sorted(SIZES), default="95m")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="names of lines, with commas between")
    parser.add_argument("--mergekit-python", type=Path, help="the bin folder of mergekit's venv")
    parser.add_argument("--folder", type=Path, help="where the checkpoints are written")
    return parser.parse_args()


def _row(
    root: Path, names: Sequence[str], case: Case, options: argparse.Namespace, floor: Usage
) -> str:
    ours, theirs = [], []
    memory = root / "digests"
    shutil.rmtree(memory, ignore_errors=True)
    for _ in range(options.repeats + 1):
        ours.append(_ours(root, names, case, memory))
        if options.mergekit_python and case.mergekit:
            theirs.append(_theirs(root, names, case, options))
    first, later = ours[0], _median(ours[1:])
    found = [
        f"{first.wall_s:.2f}",
        f"{later.wall_s:.2f}",
        f"{later.cpu_s:.1f}",
        f"{later.anonymous_mb:.0f}",
    ]
    if theirs:
        other = _median(theirs[1:])
        found += [f"{other.wall_s:.2f}", f"{other.anonymous_mb:.0f}"]
        found += [f"{other.wall_s / later.wall_s:.1f}"]
    else:
        found += ["", "", ""]
    return f"| {case.name} | {' | '.join(found)} | {later.wall_s / floor.wall_s:.1f} |"


def _ours(root: Path, names: Sequence[str], case: Case, memory: Path) -> Usage:
    recipe = {
        "kind": "merge",
        "base": names[0],
        "models": [{"model": name} for name in names[1 : 1 + case.models]],
        "method": case.method,
        "scale": case.scale,
        "output": "ours",
    }
    path = root / "ours.yaml"
    path.write_text(json.dumps(recipe))
    command = [sys.executable, "-m", "mergekit_audio", "merge", str(path), "--force", "--quiet"]
    usage = _measure([*command, *case.words], CMERGE_DIGEST_CACHE=str(memory))
    shutil.rmtree(root / "ours")
    return usage


def _theirs(root: Path, names: Sequence[str], case: Case, options: argparse.Namespace) -> Usage:
    flat = options.size != "large"

    def source(name: str) -> str:
        return str(root / name / "model.safetensors") if flat else str(root / name)

    recipe = {**(case.mergekit or {}), "dtype": "float32" if flat else "bfloat16"}
    models = [
        {"model": source(name), "parameters": case.mergekit_model}
        for name in names[1 : 1 + case.models]
    ]
    if case.counts_base:
        models = [{"model": source(names[0]), "parameters": case.mergekit_model}, *models]
    recipe |= {"models": models}
    if not case.ignores_base:
        recipe["base_model"] = source(names[0])
    path = root / "theirs.yaml"
    path.write_text(json.dumps(recipe))
    tool = options.mergekit_python / ("mergekit-pytorch" if flat else "mergekit-yaml")
    words = [str(tool), str(path), str(root / "theirs"), "--random-seed", "42", "--quiet"]
    usage = _measure([*words, *([] if flat else ["--no-copy-tokenizer"])], PYTHONHASHSEED="0")
    shutil.rmtree(root / "theirs", ignore_errors=True)
    return usage


def _floor(root: Path, names: Sequence[str]) -> Usage:
    files = [str(path) for name in names for path in sorted((root / name).glob("*.safetensors"))]
    target = root / "floor"
    usage = _measure([sys.executable, "-c", FLOOR, str(target), *files], INPUTS=str(len(names)))
    target.unlink()
    return usage


def _measure(command: Sequence[str], **variables: str) -> Usage:
    """Run a command and watch it; its errors end the benchmark."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **variables}
    started = time.monotonic()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    peak = 0
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        try:
            lines = status.read_text().splitlines()
        except OSError:
            break
        for line in lines:
            if line.startswith("RssAnon:"):
                peak = max(peak, int(line.split()[1]) * 1024)
        time.sleep(0.01)
    output = process.communicate()[0]
    wall_s = time.monotonic() - started
    if process.returncode:
        sys.exit(f"{' '.join(command)}\n{output}")
    return Usage(wall_s, _cpu_seconds(), peak / 1e6)


_spent = 0.0


def _cpu_seconds() -> float:
    """Return the CPU time of the children that ended since the last call."""
    global _spent
    times = os.times()
    total = times.children_user + times.children_system
    _spent, before = total, _spent
    return total - before


def _median(usages: Sequence[Usage]) -> Usage:
    return Usage(
        statistics.median(usage.wall_s for usage in usages),
        statistics.median(usage.cpu_s for usage in usages),
        max(usage.anonymous_mb for usage in usages),
    )


if __name__ == "__main__":
    main()
