"""A probe is what a plain PyTorch loop makes of the same weights, order and dropout masks."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from mergekit_audio.probe.heads import train_probe
from mergekit_audio.probe.kinds import loss_of
from mergekit_audio.probe.probe_head import ProbeHead, generator_of
from mergekit_audio.recipe.protocols import Protocol

ROWS, WIDTH, LABELS = 90, 12, 4


def problem(layers, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (ROWS, WIDTH) if layers is None else (ROWS, layers, WIDTH)
    features = torch.randn(shape, generator=generator)
    used = features if layers is None else features.mean(dim=1)
    return features, (used[:, :LABELS] > 0).float()


def scripted_scores(count):
    """Validation scores that rise, fall, stand still: best at epoch 4, two plateaus."""
    pattern = [0.5, 0.6, 0.55, 0.7, 0.7, 0.69, 0.68, 0.6, 0.65, 0.66, 0.64]
    return iter((pattern * 3)[:count])


def plain_loop(features, targets, loss, protocol, seed, outputs, scores):
    """Train as a reader of the paper would write it; Adam as it comes."""
    layers = features.shape[1] if features.ndim == 3 else None
    start = ProbeHead(WIDTH, outputs, layers, protocol, generator=generator_of(seed, "init"))
    hidden, output = nn.Linear(WIDTH, start.hidden_weight.shape[0]), None
    output = nn.Linear(start.hidden_weight.shape[0], outputs)
    with torch.no_grad():
        hidden.weight.copy_(start.hidden_weight)
        hidden.bias.copy_(start.hidden_bias)
        output.weight.copy_(start.output_weight)
        output.bias.copy_(start.output_bias)
    parameters = [*hidden.parameters(), *output.parameters()]
    if layers is not None:
        mixing = nn.Parameter(start.layer_scores.detach().clone())
        parameters.append(mixing)
    optimizer = torch.optim.Adam(parameters, lr=protocol.learning_rate)
    order, masks = generator_of(seed, "order"), generator_of(seed, "dropout")
    best, best_epoch, best_weights, bad, rate, steps = -1.0, 0, None, 0, protocol.learning_rate, 0
    for epoch in range(1, protocol.max_epochs + 1):
        shuffled = torch.randperm(len(features), generator=order)
        for first in range(0, len(features), protocol.batch_size):
            if protocol.max_steps is not None and steps == protocol.max_steps:
                break
            rows = shuffled[first : first + protocol.batch_size]
            batch = features[rows]
            if layers is not None:
                batch = (batch * torch.softmax(mixing, 0)[None, :, None]).sum(dim=1)
            between = hidden(batch)
            mask = torch.ones_like(between)
            if protocol.dropout:
                mask = start.dropout_mask(between, masks)
            if protocol.dropout_place == "before_relu":
                between = torch.relu(between * mask)
            else:
                between = torch.relu(between) * mask
            optimizer.zero_grad()
            loss(output(between), targets[rows]).backward()
            if protocol.gradient_clip is not None:
                nn.utils.clip_grad_norm_(parameters, protocol.gradient_clip)
            optimizer.step()
            steps += 1
        score = next(scores)
        if score > best:
            best, best_epoch, bad = score, epoch, 0
            best_weights = copy.deepcopy([each.detach() for each in parameters])
        else:
            bad += 1
            if protocol.plateau_patience is not None and bad > protocol.plateau_patience:
                rate, bad = rate * protocol.plateau_factor, 0
                optimizer.param_groups[0]["lr"] = rate
        if protocol.patience is not None and epoch - best_epoch >= protocol.patience:
            break
        if protocol.max_steps is not None and steps == protocol.max_steps:
            break
    return best_weights, best_epoch, epoch


@pytest.mark.parametrize(
    ("layers", "settings"),
    [
        (None, {}),
        (3, {}),
        (3, {"layer_start": "random", "dropout": 0.0}),
        (None, {"hidden_size": "features", "dropout_place": "before_relu", "gradient_clip": 0.1}),
        (None, {"plateau_patience": None, "patience": None, "max_steps": 25}),
    ],
)
@pytest.mark.parametrize("kind", ["tagging", "multiclass", "regression"])
def test_a_probe_is_a_plain_loop(kind, layers, settings):
    features, tags = problem(layers)
    targets = {"tagging": tags, "multiclass": tags.argmax(dim=1), "regression": tags * 2 - 0.3}
    settings = {
        "hidden_size": 20,
        "batch_size": 16,
        "max_epochs": 12,
        "patience": 6,
        "plateau_patience": 1,
        "learning_rate": 5e-3,
        **settings,
    }
    protocol, loss = Protocol(**settings), loss_of(kind)
    scores = scripted_scores(30)
    ours = train_probe(
        features,
        targets[kind],
        lambda head: next(scores),
        protocol,
        5,
        outputs=LABELS,
        loss=loss,
    )
    weights, best_epoch, epochs = plain_loop(
        features, targets[kind], loss, protocol, 5, LABELS, scripted_scores(30)
    )
    assert (ours.best_epoch, len(ours.history)) == (best_epoch, epochs)
    names = ["hidden_weight", "hidden_bias", "output_weight", "output_bias"]
    names += [] if layers is None else ["layer_scores"]
    for name, value in zip(names, weights, strict=True):
        np.testing.assert_allclose(
            getattr(ours.head, name).detach().numpy(), value.numpy(), atol=1e-5, err_msg=name
        )


def test_marble_counts_its_parameters():
    protocol = Protocol.model_validate("marble-v1")
    weighted = ProbeHead(768, 50, 12, protocol, generator=torch.Generator())
    single = ProbeHead(768, 50, None, protocol, generator=torch.Generator())
    assert sum(each.numel() for each in weighted.parameters()) == 419_390
    assert sum(each.numel() for each in single.parameters()) == 419_378
    petl = Protocol.model_validate("petl-probe")
    head = ProbeHead(768, 50, None, petl, generator=torch.Generator())
    assert sum(each.numel() for each in head.parameters()) == 629_042


def test_the_scores_of_layers_start_equal_or_random():
    drawn = [
        ProbeHead(
            4, 2, 500, Protocol(layer_start=start), generator=torch.Generator().manual_seed(1)
        ).layer_scores.detach()
        for start in ("equal", "random")
    ]
    assert not drawn[0].any()
    assert drawn[1].mean().abs() < 0.2
    assert drawn[1].std() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("dropout", [0.2, 0.5])
def test_dropout_masks_drop_what_they_should_and_keep_the_mean(dropout):
    head = ProbeHead(4, 2, None, Protocol(dropout=dropout), generator=torch.Generator())
    mask = head.dropout_mask(torch.empty(1003, 501), torch.Generator().manual_seed(0))
    assert (mask == 0).double().mean().item() == pytest.approx(dropout, abs=0.003)
    assert mask.max().item() == pytest.approx(1 / (1 - dropout), rel=1e-5)
    assert mask.double().mean().item() == pytest.approx(1, abs=0.004)
    columns, rows = mask.double().mean(dim=0), mask.double().mean(dim=1)
    assert columns.std().item() < 2 / 1003**0.5
    assert rows.std().item() < 2 / 501**0.5
