# PYTHONPATH=. python benchmarks/sweep.py [--tracks 100] [--seconds 30] [--plain-points 21]
"""Print what a dense sweep of λ takes beside a direct one and beside the scripts of today.

One run on synthetic recordings with random weights (the tiny preset, unless asked otherwise) and
task vectors of 10 % of each tensor's standard deviation, one core:

- dense: ``cmerge sweep-lambda`` with 101 λ on interpolated features;
- direct: the same command at 21 of these λ, each extracted;
- plain: at the same 21 λ, each merge is added up and written to disk, loaded by transformers, every
  file is read and embedded on its own, and one probe a seed is trained by a plain loop.

CPU seconds of one thread. Decoding and preparing the corpus is part of the first two, as reading
the files is of the third. Direct and plain may run at some λ alone: the seconds of the plain way
are scaled to 21 λ, and a direct sweep's median λ counts as often as λ are left out.

What bounds the ratios: with E the seconds of embedding all tracks once, v the share of training and
validation (0.8 here) and two cultures, n nodes cost about

    dense 5 E + (n - 2) v E           base, cultures, average, chosen λ; the other nodes
    direct 4 E + 19 v E + (1 - v) E   base, cultures, average; the other λ; the chosen λ's test
    plain 21 r E                      r: how much faster than transformers an extraction is

beside probes, and tests on a few tracks. So direct / dense is at most 3.3 with 3 nodes and 2.6 with
5, and plain / dense is 10 where r is 2.8 or 3.5. By benchmarks/probe.py r is 3.2 for a 95m encoder
in bfloat16, where 3 nodes may do, since what bfloat16 rounds is no error of the interpolation; it
is 1.2 in float32 and 1 to 1.5 for the tiny encoder: there 10 is out of reach at 21 λ.

Measured (tiny, 40 tracks of 30 s, a busy Xeon with AMX, torch 2.13, direct at 4 λ, plain at 1):
dense 70 s with 5 λ extracted (encoder 50 s, probes 14 s), direct 142 s, plain 243 s: 3.5 and 2.0
times as long for 21 λ; a λ costs 0.7, 6.8 and 11.6 s. Features were off by 2e-4 of the largest
shift, ROC-AUC of 8 validation tracks by up to 0.0035. With 7 λ extracted, all tests on all tracks
and the test split for every node it was 2.3 and 1.8.

95m in bfloat16 (--preset 95m --tracks 16 --direct-points 4 --plain-points 1), busy: dense 277 s
with 3 λ extracted (encoder 225 s, choosing the precision 21 s, probes 14 s, merges, digests and the
rest 17 s), direct 743 s, plain 2821 s: 10.2 and 2.7 times as long for 21 λ. Features were off by
1.7e-2 of the largest shift, where bfloat16 rounds 1.5e-2; ROC-AUC was the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

SEEDS = (0, 1, 2)
VECTORS = 0.1
CULTURES = ("makam", "lyra")
PARTS = ("encoder", "precision", "probe")


def main() -> None:
    """Run the three ways once and print times, ratios and differences."""
    arguments = _parsed()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_world(root, arguments.tracks, arguments.seconds, arguments.preset)
        scales = [float(f"{place / 20:.12g}") for place in range(21)]
        parts = {}
        extracted = some(scales, arguments.direct_points)
        for name, listed, interpolate in (
            ("dense", [0.0, 1.0], {"points": 101}),
            ("direct", extracted, None),
        ):
            with Parts() as parts[name]:
                run_sweep(root, name, listed, interpolate)
            print(f"{name}: {parts[name]}", flush=True)
        dense_s, direct_s = parts["dense"].whole_s, parts["direct"].whole_s
        direct_s += (len(scales) - len(extracted)) * parts["direct"].point_s()
        chosen = some(scales, arguments.plain_points)
        plain_s = timed(lambda: [plain_point(root, scale) for scale in chosen])
        plain_s *= len(scales) / len(chosen)
        told = summary_of(root, "dense")["interpolation"][0]
        print(
            f"{arguments.tracks} tracks of {arguments.seconds:g} s, {len(SEEDS)} seeds; "
            "CPU seconds of one thread"
        )
        print(f"dense, 101 λ, {len(told['nodes'])} of them extracted: {dense_s:8.1f} s")
        print(f"direct, 21 λ ({len(extracted)} run):            {direct_s:8.1f} s")
        print(f"plain, 21 λ ({len(chosen)} run):             {plain_s:8.1f} s")
        print(f"plain / direct at 21 λ:             {plain_s / direct_s:8.1f}")
        print(f"plain at 21 λ / dense at 101 λ:     {plain_s / dense_s:8.1f}")
        print(f"direct at 21 λ / dense at 101 λ:    {direct_s / dense_s:8.1f}")
        print(f"per λ: direct / dense:              {direct_s / 21 / (dense_s / 101):8.1f}")
        print(f"per λ: plain / dense:               {plain_s / 21 / (dense_s / 101):8.1f}")
        print(f"error at unseen λ: {told['tests'][-1]['tasks']}")
        print(f"error at the chosen λ: {told['chosen']}")
        mean, largest = feature_difference(root, extracted)
        print(
            f"features at the direct λ: largest mean error {mean:.1e} of the shift, of a chunk and "
            f"layer {largest:.1e}"
        )
        difference = score_difference(root, extracted)
        print(f"largest difference of ROC-AUC on validation: {difference:.5f}")


def some(scales: list[float], count: int) -> list[float]:
    """Return scales at even distances, the ends first of all."""
    if count == 1:
        return scales[:1]
    return [scales[round(place * (len(scales) - 1) / (count - 1))] for place in range(count)]


def write_world(root: Path, tracks: int, seconds: float, preset: str = "tiny") -> None:
    """Write a corpus, a base with random weights and two models near it."""
    from safetensors.torch import save_file

    from mergekit_audio.backbones.mert import Mert
    from mergekit_audio.datasets.synthetic import Synthetic

    Synthetic(culture="makam", tracks=tracks, duration_s=seconds).write(root / "corpus")
    backbone = Mert()
    config = backbone.preset(preset)
    state = backbone.build(config, None, training=False, seed=0).state_dict()
    generator = torch.Generator().manual_seed(1)
    models = {"base": state}
    for name in CULTURES:
        models[name] = {
            key: value + VECTORS * _std(value) * torch.randn(value.shape, generator=generator)
            for key, value in state.items()
        }
    for name, tensors in models.items():
        (root / name).mkdir()
        held = {key: value.contiguous() for key, value in tensors.items()}
        save_file(held, root / name / "model.safetensors")
        (root / name / "config.json").write_text(json.dumps(config), encoding="utf-8")


def recipe_of(root: Path, name: str, scales: list[float], interpolate: Any) -> Any:
    """Return the sweep; each has a store of its own, so that none finds another's features."""
    from mergekit_audio.recipe.load import from_dict

    value = {
        "kind": "sweep",
        "base": "base",
        "cultures": [{"name": each, "model": each} for each in CULTURES],
        "method": "task_arithmetic",
        "scales": scales,
        "interpolate": interpolate,
        "tasks": [{"name": "makam", "corpus": "corpus", "protocol": {"max_epochs": 30}}],
        "seeds": list(SEEDS),
        "resamples": 0,
        "select": {"resamples": 200},
        "store": f"{name}_store",
        "output": name,
    }
    return from_dict(value, root)


