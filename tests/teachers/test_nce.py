"""The NCE loss of several codebooks against NumPy in float64 and against fairseq's own way."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from mergekit_audio.teachers._nce import CodebookHead, codebook_loss

HIDDEN, CODEBOOKS, ROWS, FINAL, FRAMES, TEMPERATURE = 24, 3, 11, 7, 40, 0.1


@pytest.fixture
def head():
    torch.manual_seed(0)
    return CodebookHead(HIDDEN, CODEBOOKS, ROWS, FINAL)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    frames = torch.randn(FRAMES, HIDDEN, generator=generator)
    codes = torch.randint(ROWS, (FRAMES, CODEBOOKS), generator=generator)
    return frames, codes


def numpy_loss(head, frames, codes):
    """Frame by frame and codebook by codebook, as the paper writes it."""
    weight, bias, embeddings = (
        value.detach().double().numpy()
        for value in (head.final_proj.weight, head.final_proj.bias, head.label_embs)
    )
    entropy, right = np.zeros(CODEBOOKS), np.zeros(CODEBOOKS)
    for frame, labels in zip(frames.double().numpy(), codes.numpy(), strict=True):
        projected = weight @ frame + bias
        for k, label in enumerate(labels):
            query = projected[k * FINAL : (k + 1) * FINAL]
            scores = np.array(
                [
                    query @ key / (np.linalg.norm(query) * np.linalg.norm(key)) / TEMPERATURE
                    for key in embeddings[k]
                ]
            )
            entropy[k] -= scores[label] - np.log(np.exp(scores).sum())
            right[k] += scores.argmax() == label
    return entropy, right


def fairseq_loss(head, frames, codes):
    """The positive code before all codes, its duplicate at -inf, cross-entropy with class 0."""
    total = torch.zeros(())
    concat = head.label_embs.flatten(0, 1)  # fairseq's label_embs_concat
    for k, (projected, embeddings) in enumerate(
        zip(head.final_proj(frames).chunk(CODEBOOKS, dim=-1), concat.split(ROWS), strict=True)
    ):
        positive = embeddings.index_select(0, codes[:, k])
        negatives = embeddings.unsqueeze(1).expand(-1, FRAMES, -1)
        same = (positive == negatives).all(-1)
        candidates = torch.cat([positive.unsqueeze(0), negatives])
        logits = torch.cosine_similarity(projected, candidates, dim=-1) / TEMPERATURE
        logits[1:][same] = float("-inf")
        target = torch.zeros(FRAMES, dtype=torch.int64)
        total = total + functional.cross_entropy(logits.T, target, reduction="sum")
    return total


def test_the_loss_is_the_formula(head, batch):
    entropy, right = numpy_loss(head, *batch)
    loss, sums = codebook_loss(head, *batch, TEMPERATURE)
    assert loss.item() == pytest.approx(entropy.sum(), rel=1e-6)
    for k in range(CODEBOOKS):
        assert sums[f"cross_entropy_{k}"].item() == pytest.approx(entropy[k], rel=1e-6)
        assert sums[f"accuracy_{k}"].item() == right[k]
    assert sorted(sums) == sorted(
        f"{name}_{k}" for name in ("accuracy", "cross_entropy") for k in range(CODEBOOKS)
    )


def test_loss_and_gradients_are_those_of_fairseq(head, batch):
    expected = torch.autograd.grad(fairseq_loss(head, *batch), list(head.parameters()))
    found = torch.autograd.grad(
        codebook_loss(head, *batch, TEMPERATURE)[0], list(head.parameters())
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        codebook_loss(head, *batch, TEMPERATURE)[0], fairseq_loss(head, *batch), rtol=1e-6, atol=0
    )


def test_one_codebook_does_not_touch_another(head, batch):
    _, sums = codebook_loss(head, *batch, TEMPERATURE)
    gradient = torch.autograd.grad(
        codebook_loss(head, batch[0], batch[1], TEMPERATURE)[0], head.label_embs
    )[0]
    assert all(bool(gradient[k].any()) for k in range(CODEBOOKS))
    changed = batch[1].clone()
    changed[:, 1] = (changed[:, 1] + 1) % ROWS
    _, again = codebook_loss(head, batch[0], changed, TEMPERATURE)
    assert again["cross_entropy_0"] == sums["cross_entropy_0"]
    assert again["cross_entropy_1"] != sums["cross_entropy_1"]


def test_names_and_shapes_of_the_head(head):
    assert {name: tuple(p.shape) for name, p in head.named_parameters()} == {
        "final_proj.weight": (CODEBOOKS * FINAL, HIDDEN),
        "final_proj.bias": (CODEBOOKS * FINAL,),
        "label_embs": (CODEBOOKS, ROWS, FINAL),
    }
    # MERT-95M's own: final_proj 768 -> 8 x 64 and 8 x 1,028 rows.
    mert = CodebookHead(768, 8, 1028, 64)
    assert tuple(mert.final_proj.weight.shape) == (512, 768)
    assert mert.label_embs.flatten(0, 1).shape == (8224, 64)


def test_no_masked_frames_and_silent_frames_are_harmless(head):
    loss, sums = codebook_loss(
        head, torch.zeros(0, HIDDEN), torch.zeros(0, CODEBOOKS, dtype=torch.int64), TEMPERATURE
    )
    assert loss.item() == 0.0
    assert all(value.item() == 0.0 for value in sums.values())
    with torch.no_grad():
        head.final_proj.bias.zero_()
    loss, _ = codebook_loss(
        head, torch.zeros(2, HIDDEN), torch.zeros(2, CODEBOOKS, dtype=torch.int64), TEMPERATURE
    )
    loss.backward()
    assert loss.item() == pytest.approx(2 * CODEBOOKS * np.log(ROWS), rel=1e-6)
    assert all(bool(torch.isfinite(p.grad).all()) for p in head.parameters())
