# PYTHONPATH=. python benchmarks/probe.py [--presets tiny,95m] [--seconds 120] [--turns 3]
"""Print extraction and probe training beside the plain loops that they replace, in one process.

Extraction: seconds of audio embedded per CPU second, on noise in 30-s chunks with random weights,
against a loop as MARBLE v1 has it: transformers' own HubertModel in fp32, one chunk at a time, all
hidden states kept, averaged over time, one ``.npy`` a file. The share of the peak is the arithmetic
of the model as published (products of convolutions, attention and linear layers) over time, beside
the rate of a product of two 2048 x 2048 matrices in the same type and the same run.

Probe: 50 epochs on 5,000 x 768 features and 50 labels, against a plain loop (nn.Sequential, default
Adam, rows of a permutation), then the same on all layers with a softmax-weighted sum.

Turns of the ways alternate; medians of CPU seconds on one thread, and of the ratios of a turn.

What helped and what did not (one core of a Xeon with AMX, 30-s chunks, 95m; torch 2.13):

- Memory that stays instead of fresh memory: a GELU of 27 MB takes 8.8 ns a value into fresh memory
  (page faults) and 0.39 ns in place. It is why every large tensor has room of its own.
- bfloat16 (AMX): a product 2048 x 2048 runs at 1,118 GF/s instead of 175. Whole forward 1.76 s
  instead of 6.26 s at a relative difference of 0.4 %; autocast of the modules takes 4.05 s.
- The front as matrix products: 1.50 s in fp32 where the modules take 3.11 s, 0.40 s in bfloat16
  where autocast takes 2.64 s. Chunks of 2^18 values instead of 2^20 cost 33 % in bfloat16 and
  nothing in fp32; 2^22 cost 6 %.
- sdpa: 129 ms a layer instead of 448 ms (fp32), 55 ms instead of 266 ms (bfloat16).
- The positional convolution in bfloat16: 53 ms instead of 240 ms, but only with groups of 16
  channels or multiples of it; oneDNN's result is wrong by more than its norm with 8 or 12.
- tiny, 30-s chunks: 120 ms instead of 143 ms; attention over 2,249 frames is 74 ms of them and runs
  at the peak of fp32 already. bfloat16 would take 80 ms, but tiny encoders stay in fp32, so that a
  demo has the same numbers with and without AMX. The whole front of tiny takes 28 ms, 40 ms before.
- Features kept in float16, or with 0.4 % of noise as bfloat16 has, moved ROC-AUC and AP of a probe
  by at most 0.00015 and 0.00025 (4 seeds; the seeds differ by 0.0002 and 0.0008).
- Batches: four 5-s chunks of 95m take 0.91 s together and 1.03 s one by one in bfloat16, 3.28 s and
  3.43 s in fp32; but then the last bits depend on the batch, so chunks are computed one by one.
- All together, 4 chunks, shared machine, ratio of CPU seconds to the plain loop: 95m 3.2, of which
  the choice of precision on 4 x 2 s is a part that more chunks make small, 5.0 up to layer 6, 1.2
  in fp32, where the plain loop runs at 66 to 74 % of the peak already; tiny 1.0, up to layer 2 1.5.
- Probe steps: a softmax-weighted sum by matmul takes 0.08 ms, by einsum (which copies) 0.51 ms, and
  its way back by bmm 0.21 ms instead of 0.48 ms. Ratio to the plain loop 1.5 for one layer, 1.4 for
  13; what is left are products of 64 rows and Adam's 6.7 MB a step.
- Nothing to gain from overlapping chunks: group norm over time makes each frame of the front depend
  on its whole chunk, so two chunks share no frame.
- Not done: torch.compile (it wants a C++ compiler on the user's machine and takes longer than a
  small corpus), fp8 and int8 (their error exceeds the differences between merges).
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

CLIP_S = 30.0
PROBED = ("plain", "ours")


def main() -> None:
    """Run what was asked for on one thread and print it."""
    arguments = _parsed()
    torch.set_num_threads(1)
    if "extraction" in arguments.only:
        peaks = {name: peak(getattr(torch, name)) for name in ("float32", "bfloat16")}
        for name, rate in peaks.items():
            print(f"peak of a matrix product, {name}: {rate / 1e9:.0f} GF/s")
        for preset in arguments.presets.split(","):
            extraction(preset, arguments.seconds, arguments.turns, peaks)
    if "probe" in arguments.only:
        for layers in (None, 13):
            probes(layers, arguments.epochs, arguments.turns)


def extraction(preset: str, seconds: float, turns: int, peaks: dict[str, float]) -> None:
    """Print audio seconds per CPU second of the plain loop and of ours, in turns."""
    from mergekit_audio.audio.store import Store
    from mergekit_audio.backbones.mert import Mert
    from mergekit_audio.probe.encoders import FrozenEncoder
    from mergekit_audio.probe.features import extract
    from mergekit_audio.recipe.protocols import Protocol
    from mergekit_audio.weights.keys import canonical_name

    backbone = Mert()
    config = backbone.preset(preset)
    model = backbone.build(config, None, training=False, seed=0)
    state = {canonical_name(name): each for name, each in model.state_dict().items()}
    encoder = FrozenEncoder.of_state(state, config, backbone)
    encoder.key(encoder.last_layer)  # a checkpoint's digests are known to the digest cache
    count = max(1, round(seconds / CLIP_S))
    arithmetic = operations(config, round(CLIP_S * backbone.sample_rate_hz)) * count
    layer = config["num_hidden_layers"] // 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = Store(folder / "store").prepare(_write_corpus(folder, count, backbone))
        waves = [prepared.wave() for prepared in corpus.tracks]
        turn = itertools.count()

        def ours(precision: Any, layers: tuple[int, ...] | None) -> Callable[[], Any]:
            def run() -> Any:
                cache = folder / f"cache{next(turn)}"
                protocol = Protocol(precision=precision)
                return extract(encoder, corpus, protocol, cache, layers=layers, build=build)

            return run

        def build(last_layer: int) -> torch.nn.Module:
            return model if last_layer == encoder.last_layer else encoder.build(last_layer)

        ways = {
            "plain": lambda: marble_loop(model, waves, folder),
            "fp32": ours("fp32", None),
            "auto": ours("auto", None),
            f"auto, layer {layer}": ours("auto", (layer,)),
        }
        found, results = in_turns(ways, turns)
    expected = results["plain"]
    facts = results["auto"].facts
    errors = {
        name: float(np.abs(results[name].values[:] - expected).max() / np.abs(expected).mean())
        for name in ("fp32", "auto")
    }
    print(f"\nextraction, {preset}, {count} chunks of {CLIP_S:g} s; auto took {facts['precision']}")
    print(f"largest error over mean size: fp32 {errors['fp32']:.1e}, auto {errors['auto']:.1e}")
    print("way            CPU s  wall s  audio s/CPU s  of the peak  ratio to plain (spread)")
    rates = {"plain": "float32", "fp32": "float32"}
    for name, seconds_of in found.items():
        rate = rates.get(name, "bfloat16" if facts["precision"] == "bf16" else "float32")
        share = arithmetic / seconds_of.cpu_s / peaks[rate]
        shown = f"{share:11.0%}" if "layer" not in name else "          -"
        print(
            f"{name:13} {seconds_of.cpu_s:6.2f} {seconds_of.wall_s:7.2f} "
            f"{count * CLIP_S / seconds_of.cpu_s:14.1f} {shown}  {seconds_of.ratio(found['plain'])}"
        )


def marble_loop(model: Any, waves: list[Any], folder: Path) -> np.ndarray:
    """Embed as MARBLE v1 does: one by one, all states stacked, a file each."""
    rows = []
    for number, wave in enumerate(waves):
        normal = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
        with torch.no_grad():
            output = model(torch.from_numpy(normal)[None], output_hidden_states=True)
            states = torch.stack([state for state in output.hidden_states]).squeeze()
            pooled = states.mean(-2).numpy()
        np.save(folder / f"{number}.npy", pooled)
        rows.append(pooled)
    return np.stack(rows)


def operations(config: dict[str, Any], samples: int) -> float:
    """Return the multiplications and additions of one clip's matrix products."""
    total, frames, channels = 0.0, samples, 1
    rows = zip(config["conv_dim"], config["conv_kernel"], config["conv_stride"], strict=True)
    for out, kernel, stride in rows:
        frames = (frames - kernel) // stride + 1
        total += 2.0 * frames * channels * kernel * out
        channels = out
    width, inner = config["hidden_size"], config["intermediate_size"]
    group = width // config["num_conv_pos_embedding_groups"]
    total += 2.0 * frames * channels * width
    total += 2.0 * frames * width * group * config["num_conv_pos_embeddings"]
    linear = 2.0 * frames * (4 * width * width + 2 * width * inner)
    return total + config["num_hidden_layers"] * (linear + 4.0 * frames * frames * width)


