"""Train a model in shards (FSDP2): each process holds a part of weights, gradients and moments."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from mergekit_audio.pretrain.objective import PretrainModel, device_name
from mergekit_audio.pretrain.saving import WEIGHTS_NAME, explain_damage, read_state


class LayersInStep:
    """Lets each process drop layers of its own while all of them exchange every layer's weights.

    A process that left out a layer would not take part in gathering its weights, and the others
    would wait for ever. So a dropped layer sees one frame of one clip, nothing of which reaches
    what follows: numbers, random states and gradients are those of a layer that was left out.

    Parameters
    ----------
    model
        The model before it is cut into shards; its layers are changed in place.
    """

    def __init__(self, model: PretrainModel) -> None:
        encoder = model.backbone.encoder
        self.encoder = encoder
        self.share = float(encoder.config.layerdrop)
        self.runs = [0] * len(encoder.layers)
        encoder.config = copy.copy(encoder.config)
        encoder.config.layerdrop = 0.0
        for place, layer in enumerate(encoder.layers):
            layer.forward = partial(self._forward, place, layer.forward)

    def forget_dropped(self, total: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Take the gradients from layers that no process ran since the last call.

        AdamW then leaves them as they are, as it does in a single process.

        Parameters
        ----------
        total
            Adds a tensor up over the processes.
        """
        if self.share == 0:
            return
        device = next(self.encoder.parameters()).device
        runs = total(torch.tensor(self.runs, dtype=torch.int64, device=device)).tolist()
        self.runs = [0] * len(self.runs)
        for count, layer in zip(runs, self.encoder.layers, strict=True):
            if count == 0:
                layer.zero_grad(set_to_none=True)

    def _forward(
        self, place: int, forward: Callable[..., Any], hidden: torch.Tensor, **named: Any
    ) -> Any:
        drops = self.encoder.training and self.share > 0
        if not drops or float(torch.rand([])) >= self.share:
            self.runs[place] += 1
            return forward(hidden, **named)
        with torch.random.fork_rng(devices=[hidden.device] if hidden.is_cuda else []):
            seen = forward(hidden[:1, :1])
        return _Unchanged.apply(hidden, seen)  # type: ignore[no-untyped-call]


class _Unchanged(torch.autograd.Function):
    """The first tensor; the second gets a gradient of zeros."""

    @staticmethod
    def forward(context: Any, values: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        context.seen = (seen.shape, seen.dtype)
        return values.clone()  # FSDP's hooks want no view

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shape, dtype = context.seen
        return gradients[0], torch.zeros(shape, dtype=dtype, device=gradients[0].device)


def shard(model: PretrainModel, count: int) -> None:
    """Cut a model into shards in place; every layer of the encoder is gathered on its own.

    Names of parameters stay as they are. Weights travel and gradients are added up in float32.

    Parameters
    ----------
    count
        The processes.
    """
    mesh = init_device_mesh(device_name(), (count,))
    for layer in model.backbone.encoder.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    model._is_fsdp_managed_module = True  # type: ignore[assignment]  # read by Trainer


@contextlib.contextmanager
def gradients_kept(model: Any) -> Iterator[None]:
    """Add up gradients in each process; only the last micro-batch of a window sends them."""
    model.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        model.set_requires_gradient_sync(True)


def gathered_states(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the whole states of model and AdamW on the CPU, in the main process; else empty.

    All processes have to call this. AdamW's state goes by the names of parameters.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = get_model_state_dict(model, options=options)
    return dict(weights), get_optimizer_state_dict(model, optimizer, options=options)


def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """Give each process its shards of a checkpoint's weights.

    Raises
    ------
    InputError
        The file is missing or damaged.
    """
    path = checkpoint / WEIGHTS_NAME
    with explain_damage(path):
        state = safetensors.torch.load_file(path, device="cpu")
    set_model_state_dict(model, state, options=StateDictOptions(full_state_dict=True))


def load_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Path) -> None:
    """Give each process its shards of a checkpoint's moments.

    Raises
    ------
    InputError
        The file is missing or damaged.
    """
    state = read_state(checkpoint, "optimizer")
    options = StateDictOptions(full_state_dict=True)
    set_optimizer_state_dict(model, optimizer, state, options=options)


def make_whole(model: nn.Module, *, keeps: bool) -> None:
    """Put whole parameters in the place of shards, on the CPU, where a process ``keeps`` them.

    All processes have to call this, after the last step.
    """
    for name, shard in list(model.named_parameters()):
        assert isinstance(shard, DTensor)
        whole = shard.full_tensor().detach()
        if keeps:
            owner, _, own = name.rpartition(".")
            parameter = nn.Parameter(whole.cpu(), requires_grad=shard.requires_grad)
            model.get_submodule(owner)._parameters[own] = parameter