def run_sweep(root: Path, name: str, scales: list[float], interpolate: Any) -> None:
    """Run a sweep with one worker."""
    from mergekit_audio.sweep import sweep

    sweep(recipe_of(root, name, scales, interpolate), root, workers=1)


def plain_point(root: Path, scale: float) -> list[float]:
    """Return the ROC-AUC on validation of each seed, as a script of today computes it."""
    import soundfile
    import soxr
    from safetensors.torch import load_file, save_file
    from transformers import HubertModel

    states = {name: load_file(root / name / "model.safetensors") for name in ("base", *CULTURES)}
    merged = {
        key: base + scale * sum(states[name][key] - base for name in CULTURES)
        for key, base in states["base"].items()
    }
    folder = root / "plain"
    folder.mkdir(exist_ok=True)
    save_file(merged, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text((root / "base" / "config.json").read_text())
    model = HubertModel.from_pretrained(folder).eval()
    rows = [json.loads(line) for line in (root / "corpus/manifest.jsonl").read_text().splitlines()]
    features = []
    for row in rows:
        read, rate = soundfile.read(root / "corpus" / row["path"], dtype="float32", always_2d=True)
        wave = soxr.resample(read.mean(axis=1), rate, 24_000)
        wave = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
        with torch.no_grad():
            found = model(torch.from_numpy(wave)[None], output_hidden_states=True)
        features.append(torch.stack([each[0].mean(dim=0) for each in found.hidden_states]))
    labels = sorted({tag for row in rows for tag in row["tags"]})
    targets = torch.tensor([[float(tag in row["tags"]) for tag in labels] for row in rows])
    splits = np.array([row["split"] for row in rows])
    return [plain_probe(torch.stack(features), targets, splits, seed) for seed in SEEDS]


def plain_probe(
    features: torch.Tensor, targets: torch.Tensor, splits: np.ndarray, seed: int
) -> float:
    """Return the best ROC-AUC on validation of a probe on a weighted sum of layers."""
    from sklearn.metrics import roc_auc_score

    torch.manual_seed(seed)
    train, valid = (np.flatnonzero(splits == name) for name in ("train", "valid"))
    layers = torch.nn.Parameter(torch.zeros(features.shape[1]))
    head = torch.nn.Sequential(
        torch.nn.Linear(features.shape[2], 512),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.2),
        torch.nn.Linear(512, targets.shape[1]),
    )
    optimiser = torch.optim.Adam([layers, *head.parameters()], lr=1e-3)
    known = targets[valid].numpy()
    scored = (known.sum(axis=0) > 0) & (known.sum(axis=0) < len(known))
    best = 0.0
    for _ in range(30):
        head.train()
        for rows in torch.randperm(len(train)).split(64):
            mixed = (layers.softmax(0)[:, None] * features[train[rows]]).sum(dim=1)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                head(mixed), targets[train[rows]]
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        head.eval()
        with torch.no_grad():
            mixed = (layers.softmax(0)[:, None] * features[valid]).sum(dim=1)
            scores = head(mixed).sigmoid().numpy()
        best = max(best, float(roc_auc_score(known[:, scored], scores[:, scored])))
    return best