def probes(layers: int | None, epochs: int, turns: int) -> None:
    """Print the CPU seconds of one probe, plain and ours, with and without validation."""
    from mergekit_audio.probe.heads import train_probe
    from mergekit_audio.probe.metrics import score_labels
    from mergekit_audio.recipe.protocols import Protocol

    generator = torch.Generator().manual_seed(0)
    shape = (6000, 768) if layers is None else (6000, layers, 768)
    features = torch.randn(shape, generator=generator)
    mixing = torch.randn(768, 50, generator=generator) / 768**0.5
    flat = features if layers is None else features.mean(dim=1) * layers**0.5
    noise = torch.randn(6000, 50, generator=generator)
    targets = ((flat @ mixing + 0.5 * noise) > 1.3).float()
    train, valid = (features[:5000], targets[:5000]), (features[5000:], targets[5000:])
    labels = tuple(f"label{index}" for index in range(50))
    protocol = Protocol(max_epochs=epochs, patience=None, plateau_patience=None)
    truth = valid[1].numpy().astype(bool)
    rising = itertools.count()  # the last epoch counts as the best

    def score(head: Callable[[torch.Tensor], torch.Tensor]) -> float:
        with torch.inference_mode():
            scores = head(valid[0]).double().sigmoid().numpy()
        return score_labels(scores, truth, labels, split="valid").macro("roc_auc")

    ways = {
        "plain": lambda: plain_probe(*train, epochs),
        "ours": lambda: train_probe(*train, lambda head: float(next(rising)), protocol, 0).head,
        "ours, scored": lambda: train_probe(*train, score, protocol, 0).head,
    }
    found, results = in_turns(ways, turns)
    kind = "one layer" if layers is None else f"weighted sum of {layers} layers"
    print(f"\nprobe, {kind}: {epochs} epochs on 5,000 x 768, 50 labels, batches of 64")
    print("way            CPU s  wall s  ratio to plain (spread)  validation ROC-AUC")
    for name, seconds in found.items():
        ratio = seconds.ratio(found["plain"])
        print(
            f"{name:13} {seconds.cpu_s:6.2f} {seconds.wall_s:7.2f}  {ratio:23}  "
            f"{score(results[name]):.4f}"
        )


