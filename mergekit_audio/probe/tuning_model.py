"""The model that is tuned: an encoder's first layers, a transfer, and a head on the mean frame."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mergekit_audio.backbones.base import Backbone
from mergekit_audio.errors import Fault, RecipeError
from mergekit_audio.probe.tuning_audio import by_length
from mergekit_audio.recipe.tuning import Tuning
from mergekit_audio.transfers.base import Transfer

_LAYER = "encoder.layers."


class TunedModel(nn.Module):
    """``head(mean over time of the last hidden state)``, all in float32 but the encoder's inside.

    Parameters
    ----------
    encoder
        A ``transformers.HubertModel`` with the transfer in it.
    dimension, outputs
        D and the head's outputs.
    tuning
        The head's width and dropout, precision, mode.
    seed
        Draws the head's weights as ``nn.Linear`` does.
    """

    def __init__(
        self, encoder: Any, dimension: int, outputs: int, tuning: Tuning, seed: int
    ) -> None:
        super().__init__()
        self.encoder: Any = encoder
        self.learns = any(each.requires_grad for each in encoder.parameters())
        self.rests = not self.learns and tuning.frozen_mode == "eval"
        self.autocasts = tuning.precision == "bf16"
        hidden = dimension if tuning.hidden_size == "features" else tuning.hidden_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Sequential(
                nn.Linear(dimension, hidden),
                nn.Dropout(tuning.dropout),
                nn.ReLU(),
                nn.Linear(hidden, outputs),
            )
        # transformers would keep the front's activations for gradients that nothing asks for.
        front = encoder.feature_extractor
        front._requires_grad = any(each.requires_grad for each in front.parameters())

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return next(self.head.parameters()).device

    def train(self, mode: bool = True) -> TunedModel:
        """Switch to training mode; an encoder that does not learn rests, if so set."""
        super().train(mode)
        if mode and self.rests:
            self.encoder.eval()
        return self

    def forward(self, waves: Sequence[NDArray[np.float32]]) -> torch.Tensor:
        """Return logits ``[B, outputs]`` of waveforms of any lengths."""
        logits: torch.Tensor = self.head(self.pooled(waves))
        return logits

    def pooled(self, waves: Sequence[NDArray[np.float32]]) -> torch.Tensor:
        """Return the mean over time of the last hidden state, float32 ``[B, D]``."""
        places: list[int] = []
        parts = []
        gradients = torch.is_grad_enabled() and self.learns
        for group, batch in by_length(waves):
            with torch.set_grad_enabled(gradients), self._precision():
                frames = self.encoder(batch.to(self.device)).last_hidden_state
            parts.append(frames.float().mean(dim=1))
            places += group
        back = torch.tensor(np.argsort(places), device=self.device)
        return torch.cat(parts)[back]

    def trained_state(self) -> dict[str, torch.Tensor]:
        """Return a copy on the CPU of every parameter that trains."""
        return {
            name: each.detach().cpu().clone()
            for name, each in self.named_parameters()
            if each.requires_grad
        }

    def load_trained(self, state: Mapping[str, torch.Tensor]) -> None:
        """Set the parameters that train."""
        with torch.no_grad():
            for name, each in self.named_parameters():
                if each.requires_grad:
                    each.copy_(state[name])

    @contextlib.contextmanager
    def _precision(self) -> Iterator[None]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocasts):
            yield


def kept_names(config: Mapping[str, Any], names: Sequence[str], tuning: Tuning) -> list[str]:
    """Return the names of the tensors of the encoder's first layers and what is below them.

    Raises
    ------
    RecipeError
        The encoder has fewer layers than ``tuning.layers``.
    """
    held = int(config["num_hidden_layers"])
    if tuning.layers is None:
        return list(names)
    if tuning.layers > held:
        problem = f"{tuning.layers} layers, but an encoder has {held}"
        raise RecipeError(
            [Fault("", 0, 0, "tuning.layers", problem)], "take fewer, or null for all of them"
        )
    return [
        name
        for name in names
        if not name.startswith(_LAYER)
        or int(name.removeprefix(_LAYER).partition(".")[0]) < tuning.layers
    ]


def build_tuned(
    backbone: Backbone,
    config: Mapping[str, Any],
    state: Mapping[str, torch.Tensor],
    transfer: Transfer,
    tuning: Tuning,
    outputs: int,
    seed: int,
) -> TunedModel:
    """Return the model as its tuning begins, on the GPU if there is one.

    Parameters
    ----------
    backbone, config, state
        The encoder: its family, its ``config.json`` and its weights.
    transfer, tuning
        What trains, and how.
    outputs
        Of the head.
    seed
        Draws what the transfer adds, and the head.
    """
    kept = kept_names(config, list(state), tuning)
    layers = int(config["num_hidden_layers"]) if tuning.layers is None else tuning.layers
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder: Any = backbone.build(
        {**config, "num_hidden_layers": layers},
        {name: state[name] for name in kept},
        training=True,
        device=device,
    )
    names = [name for name, _ in encoder.named_parameters()]
    transfer.prepare(encoder, names, seed=seed)
    dimension = int(config["hidden_size"])
    return TunedModel(encoder, dimension, outputs, tuning, seed).to(device)