def feature_difference(root: Path, scales: list[float]) -> tuple[float, float]:
    """Return the largest mean and the largest error of interpolated features at the scales."""
    from mergekit_audio.audio.store import Store
    from mergekit_audio.probe.ledger import Ledger
    from mergekit_audio.probe.points import PointRunner
    from mergekit_audio.probe.tasks import prepare_task
    from mergekit_audio.progress import silent
    from mergekit_audio.sweep import plan
    from mergekit_audio.sweep.dense.finder import NodeFinder
    from mergekit_audio.sweep.dense.interpolated import held_out_error, mean_shift
    from mergekit_audio.sweep.dense.node_features import NodeFeatures
    from mergekit_audio.sweep.landscape import Landscape
    from mergekit_audio.sweep.merges import Merges
    from mergekit_audio.sweep.spaces import Point
    from mergekit_audio.weights.checkpoint import Checkpoint

    found = {}
    for name in ("dense", "direct"):
        recipe = recipe_of(root, name, [0.0, 1.0], {"points": 101})
        planned = plan(recipe, root)
        assert planned.space is not None
        store = Store(root / f"{name}_store")
        task = prepare_task(recipe.tasks[0], recipe.backbone, root, store)
        runner = PointRunner(
            [task],
            SEEDS,
            recipe.backbone,
            Ledger(root / f"{name}.jsonl"),
            store.root / "features",
            0,
            silent,
            1,
        )
        models = {"base": Checkpoint.open("base", root=root)}
        merges = Merges(planned, planned.space, models["base"])
        found[name] = Landscape(recipe, planned.space, models, merges, runner)
    dense, direct = found["dense"], found["direct"]
    assert dense.recipe.interpolate is not None
    base = dense.base
    extracted = NodeFeatures(dense.runner, dense.space, base, dense.merges.row)
    finder = NodeFinder(extracted, dense.recipe.interpolate)
    interpolation = finder.find(0)
    task = direct.runner.tasks[0]
    heard = np.isin(task.splits, ("train", "valid"))
    origin = direct.runner.features(base, task).of_tracks(heard)
    exact = {
        scale: direct.runner.features(direct.merges.row(Point((scale,))), task, only=heard)
        for scale in scales
        if scale
    }
    unit = max(mean_shift(features, origin)[0] for features in exact.values())
    errors = [
        held_out_error(interpolation.features((scale,), task.task.name), features, unit)
        for scale, features in exact.items()
    ]
    return max(each["mean"] for each in errors), max(each["max"] for each in errors)