def plain_probe(features: torch.Tensor, targets: torch.Tensor, epochs: int) -> Any:
    """Train with PyTorch's parts as a tutorial would."""
    torch.manual_seed(0)
    head = _PlainHead(features.shape[1] if features.ndim == 3 else None)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    loss_of = torch.nn.BCEWithLogitsLoss()
    for _ in range(epochs):
        order = torch.randperm(len(features))
        for first in range(0, len(order), 64):
            rows = order[first : first + 64]
            optimizer.zero_grad()
            loss = loss_of(head(features[rows]), targets[rows])
            loss.backward()
            optimizer.step()
    return head.eval()


class _PlainHead(torch.nn.Module):
    def __init__(self, layers: int | None) -> None:
        super().__init__()
        self.layers = None if layers is None else torch.nn.Parameter(torch.zeros(1, layers, 1))
        self.net = torch.nn.Sequential(
            torch.nn.Linear(768, 512),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.2),
            torch.nn.Linear(512, 50),
        )

    def forward(self, features: torch.Tensor) -> Any:
        """Return logits."""
        if self.layers is not None:
            features = (self.layers.softmax(dim=1) * features).sum(dim=1)
        return self.net(features)


class Seconds:
    """What one way took in every turn."""

    def __init__(self) -> None:
        self.cpu: list[float] = []
        self.wall: list[float] = []

    @property
    def cpu_s(self) -> float:
        """The median of CPU seconds."""
        return statistics.median(self.cpu)

    @property
    def wall_s(self) -> float:
        """The median of seconds on the clock."""
        return statistics.median(self.wall)

    def ratio(self, plain: Seconds) -> str:
        """Return how many times faster than plain: median, least and most of the turns."""
        ratios = sorted(theirs / ours for theirs, ours in zip(plain.cpu, self.cpu, strict=True))
        return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def in_turns(
    ways: dict[str, Callable[[], Any]], turns: int
) -> tuple[dict[str, Seconds], dict[str, Any]]:
    """Run each way once uncounted, then all of them in turns; and give their last results."""
    found = {name: Seconds() for name in ways}
    results = {name: way() for name, way in ways.items()}
    for _ in range(turns):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            results[name] = way()
            found[name].cpu.append(time.process_time() - cpu)
            found[name].wall.append(time.perf_counter() - wall)
    return found, results


def peak(dtype: torch.dtype, size: int = 2048) -> float:
    """Return the fastest of five products of two square matrices, in operations a second."""
    first, second = (torch.randn(size, size).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(6):
        started = time.process_time()
        torch.mm(first, second)
        seconds.append(time.process_time() - started)
    return 2.0 * size**3 / min(seconds[1:])


def _write_corpus(folder: Path, count: int, backbone: Any) -> Path:
    import soundfile

    generator = np.random.default_rng(0)
    target = folder / "corpus"
    target.mkdir()
    rows = []
    for index in range(count):
        wave = 0.1 * generator.standard_normal(round(CLIP_S * backbone.sample_rate_hz))
        soundfile.write(target / f"{index:05d}.wav", wave, backbone.sample_rate_hz)
        rows.append({"id": f"{index:05d}", "path": f"{index:05d}.wav", "split": "train"})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (target / "manifest.jsonl").write_text(lines, encoding="utf-8")
    return target


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--presets", default="tiny,95m", help="comma-separated presets")
    parser.add_argument("--seconds", type=float, default=120.0, help="audio to embed in a turn")
    parser.add_argument("--epochs", type=int, default=50, help="of a probe")
    parser.add_argument("--turns", type=int, default=3, help="counted turns")
    parser.add_argument(
        "--only", nargs="+", default=["extraction", "probe"], choices=["extraction", "probe"]
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
