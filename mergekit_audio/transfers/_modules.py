"""What transfers do to a model's modules: freeze, swap linear maps, fold them back."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from mergekit_audio.transfers._names import is_encoder, is_layer_linear


class FoldedLinear(nn.Module, ABC):
    """A linear map with something trained on top that folds into its weight and bias.

    Weight and bias keep their names in the model; they are frozen.
    """

    def __init__(self, linear: Any) -> None:
        super().__init__()
        self.weight: torch.Tensor = linear.weight
        self.bias: torch.Tensor = linear.bias

    @abstractmethod
    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the weight and bias of the plain linear map that computes the same."""

    def added_names(self) -> tuple[str, ...]:
        """Return the names of the parameters that are not the plain map's."""
        return tuple(name for name, _ in self.named_parameters(recurse=False) if name not in _PLAIN)


_PLAIN = ("weight", "bias")


def train_only(model: nn.Module, names: Iterable[str]) -> None:
    """Let exactly these parameters have gradients."""
    chosen = set(names)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)


def freeze_encoder(model: nn.Module, trainable: Sequence[str]) -> None:
    """Let the named parameters train that are not the encoder's, and nothing else."""
    train_only(model, (name for name in trainable if not is_encoder(name)))


def train_named(model: nn.Module, names: Iterable[str]) -> None:
    """Let these parameters train too."""
    chosen = set(names)
    for name, parameter in model.named_parameters():
        if name in chosen:
            parameter.requires_grad_(True)


def swap_linears(
    model: nn.Module,
    trainable: Sequence[str],
    make: Callable[[Any, torch.Generator], nn.Module],
    seed: int,
) -> None:
    """Put ``make(linear, generator)`` in the place of each layer's linear map that may change.

    The generator of a map depends on ``seed`` and the map's name alone. Where something was put
    before, it is put anew on the map itself.
    """
    for name in trainable:
        if is_layer_linear(name, "weight"):
            path = name.removesuffix(".weight")
            parent = model.get_submodule(path.rpartition(".")[0])
            linear = model.get_submodule(path)
            made = make(linear, generator_of(seed, path)).train(linear.training)
            setattr(parent, path.rpartition(".")[2], made)


def folded_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state dict of the plain model that computes the same, on the CPU.

    Sums and products are taken in float64 and rounded once to the weights' own dtype.
    """
    state = {name: each.detach().cpu() for name, each in model.state_dict().items()}
    for path, module in model.named_modules():
        if isinstance(module, FoldedLinear):
            dot = f"{path}." if path else ""
            for name in module.added_names():
                del state[dot + name]
            for name, value in zip(_PLAIN, module.folded(), strict=True):
                state[dot + name] = value.detach().to(state[dot + name].dtype).cpu()
    return state


def generator_of(seed: int, name: str) -> torch.Generator:
    """Return the random numbers of one added part, the same wherever the encoder stands."""
    digest = hashlib.sha256(f"transfer/{seed}/{name.removeprefix('backbone.')}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def drawn_uniform(
    shape: Sequence[int], inputs: int, like: torch.Tensor, generator: torch.Generator
) -> nn.Parameter:
    """Return values uniform in ±1/√inputs: Kaiming's with a = √5, as ``nn.Linear`` draws them."""
    bound = 1.0 / math.sqrt(inputs)
    return nn.Parameter(
        torch.empty(tuple(shape)).uniform_(-bound, bound, generator=generator).to(like)
    )


def drawn_normal(
    shape: Sequence[int], mean: float, std: float, like: torch.Tensor, generator: torch.Generator
) -> nn.Parameter:
    """Return values of N(mean, std²)."""
    return nn.Parameter(torch.empty(tuple(shape)).normal_(mean, std, generator=generator).to(like))


def zeros(shape: Sequence[int], like: torch.Tensor) -> nn.Parameter:
    """Return zeros where ``like`` lives."""
    return nn.Parameter(torch.zeros(tuple(shape)).to(like))
