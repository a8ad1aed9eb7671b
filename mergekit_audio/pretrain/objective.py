"""The pre-training model and its loss: an encoder, a head for each teacher, masked prediction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mergekit_audio.backbones._front import front_frames
from mergekit_audio.errors import InputError
from mergekit_audio.recipe.train import TrainRecipe
from mergekit_audio.teachers.base import OpenTeacher
from mergekit_audio.weights.keys import canonical_name

MASK_VECTOR = "masked_spec_embed"


@dataclass(frozen=True)
class TeacherLoss:
    """One teacher's loss of a micro-batch, summed over masked frames, and sums to log."""

    total: torch.Tensor
    sums: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Objective:
    """The parts of a micro-batch's loss before they are divided by the window's masked frames."""

    teachers: dict[str, TeacherLoss]
    penalty: torch.Tensor
    masked_frames: int

    def loss(
        self, weights: Mapping[str, float], feature_penalty: float, window_frames: float
    ) -> torch.Tensor:
        """Return (Σ_teachers weight · total + feature_penalty · penalty · m) / M.

        m are the masked frames of this micro-batch and M those of the whole accumulation window, so
        that the micro-batches of a window add up to fairseq's loss of the window.
        """
        total = feature_penalty * self.penalty * self.masked_frames
        for name, part in self.teachers.items():
            total = total + weights[name] * part.total
        return total / window_frames


class PretrainModel(nn.Module):
    """HuBERT's parts called one by one, with MERT's feature penalty, mask and heads.

    wave → convolutional front → gradient × ``feature_grad_mult`` → penalty (mean square) →
    projection → mask vector at masked frames → encoder → heads at masked frames.

    Parameters
    ----------
    backbone
        A ``transformers.HubertModel`` (or one with the same parts) that has a mask vector.
    heads
        A head for each teacher.
    teachers
        The open teachers, by name; they hold no parameters that train.
    feature_grad_mult
        Factor of the gradient that flows into the convolutional front.
    eval_when_frozen
        Keep parts without trainable parameters in evaluation mode (no dropout, no layerdrop).

    Raises
    ------
    InputError
        The backbone has no mask vector (``masked_spec_embed``).
    """

    # Read by transformers' Trainer: the loss it gets is already divided by the window's frames.
    accepts_loss_kwargs = True

    def __init__(
        self,
        backbone: nn.Module,
        heads: Mapping[str, nn.Module],
        teachers: Mapping[str, OpenTeacher],
        *,
        feature_grad_mult: float,
        eval_when_frozen: bool = True,
    ) -> None:
        super().__init__()
        require_mask_vector(dict(backbone.named_parameters()))
        self.backbone: Any = backbone
        self.heads = nn.ModuleDict(dict(heads))
        self.teachers = dict(teachers)
        self.feature_grad_mult = feature_grad_mult
        self.eval_when_frozen = eval_when_frozen
        self._settled = False

    def forward(
        self,
        wave: torch.Tensor,
        mask: torch.Tensor,
        targets: Mapping[str, torch.Tensor],
    ) -> Objective:
        """Return the loss's parts of waveforms ``[B, S]`` masked at ``mask`` ``[B, T]``."""
        frames, penalty = self.encode(wave, mask)
        masked = frames[mask]
        parts = {}
        with torch.autocast(wave.device.type, enabled=False):
            for name, teacher in self.teachers.items():
                target = targets[name][:, : mask.shape[1]][mask]
                total, sums = teacher.loss(self.heads[name], masked.float(), target)
                parts[name] = TeacherLoss(total, sums)
        return Objective(parts, penalty, int(masked.shape[0]))

    def encode(
        self, wave: torch.Tensor, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the encoder's frames ``[B, T, D]`` and the mean square of the front's features."""
        front = self.backbone.feature_extractor
        learns = self.feature_grad_mult > 0 and any(p.requires_grad for p in front.parameters())
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            features = front_frames(front, wave)
        if learns and self.feature_grad_mult != 1.0:
            features = scale_gradient(features, self.feature_grad_mult)
        penalty = features.float().square().mean()
        hidden = self.backbone.feature_projection(features)
        if mask is not None:
            vector = self.backbone.masked_spec_embed.to(hidden.dtype)
            hidden = torch.where(mask.unsqueeze(-1), vector, hidden)
        return self.backbone.encoder(hidden)[0], penalty

    def train(self, mode: bool = True) -> PretrainModel:
        """Switch to training mode, leaving wholly frozen parts in evaluation mode if so set.

        Which parts rest is decided when training mode begins; asking for it again costs nothing.
        """
        if mode and self._settled and self.training:
            return self
        super().train(mode)
        if mode and self.eval_when_frozen:
            _rest_frozen_parts(self)
        self._settled = mode
        return self


def prepare_layers(model: PretrainModel, *, checkpointing: bool, compiling: bool) -> None:
    """Let the encoder's layers be compiled, and computed again on the way back, if so asked.

    transformers' own checkpointing leaves out layers in evaluation mode, through which gradients
    still flow when only the front trains. Layer by layer, compiling takes seconds and breaks no
    graph (layer drop is decided outside of them). Names of parameters stay as they are.
    """
    for layer in model.backbone.encoder.layers:
        if compiling:
            layer.forward = torch.compile(layer.forward, fullgraph=True)
        if checkpointing:
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


def device_name() -> str:
    """Return where training happens: the first CUDA GPU, or the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def require_mask_vector(names: Iterable[str]) -> None:
    """Raise ``InputError`` when a backbone's parameters have no mask vector."""
    if MASK_VECTOR not in names:
        raise InputError(
            f"the base has no mask vector ({MASK_VECTOR}), so masked prediction can't train it",
            "its config.json needs mask_time_prob above 0, as MERT's has",
        )


def public_names(model: PretrainModel) -> dict[str, str]:
    """Return the names that recipes use by the names of ``model.named_parameters()``.

    The backbone's parameters lose their prefix, weight norms are spelt ``weight_g``/``weight_v``,
    heads are ``heads.<teacher>.<parameter>``.
    """
    return {
        name: canonical_name(name.removeprefix("backbone.")) for name, _ in model.named_parameters()
    }


def teacher_weights(recipe: TrainRecipe) -> dict[str, float]:
    """Return the factor of each teacher's loss by name."""
    return {teacher.name: teacher.weight for teacher in recipe.teachers}


def scale_gradient(values: torch.Tensor, factor: float) -> torch.Tensor:
    """Return ``values`` unchanged; gradients through it are multiplied by ``factor``."""
    scaled = _ScaleGradient.apply(values, factor)  # type: ignore[no-untyped-call]
    return scaled  # type: ignore[no-any-return]


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: torch.Tensor, factor: float) -> torch.Tensor:
        context.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0] * context.factor, None


def _rest_frozen_parts(module: nn.Module) -> None:
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        module.eval()
        return
    for child in module.children():
        _rest_frozen_parts(child)