def score_difference(root: Path, scales: list[float]) -> float:
    """Return the largest difference of the mean ROC-AUC on validation at the same λ."""
    found = []
    for name in ("dense", "direct"):
        rows = {row["scale"]: row for row in summary_of(root, name)["rows"]}
        found.append(
            [rows[scale]["scores"]["makam"]["valid"]["roc_auc"]["mean"] for scale in scales]
        )
    return max(abs(one - other) for one, other in zip(*found, strict=True))


def summary_of(root: Path, name: str) -> dict[str, Any]:
    """Return a sweep's summary."""
    value: dict[str, Any] = json.loads((root / name / "summary.json").read_text("utf-8"))
    return value


class Parts:
    """The CPU seconds of a sweep, and those in the encoder and in probes, of one thread."""

    def __enter__(self) -> Parts:
        from mergekit_audio.probe import points
        from mergekit_audio.probe.embedding import Embedder
        from mergekit_audio.sweep.landscape import Landscape

        self.seconds: dict[str, list[float]] = {"encoder": [], "precision": [], "probe": []}
        self.seconds["point"] = []
        self._counted = [
            (Embedder, "_batch", "encoder"),
            (Embedder, "difference", "precision"),
            (points, "probe", "probe"),
            (Landscape, "score", "point"),
        ]
        self._before = [getattr(owner, name) for owner, name, _ in self._counted]
        for (owner, name, part), work in zip(self._counted, self._before, strict=True):
            setattr(owner, name, self._timed(work, self.seconds[part]))
        self._started = time.process_time()
        return self

    def __exit__(self, *reason: object) -> None:
        self.whole_s = time.process_time() - self._started
        for (owner, name, _), work in zip(self._counted, self._before, strict=True):
            setattr(owner, name, work)

    def __str__(self) -> str:
        encoder, precision, probes = (self.seconds[part] for part in PARTS)
        rest_s = self.whole_s - sum(sum(self.seconds[part]) for part in PARTS)
        return (
            f"{self.whole_s:.1f} s: encoder {sum(encoder):.1f} s ({len(encoder)} chunks), choice "
            f"of precision {sum(precision):.1f} s ({len(precision)}), probes {sum(probes):.1f} s "
            f"({len(probes)}), the rest {rest_s:.1f} s"
        )

    def point_s(self) -> float:
        """Return the median seconds of a λ."""
        return statistics.median(self.seconds["point"])

    def _timed(self, work: Any, seconds: list[float]) -> Any:
        def timing(*given: Any, **named: Any) -> Any:
            started = time.process_time()
            found = work(*given, **named)
            seconds.append(time.process_time() - started)
            return found

        return timing


def timed(work: Any) -> float:
    """Return the CPU seconds that something takes: other programs on the machine do not count."""
    started = time.process_time()
    work()
    return time.process_time() - started


def _std(value: torch.Tensor) -> torch.Tensor:
    return value.std() if value.numel() > 1 else value.abs().mean()


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tracks", type=int, default=100, help="recordings")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each recording")
    parser.add_argument("--preset", default="tiny", help="of the encoder")
    parser.add_argument("--plain-points", type=int, default=21, help="λ of the plain way; scaled")
    parser.add_argument(
        "--direct-points", type=int, default=21, help="λ that are extracted directly; scaled"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
