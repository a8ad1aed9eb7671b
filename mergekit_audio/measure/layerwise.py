"""Walk through a merge layer by layer: the Grams of RegMean++, over partly merged encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mergekit_audio.errors import InputError
from mergekit_audio.measure.encoder import linears_by_weight, parameters_by_name
from mergekit_audio.measure.grams import GramCollector, Grams
from mergekit_audio.measure.sound import Sound
from mergekit_audio.methods.base import TensorGroup
from mergekit_audio.methods.regmean_plus_plus import RegmeanPlusPlus
from mergekit_audio.progress import Progress, ProgressEvent

KIND = "gram_merged"
_BLOCKS = "encoder.layers"
_TASK = "gram of merged layers"


def merged_grams(
    base: nn.Module,
    models: Sequence[nn.Module],
    sounds: Sequence[Sound],
    weights: Sequence[float],
    method: RegmeanPlusPlus,
    *,
    batch_size: int,
    progress: Progress,
) -> list[Grams]:
    """Return each model's Grams by weight, the encoder's earlier layers being merged already.

    Layer by layer: every model's clips have come through the merged layers before; model i's own
    layer runs on what reached it from clip set i, and Gᵢ = XᵀX / n of the inputs of each linear
    layer inside it is taken; RegMean merges the layer; the clips pass through the merged one. What
    comes before the first layer is merged first, its linear layers one after the other, and all
    that is not a linear weight is averaged. ``base`` becomes the merged model.

    Between layers the frames of all clips are kept on the CPU: clips · T · D · 4 bytes a model.

    Parameters
    ----------
    base
        The base of the merge; its parameters are replaced.
    models, sounds, weights
        The models, the clips of each, and wᵢ.
    method
        How a layer is merged.
    batch_size
        Clips of a forward pass.
    progress
        Told of every layer and model.

    Raises
    ------
    InputError
        The encoder has no stack of layers.

    References
    ----------
    arXiv 2508.03121: the inputs of layer l are what the merged layer l − 1 gives.
    """
    walk = _Walk(base, models, list(weights), method)
    blocks = walk.blocks(base)
    steps = len(blocks) + 1
    with torch.no_grad():
        for name in walk.outer_linears():
            found = []
            for i, sound in enumerate(sounds):
                progress(ProgressEvent(_TASK, 0, steps, f"{name}, model {i + 1}"))
                found.append(walk.front_gram(name, sound, batch_size))
            walk.merge([name], found)
        entries = [walk.entries(sound, batch_size) for sound in sounds]
        for depth, block in enumerate(blocks):
            prefix = f"{_BLOCKS}.{depth}."
            found = []
            for i, model in enumerate(models):
                progress(ProgressEvent(_TASK, depth + 1, steps, f"layer {depth}, model {i + 1}"))
                own = walk.blocks(model)[depth]
                with GramCollector(linears_by_weight(own, prefix)) as collector:
                    for entry in entries[i]:
                        entry.through(own)
                found.append(collector.grams())
            walk.merge([name for name in walk.names if name.startswith(prefix)], found)
            entries = [[entry.after(block) for entry in each] for each in entries]
    progress(ProgressEvent(_TASK, steps, steps))
    return walk.grams


@dataclass(frozen=True)
class _Entry:
    """What enters a layer for one batch of clips: hidden states on the CPU, and other arguments."""

    hidden: torch.Tensor
    keywords: Mapping[str, Any]

    def through(self, block: nn.Module) -> torch.Tensor:
        """Return what leaves a layer."""
        device = next(block.parameters()).device
        output = block(self.hidden.to(device), **self.keywords)
        hidden: torch.Tensor = output[0] if isinstance(output, tuple) else output
        return hidden

    def after(self, block: nn.Module) -> _Entry:
        """Return what enters the next layer."""
        return _Entry(self.through(block).cpu(), self.keywords)


class _Reached(Exception):  # noqa: N818 - a signal, not an error
    """The forward pass has come to the first layer."""


class _Walk:
    """The partly merged encoder and what was measured so far."""

    def __init__(
        self,
        merged: nn.Module,
        models: Sequence[nn.Module],
        weights: list[float],
        method: RegmeanPlusPlus,
    ) -> None:
        self.merged = merged
        self.targets = parameters_by_name(merged)
        self.sources = [parameters_by_name(model) for model in models]
        self.weights = weights
        self.method = method
        self.names = list(self.targets)
        self.grams: list[Grams] = [{} for _ in models]
        self._front = [name for name in self.names if not name.startswith(f"{_BLOCKS}.")]
        outer = set(self.outer_linears())
        self.merge([name for name in self._front if name not in outer], [{} for _ in models])

    def blocks(self, model: nn.Module) -> list[nn.Module]:
        """Return the encoder's layers."""
        try:
            found = model.get_submodule(_BLOCKS)
        except AttributeError:
            raise InputError(
                f"the encoder has no {_BLOCKS}, the layers that RegMean++ walks through",
                "measure statistics: [gram] and merge with regmean instead",
            ) from None
        assert isinstance(found, nn.ModuleList)
        return list(found)

    def outer_linears(self) -> list[str]:
        """Return the weights of the linear layers before the first layer, in the model's order."""
        front = set(self._front)
        return [name for name in linears_by_weight(self.merged) if name in front]

    def merge(self, names: Sequence[str], found: Sequence[Grams]) -> None:
        """Keep the Grams of all models and put the merged tensors into the merged encoder."""
        for own, new in zip(self.grams, found, strict=True):
            own.update(new)
        for name in names:
            statistics = {}
            if name in found[0]:
                statistics[KIND] = np.stack([_float64(each[name]) for each in found])
            target = self.targets[name]
            group = TensorGroup(
                name=name,
                base=_float64(target),
                models=np.stack([_float64(each[name]) for each in self.sources]),
                weights=tuple(self.weights),
                statistics=statistics,
            )
            value = group.base + self.method.merge_tensor(group)
            target.copy_(torch.from_numpy(np.asarray(value)).to(target.dtype))

    def front_gram(self, name: str, sound: Sound, batch_size: int) -> Grams:
        """Return the Gram of one linear layer before the first layer."""
        linear = linears_by_weight(self.merged)[name]
        with GramCollector({name: linear}) as collector:
            self.entries(sound, batch_size)
        return collector.grams()

    def entries(self, sound: Sound, batch_size: int) -> list[_Entry]:
        """Return what enters the first layer of the merged encoder, batch by batch."""
        device = next(self.merged.parameters()).device
        reached: list[_Entry] = []

        def stop(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            reached.append(_Entry(arguments[0].cpu(), keywords))
            raise _Reached

        handle = self.blocks(self.merged)[0].register_forward_pre_hook(stop, with_kwargs=True)
        try:
            for waves in sound.batches(batch_size):
                try:
                    self.merged(torch.from_numpy(waves).to(device))
                except _Reached:
                    continue
        finally:
            handle.remove()
        return reached


def _float64(values: torch.Tensor | npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values
    return array.astype(np.float64)
