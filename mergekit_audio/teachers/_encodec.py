"""Load a frozen EnCodec strictly, and give recordings its codes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from mergekit_audio.errors import InputError
from mergekit_audio.teachers._digest import teacher_digest
from mergekit_audio.teachers._frames import HOP_LENGTH, SAMPLE_RATE_HZ, frame_count
from mergekit_audio.teachers._nce import OpenCodebookTeacher
from mergekit_audio.weights.hub import resolve

_HINT = "use facebook/encodec_24khz, or a folder saved by EncodecModel.save_pretrained"
# Settings that change codes without changing names or shapes of tensors.
_DECIDING = (
    "compress",
    "dilation_growth_rate",
    "norm_type",
    "pad_mode",
    "upsampling_ratios",
    "use_causal_conv",
    "use_conv_shortcut",
)


class OpenEncodec(OpenCodebookTeacher):
    """A frozen EnCodec ready to work.

    Parameters
    ----------
    source, root
        A folder relative to ``root``, or a hub repo id.
    codebooks
        K, the first of its residual codebooks.
    final_size, temperature
        The head's width and the NCE loss's τ.
    special_rows
        Rows of the head's embeddings before that of code 0; targets are shifted by it.
    device
        Where it computes.

    Raises
    ------
    InputError
        The codec is missing, damaged, of another rate, or has fewer codebooks.
    """

    def __init__(
        self,
        source: str,
        root: Path,
        *,
        codebooks: int,
        final_size: int,
        temperature: float,
        special_rows: int,
        device: str,
    ) -> None:
        model = _load(resolve(source, root), source)
        self.bandwidth = _bandwidth(model, codebooks, source)
        super().__init__(
            codebooks, int(model.config.codebook_size) + special_rows, final_size, temperature
        )
        self.special_rows = special_rows
        self.digest = teacher_digest(
            {
                "teacher": "encodec",
                "codebooks": codebooks,
                "special_rows": special_rows,
                "config": {key: getattr(model.config, key) for key in _DECIDING},
            },
            model.state_dict(),
        )
        self.model: Any = model.to(device).eval().requires_grad_(False)
        self.device = device

    @torch.no_grad()
    def targets(self, wave: torch.Tensor) -> torch.Tensor:
        """Return the codes ``[B, T, K]`` of waveforms ``[B, S]``.

        EnCodec makes ⌈S / 320⌉ causal frames; the first T = 1 + (S - 400) // 320 are kept.
        """
        frames = frame_count(wave.shape[-1])
        wave = wave.to(device=self.device, dtype=torch.float32).unsqueeze(1)
        # The default bandwidth is the lowest, 1.5 kbps with 2 codebooks: it must be named.
        with _whole_float32(self.device):
            codes: torch.Tensor = self.model.encode(wave, bandwidth=self.bandwidth).audio_codes
        return codes[0, :, : self.codebooks, :frames].transpose(1, 2) + self.special_rows


@contextlib.contextmanager
def _whole_float32(device: str) -> Iterator[None]:
    """Keep a GPU from rounding to TF32, whose 10 bits change codes."""
    if device == "cpu":
        yield
        return
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    ):
        yield


def _load(folder: Path, source: str) -> Any:
    from transformers import EncodecConfig, EncodecModel

    try:
        with _quiet_transformers():
            config = EncodecConfig.from_pretrained(folder, local_files_only=True)
            _require_rates(config, source)
            model, report = EncodecModel.from_pretrained(
                folder, config=config, output_loading_info=True, local_files_only=True
            )
    except InputError:
        raise
    except Exception as error:  # transformers raises many kinds for a damaged folder
        raise InputError(f"{source}: can't load an EnCodec model: {error}", _HINT) from error
    faults = [
        f"{kind.replace('_', ' ')}: {', '.join(sorted(map(str, report[kind])))}"
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
        if report.get(kind)
    ]
    if faults:
        raise InputError(
            f"{source}: the weights do not fit EncodecModel:\n"
            + "\n".join(f"  {fault}" for fault in faults),
            _HINT,
        )
    return model


def _require_rates(config: Any, source: str) -> None:
    expected = (SAMPLE_RATE_HZ, HOP_LENGTH, 1, False, None)
    found = (
        config.sampling_rate,
        config.hop_length,
        config.audio_channels,
        config.normalize,
        config.chunk_length_s,
    )
    if found != expected:
        raise InputError(
            f"{source}: (sampling_rate, hop length, audio_channels, normalize, chunk_length_s) is "
            f"{found}, expected {expected}",
            "take the 24-kHz model, facebook/encodec_24khz; the 48-kHz one has other frames",
        )


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Show no bar and no report of names: what is wrong is raised, and engines do not print."""
    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()


def _bandwidth(model: Any, codebooks: int, source: str) -> float:
    """Return the lowest bandwidth that has ``codebooks`` codebooks; more of them are cut off."""
    counts = {
        float(bandwidth): min(
            model.quantizer.get_num_quantizers_for_bandwidth(bandwidth),
            model.config.num_quantizers,
        )
        for bandwidth in sorted(model.config.target_bandwidths)
    }
    for bandwidth, count in counts.items():
        if count >= codebooks:
            return bandwidth
    raise InputError(
        f"{source}: has {max(counts.values())} codebooks, the recipe asks for {codebooks}",
        "lower codebooks",
    )
