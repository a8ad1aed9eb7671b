"""A plain loop of MERT's continual pre-training, as one writes it with transformers: the yardstick.

HubertModel with eager attention, EncodecModel.encode and a CQT by 65,536-tap convolutions in every
step, fairseq's masking in NumPy. It computes the same losses as `cmerge train-culture`.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from mergekit_audio.backbones.mert import Mert

SAMPLE_RATE_HZ, HOP_LENGTH, SAMPLES = 24_000, 320, 120_000
CODEBOOKS, ROWS, FINAL_SIZE, BINS = 8, 1024, 64, 336
BINS_PER_OCTAVE, LOWEST_HZ, LONGEST_KERNEL = 48, 32.7, 65_536


class ReferenceLoop:
    """Model, teachers and optimiser.

    Parameters
    ----------
    preset
        Size of the model.
    precision
        ``fp32`` or ``bf16`` (autocast).
    batch, accumulation
        Clips of a micro-batch, micro-batches of a step.
    device
        Where it trains.
    """

    def __init__(
        self, preset: str, precision: str, batch: int, accumulation: int, device: str
    ) -> None:
        from transformers import EncodecConfig, EncodecModel

        torch.manual_seed(0)
        backbone = Mert.model_validate({"attention": "eager"})
        config = backbone.preset(preset)
        self.model: Any = backbone.build(config, None, training=True, device=device, seed=0)
        width = int(config["hidden_size"])
        self.final_proj = nn.Linear(width, CODEBOOKS * FINAL_SIZE).to(device)
        self.label_embs = nn.Parameter(torch.rand(CODEBOOKS, ROWS, FINAL_SIZE, device=device))
        self.cqt_head = nn.Linear(width, BINS).to(device)
        self.encodec: Any = EncodecModel(EncodecConfig()).eval().requires_grad_(False).to(device)
        self.cqt = stock_cqt(device)
        self.parameters = [
            *self.model.parameters(),
            *self.final_proj.parameters(),
            self.label_embs,
            *self.cqt_head.parameters(),
        ]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=1e-5, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01
        )
        self.bf16 = precision == "bf16"
        self.batch, self.accumulation, self.device = batch, accumulation, device
        self.generator = np.random.default_rng(0)

    def step(self) -> dict[str, float]:
        """Do an optimiser step; return its seconds, and the work of it, EnCodec and the CQT."""
        start, begun = time.perf_counter(), worked(self.device)
        spent = {"encodec": 0.0, "cqt": 0.0}
        self.optimizer.zero_grad()
        for _ in range(self.accumulation):
            clean = 0.1 * torch.randn(self.batch, SAMPLES)
            wave, mask = mix(clean, self.generator), fairseq_mask(self.batch, 374, self.generator)
            wave, mask, clean = (each.to(self.device) for each in (wave, mask, clean))
            codes = self._timed(spent, "encodec", lambda clean=clean: self._codes(clean))
            cqt = self._timed(spent, "cqt", lambda clean=clean: self.cqt(clean))
            with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
                loss = self._loss(wave, mask, codes[:, :374], cqt[:, :374])
            (loss / self.accumulation).backward()
        nn.utils.clip_grad_norm_(self.parameters, 10.0)
        self.optimizer.step()
        self._wait()
        work = worked(self.device) - begun
        return {"seconds": time.perf_counter() - start, "work": work, **spent}

    def _loss(
        self, wave: torch.Tensor, mask: torch.Tensor, codes: torch.Tensor, cqt: torch.Tensor
    ) -> torch.Tensor:
        features = self.model.feature_extractor(wave)
        features = 0.1 * features + 0.9 * features.detach()
        penalty = features.float().square().mean()
        hidden = self.model.feature_projection(features.transpose(1, 2))
        hidden = torch.where(mask[..., None], self.model.masked_spec_embed.to(hidden.dtype), hidden)
        masked = self.model.encoder(hidden).last_hidden_state[mask]
        projected, loss = self.final_proj(masked).float().chunk(CODEBOOKS, dim=-1), 10.0 * penalty
        for k in range(CODEBOOKS):
            keys = functional.normalize(self.label_embs[k], dim=-1)
            logits = functional.normalize(projected[k], dim=-1) @ keys.T / 0.1
            loss = loss + functional.cross_entropy(logits.float(), codes[..., k][mask])
        return loss + functional.mse_loss(self.cqt_head(masked).float(), cqt[mask])

    @torch.no_grad()
    def _codes(self, clean: torch.Tensor) -> torch.Tensor:
        return self.encodec.encode(clean[:, None], bandwidth=6.0).audio_codes[0].transpose(1, 2)

    def _timed(self, spent: dict[str, float], name: str, work: Any) -> torch.Tensor:
        self._wait()
        start = worked(self.device)
        result: torch.Tensor = work()
        self._wait()
        spent[name] += worked(self.device) - start
        return result

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def worked(device: str) -> float:
    """Return CPU seconds of this process over all threads, or seconds where a GPU works."""
    return time.process_time() if device == "cpu" else time.perf_counter()


def stock_cqt(device: str) -> Any:
    """Return nnAudio's CQT1992v2 where it is installed, else the same convolutions."""
    try:
        from nnAudio.features import CQT1992v2
    except ImportError:
        return _ConvolvedCqt(device)
    layer = CQT1992v2(
        sr=SAMPLE_RATE_HZ,
        hop_length=HOP_LENGTH,
        fmin=LOWEST_HZ,
        n_bins=BINS,
        bins_per_octave=BINS_PER_OCTAVE,
        output_format="Magnitude",
        verbose=False,
    ).to(device)
    return lambda wave: layer(wave).transpose(1, 2)


