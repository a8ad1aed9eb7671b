"""A probe's gradients, written out: in steps so small autograd would be half of the work."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from mergekit_audio.probe.probe_head import ProbeHead

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""``loss(logits [B, outputs], targets [B, ...]) -> []``"""


class ProbeStep:
    """A probe's parameters as one vector, for one call of Adam, and their gradients.

    Parameters
    ----------
    head
        The probe; its parameters become views of ``weights``.
    loss
        Of its logits.

    Attributes
    ----------
    weights
        All parameters in one vector, with a gradient that ``backward`` sets.
    """

    def __init__(self, head: ProbeHead, loss: Loss) -> None:
        self.head, self.loss = head, loss
        parameters = dict(head.named_parameters())
        flat = torch.cat([each.detach().flatten() for each in parameters.values()])
        self.weights = nn.Parameter(flat)
        self.weights.grad = torch.zeros_like(flat)
        self.gradients: dict[str, torch.Tensor] = {}
        sizes = [each.numel() for each in parameters.values()]
        values, slopes = (
            torch.split(self.weights.data, sizes),
            torch.split(self.weights.grad, sizes),
        )
        for (name, parameter), value, slope in zip(parameters.items(), values, slopes, strict=True):
            parameter.data = value.view(parameter.shape)
            self.gradients[name] = slope.view(parameter.shape)

    @torch.no_grad()
    def backward(
        self, features: torch.Tensor, targets: torch.Tensor, dropout: torch.Generator
    ) -> float:
        """Set the gradient for a batch and return its loss.

        With ``h = W₁ x + b₁``, ``d = dropout' relu'(h)``, ``z = W₂ (d h) + b₂`` and the loss's own
        slope ``e = ∂loss / ∂z``: ``∂W₂ = eᵀ (d h)``, ``∂W₁ = (d e W₂)ᵀ x``, the biases' are the
        sums, and of the layers' scores ``∂a = s (g - s·g)`` with ``s = softmax(a)`` and
        ``g_l = Σ (d e W₂ W₁) x_l``.

        Parameters
        ----------
        features
            Shape ``[B, D]``, or ``[B, L, D]`` for a probe of several layers.
        targets
            What the loss takes.
        dropout
            The stream of masks.
        """
        head, gradients = self.head, self.gradients
        inputs = head.mixed(features)
        hidden = nn.functional.linear(inputs, head.hidden_weight, head.hidden_bias)
        slopes = (hidden > 0).to(hidden.dtype)
        if head.keep < 1.0:
            slopes.mul_(head.dropout_mask(hidden, dropout))
        hidden.mul_(slopes)
        logits = nn.functional.linear(hidden, head.output_weight, head.output_bias)
        with torch.enable_grad():
            loss = self.loss(logits.requires_grad_(), targets)
            (errors,) = torch.autograd.grad(loss, logits)
        torch.mm(errors.T, hidden, out=gradients["output_weight"])
        torch.sum(errors, dim=0, out=gradients["output_bias"])
        errors = (errors @ head.output_weight).mul_(slopes)
        torch.mm(errors.T, inputs, out=gradients["hidden_weight"])
        torch.sum(errors, dim=0, out=gradients["hidden_bias"])
        if head.layer_scores is not None:
            of_mixture = (errors @ head.hidden_weight).unsqueeze(2)
            of_layers = torch.bmm(features, of_mixture).sum(dim=0).squeeze(1)
            shares = head.layer_scores.softmax(0)
            gradients["layer_scores"].copy_(shares * (of_layers - shares @ of_layers))
        return loss.item()
