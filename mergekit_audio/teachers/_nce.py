"""Masked prediction of several codebooks: MERT's head, its NCE loss, and teachers that use them."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from mergekit_audio.teachers.base import OpenTeacher

_EPSILON = 1e-8


class CodebookHead(nn.Module):
    """A projection and an embedding of every code, for each of K codebooks.

    fairseq keeps the K embeddings in one tensor ``label_embs_concat``; here they are
    ``label_embs [K, C, F]``, the same numbers in the same order.

    Parameters
    ----------
    hidden_size
        D, the width of the encoder's frames.
    codebooks
        K.
    rows
        C, the embeddings of a codebook.
    final_size
        F, the width in which frames and codes are compared.
    """

    def __init__(self, hidden_size: int, codebooks: int, rows: int, final_size: int) -> None:
        super().__init__()
        self.final_proj = nn.Linear(hidden_size, codebooks * final_size)
        self.label_embs = nn.Parameter(torch.empty(codebooks, rows, final_size).uniform_())

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the cosines ``[K, N, C]`` of frames ``[N, D]`` with every code, in float32."""
        codebooks, _, final_size = self.label_embs.shape
        projected = self.final_proj(frames).float().view(-1, codebooks, final_size)
        queries = functional.normalize(projected, dim=-1, eps=_EPSILON).transpose(0, 1)
        keys = functional.normalize(self.label_embs.float(), dim=-1, eps=_EPSILON)
        return torch.bmm(queries, keys.transpose(1, 2))


def codebook_loss(
    head: nn.Module, frames: torch.Tensor, codes: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return Σ_n Σ_k -log softmax_c(cos(P_k h_n, E_k[c]) / τ)[z_nk], and sums to log.

    fairseq writes the same as the positive code against all other codes of its codebook, summed
    over frames and codebooks.

    Parameters
    ----------
    head
        A :class:`CodebookHead`.
    frames
        h, the encoder's outputs at N masked frames, shape ``[N, D]``.
    codes
        z, rows of the embeddings, shape ``[N, K]``, int64.
    temperature
        τ, above 0.

    Returns
    -------
    tuple
        The loss, shape ``[]``, and by name the sums over frames of the cross-entropy
        (``cross_entropy_k``, nats) and of right answers (``accuracy_k``) of codebook k.

    References
    ----------
    arXiv 2306.00107, equation 2; fairseq's ``hubert_criterion`` and MERT's ``mert_model``.
    """
    logits = head(frames) / temperature
    targets = codes.transpose(0, 1)
    each = functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction="none"
    ).view_as(targets)
    by_codebook = each.sum(dim=1)
    right = (logits.detach().argmax(dim=-1) == targets).float().sum(dim=1)
    sums = {f"cross_entropy_{k}": value for k, value in enumerate(by_codebook.detach())}
    sums |= {f"accuracy_{k}": value for k, value in enumerate(right)}
    return by_codebook.sum(), sums


class OpenCodebookTeacher(OpenTeacher):
    """A teacher whose targets are codes ``[B, T, K]``; subclasses make them.

    Parameters
    ----------
    codebooks, rows, final_size
        The head's K, C and F.
    temperature
        The NCE loss's τ.
    """

    def __init__(self, codebooks: int, rows: int, final_size: int, temperature: float) -> None:
        self.codebooks = codebooks
        self.rows = rows
        self.final_size = final_size
        self.temperature = temperature

    def head(self, hidden_size: int) -> nn.Module:
        """Return a new head with ``final_proj.weight``, ``final_proj.bias``, ``label_embs``."""
        return CodebookHead(hidden_size, self.codebooks, self.rows, self.final_size)

    def loss(
        self, head: nn.Module, frames: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return :func:`codebook_loss` at the teacher's temperature."""
        return codebook_loss(head, frames, target, self.temperature)
