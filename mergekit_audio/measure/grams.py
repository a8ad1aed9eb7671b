"""Gram matrices of what goes into linear layers, added up in float64 while clips pass through."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mergekit_audio.measure.encoder import linears_by_weight
from mergekit_audio.measure.sound import Sound
from mergekit_audio.progress import Progress, ProgressEvent

Grams = dict[str, npt.NDArray[np.float32]]


def gram_matrices(model: nn.Module, sound: Sound, batch_size: int, progress: Progress) -> Grams:
    """Return G = XᵀX / n of every linear layer's inputs by the name of its weight.

    X ``[n, in]`` are the inputs at all frames of all clips, as the model itself computes them.

    Parameters
    ----------
    model
        In evaluation mode.
    sound
        The clips.
    batch_size
        Clips of a forward pass.
    progress
        Told of every batch.

    References
    ----------
    arXiv 2212.09849, section 3.
    """
    device = next(model.parameters()).device
    done = 0
    with torch.no_grad(), GramCollector(linears_by_weight(model)) as collector:
        for waves in sound.batches(batch_size):
            progress(ProgressEvent("gram", done, len(sound.clips)))
            model(torch.from_numpy(waves).to(device))
            done += len(waves)
    progress(ProgressEvent("gram", done, len(sound.clips)))
    return collector.grams()


class GramCollector:
    """Adds up XᵀX of the inputs of linear layers while the ``with`` block runs them.

    Layers that get the very same input (queries, keys and values) share one sum.

    Parameters
    ----------
    linears
        The layers by name.
    """

    def __init__(self, linears: Mapping[str, nn.Linear]) -> None:
        self._linears = dict(linears)
        self._handles: list[Any] = []
        self._last: tuple[torch.Tensor, str] | None = None
        self._leaders: dict[str, str] = {}
        self._sums: dict[str, torch.Tensor] = {}
        self._rows: dict[str, int] = {}

    def __enter__(self) -> GramCollector:
        """Begin to listen."""
        for name, linear in self._linears.items():
            self._handles.append(linear.register_forward_pre_hook(self._hook(name)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Listen no more."""
        for handle in self._handles:
            handle.remove()
        self._last = None

    def grams(self) -> Grams:
        """Return G = XᵀX / n, float32 ``[in, in]``, by name; of layers that ran, sorted."""
        return {
            name: (self._sums[leader] / self._rows[leader]).float().cpu().numpy()
            for name, leader in sorted(self._leaders.items())
        }

    def _hook(self, name: str) -> Any:
        def listen(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
            given = arguments[0]
            leader = self._last[1] if self._last and self._last[0] is given else name
            assert self._leaders.setdefault(name, leader) == leader, "inputs are shared or not"
            self._last = (given, leader)
            if leader != name:
                return
            rows = given.detach().reshape(-1, given.shape[-1]).double()
            product = rows.T @ rows
            self._sums[name] = self._sums[name] + product if name in self._sums else product
            self._rows[name] = self._rows.get(name, 0) + rows.shape[0]

        return listen
