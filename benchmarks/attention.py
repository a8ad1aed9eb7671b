"""python benchmarks/attention.py [--preset 95m] [--device cpu]: time of sdpa over time of eager.

Prints one row for each kind of work and length; `Mert.attention = auto` follows what it says.
Training is measured at the length of a crop. Runs of both are interleaved and the cheapest of each
counts; on a CPU the time is CPU seconds over all threads, so that other load matters little.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import nn

from mergekit_audio.backbones.mert import Mert

SECONDS = {"inference": (5.0, 30.0), "training": (5.0,)}


def main() -> None:
    """Print the ratios."""
    options = _options()
    threads = torch.get_num_threads()
    print(f"mert {options.preset} on {options.device}, {threads} CPU threads, {options.precision}")
    print("work        length   eager     sdpa      sdpa/eager")
    for work in options.work:
        models = {
            attention: _model(attention, options.preset, options.device, work == "training")
            for attention in ("eager", "sdpa")
        }
        for seconds in SECONDS[work]:
            wave = torch.randn(options.batch, int(seconds * Mert.sample_rate_hz))
            device = torch.device(options.device)
            with torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16"):
                best = _best_times(models, wave.to(device), work, options.repeats)
            ratio = best["sdpa"] / best["eager"]
            times = f"{best['eager']:7.3f} s {best['sdpa']:7.3f} s"
            print(f"{work:10s} {seconds:5.0f} s {times}  {ratio:8.3f}", flush=True)


def _best_times(
    models: dict[str, nn.Module], wave: torch.Tensor, work: str, repeats: int
) -> dict[str, float]:
    run = _train_step if work == "training" else _infer
    best = dict.fromkeys(models, float("inf"))
    for repeat in range(repeats + 1):
        for attention, model in models.items():
            elapsed = _time(lambda model=model: run(model, wave), wave.device)
            if repeat > 0:  # the first run warms up
                best[attention] = min(best[attention], elapsed)
    return best


def _infer(model: nn.Module, wave: torch.Tensor) -> None:
    with torch.inference_mode():
        Mert().hidden_states(model, wave)


def _train_step(model: nn.Module, wave: torch.Tensor) -> None:
    model.zero_grad(set_to_none=True)
    model(wave).last_hidden_state.square().mean().backward()


def _time(work: Callable[[], None], device: torch.device) -> float:
    if device.type != "cuda":
        start = time.process_time()
        work()
        return time.process_time() - start
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _model(attention: str, preset: str, device: str, training: bool) -> nn.Module:
    backbone = Mert.model_validate({"attention": attention})
    config = backbone.preset(preset) | {"layerdrop": 0.0}
    return backbone.build(config, None, training=training, device=device, seed=0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", default="95m", choices=("95m", "330m", "tiny"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", nargs="+", default=list(SECONDS), choices=SECONDS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