class _ConvolvedCqt:
    """Two convolutions with kernels as long as the lowest bin's, padded to a power of two."""

    def __init__(self, device: str) -> None:
        quality = 1.0 / (2.0 ** (1.0 / BINS_PER_OCTAVE) - 1.0)
        frequencies = LOWEST_HZ * 2.0 ** (np.arange(BINS) / BINS_PER_OCTAVE)
        lengths = np.ceil(quality * SAMPLE_RATE_HZ / frequencies).astype(int)
        kernels = np.zeros((BINS, LONGEST_KERNEL), dtype=np.complex64)
        for k, (frequency, length) in enumerate(zip(frequencies, lengths, strict=True)):
            start = (LONGEST_KERNEL - length) // 2
            time_s = (np.arange(length) - (length - 1) // 2) / SAMPLE_RATE_HZ
            window = np.hanning(length + 1)[:-1]
            tone = window / window.sum() * np.exp(2j * np.pi * frequency * time_s)
            kernels[k, start : start + length] = tone * np.sqrt(length)
        self.real, self.imag = (
            torch.from_numpy(np.ascontiguousarray(part))[:, None].to(device)
            for part in (kernels.real, kernels.imag)
        )

    @torch.no_grad()
    def __call__(self, wave: torch.Tensor) -> torch.Tensor:
        half = LONGEST_KERNEL // 2
        padded = functional.pad(wave[:, None], (half, half), mode="reflect")
        real, imag = (
            functional.conv1d(padded, part, stride=HOP_LENGTH) for part in (self.real, self.imag)
        )
        return (real.square() + imag.square()).sqrt().transpose(1, 2)


def fairseq_mask(rows: int, frames: int, generator: np.random.Generator) -> torch.Tensor:
    """Return fairseq's masks: probability 0.8, spans of 5, rows trimmed to the smallest count."""
    masked = []
    for _ in range(rows):
        spans = int(0.8 * frames / 5 + generator.random())
        starts = generator.choice(frames - 5, spans, replace=False)
        masked.append(np.unique([start + offset for start in starts for offset in range(5)]))
    least = min(map(len, masked))
    mask = torch.zeros(rows, frames, dtype=torch.bool)
    for row, indices in enumerate(masked):
        mask[row, generator.choice(indices, least, replace=False)] = True
    return mask


def mix(clean: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Return the clips with pieces of each other added, half of them."""
    mixed = clean.clone()
    for clip in range(len(clean)):
        if generator.random() < 0.5:
            continue
        others = torch.cat([clean[:clip], clean[clip + 1 :]]).flatten()
        for _ in range(generator.integers(1, 4)):
            length = generator.integers(12_000, 24_001)
            source = generator.integers(0, len(others) - length)
            place = generator.integers(0, SAMPLES - length)
            mixed[clip, place : place + length] += others[source : source + length]
    return mixed


def forward_flops(preset: str) -> float:
    """Return the FLOPs of the matrix products of one clip's forward pass, heads left out."""
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import HubertModel

    from mergekit_audio.backbones._hubert import hubert_config

    settings = hubert_config(
        Mert().preset(preset),
        attention="eager",
        sample_rate_hz=SAMPLE_RATE_HZ,
        hop_length=HOP_LENGTH,
        receptive_field=400,
    )
    with torch.device("meta"):
        model = HubertModel(settings).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, SAMPLES))
    return float(counter.get_total_flops())
