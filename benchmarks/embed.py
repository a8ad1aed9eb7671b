# PYTHONPATH=. python benchmarks/embed.py [--presets tiny,95m] [--seconds 240] [--workers 2]
"""Print seconds of audio embedded per second by the probe's own extraction, and its peak memory.

Every preset runs in a process of its own, with random weights, on noise in 30-s chunks without
padding, all hidden states averaged over time, as `cmerge evaluate` does. The first run of a size
warms up and is not counted.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Measure each preset in a fresh process and print a line for each."""
    arguments = _parsed()
    if arguments.one is not None:
        print(
            json.dumps(
                measure(
                    arguments.one,
                    arguments.seconds,
                    arguments.clip_s,
                    arguments.workers,
                    arguments.precision,
                )
            )
        )
        return
    print("preset   workers  audio s   wall s    CPU s  audio s/s  audio s/CPU s  peak MB")
    for preset in arguments.presets.split(","):
        command = [sys.executable, __file__, "--one", preset]
        command += ["--seconds", str(arguments.seconds), "--clip-s", str(arguments.clip_s)]
        command += ["--workers", str(arguments.workers), "--precision", arguments.precision]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        print(
            f"{preset:8} {arguments.workers:7d} {found['audio_s']:8.0f} {found['wall_s']:8.2f} "
            f"{found['cpu_s']:8.2f} {found['audio_s'] / found['wall_s']:10.1f} "
            f"{found['audio_s'] / found['cpu_s']:14.1f} {found['peak_mb']:8.0f}"
        )


def measure(
    preset: str, seconds: float, clip_s: float, workers: int, precision: Any
) -> dict[str, float]:
    """Embed ``seconds`` of noise and return audio, wall and CPU seconds and peak memory in MB."""
    import soundfile

    from mergekit_audio.audio.store import Store
    from mergekit_audio.backbones.mert import Mert
    from mergekit_audio.probe.encoders import FrozenEncoder
    from mergekit_audio.probe.features import extract
    from mergekit_audio.recipe.protocols import Protocol
    from mergekit_audio.weights.keys import canonical_name

    backbone = Mert()
    config = backbone.preset(preset)
    state = backbone.build(config, None, training=False, seed=0).state_dict()
    named = {canonical_name(name): tensor for name, tensor in state.items()}
    encoder = FrozenEncoder.of_state(named, config, backbone)
    generator = np.random.default_rng(0)
    count = max(1, round(seconds / clip_s))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for split, clips in (("warm", workers), ("timed", count)):
            (folder / split).mkdir()
            rows = []
            for index in range(clips):
                wave = 0.1 * generator.standard_normal(round(clip_s * backbone.sample_rate_hz))
                file = folder / split / f"{index:05d}.wav"
                soundfile.write(file, wave, backbone.sample_rate_hz)
                rows.append({"id": f"{index:05d}", "path": file.name, "split": "train"})
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / split / "manifest.jsonl").write_text(lines, encoding="utf-8")
        store = Store(folder / "store")
        wall_s = cpu_s = 0.0
        for split in ("warm", "timed"):
            corpus = store.prepare(folder / split)
            started, cpu_started = time.perf_counter(), time.process_time()
            extract(encoder, corpus, Protocol(precision=precision), folder / split, workers=workers)
            wall_s = time.perf_counter() - started
            cpu_s = time.process_time() - cpu_started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"audio_s": count * clip_s, "wall_s": wall_s, "cpu_s": cpu_s, "peak_mb": peak}


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--presets", default="tiny,95m", help="comma-separated presets")
    parser.add_argument("--seconds", type=float, default=240.0, help="audio to embed")
    parser.add_argument("--clip-s", type=float, default=30.0, help="length of a chunk")
    parser.add_argument("--workers", type=int, default=2, help="threads, each on one core")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
