"""Successive halving: many λ on few tracks, the best of them on more, the last ones on all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mergekit_audio.errors import InputError
from mergekit_audio.files import canonical_json, sha256_of_text
from mergekit_audio.probe.features import probed_tracks
from mergekit_audio.probe.kinds import ONE_CLASS
from mergekit_audio.probe.tasks import PreparedTask, require_scorable
from mergekit_audio.recipe.search import Halving, Search

USED = ("train", "valid")
"""The splits of a search; test tracks are heard at the chosen λ alone."""
VALUE_STRATA = 5
"""Of values, tracks of as many quantiles count as of one kind."""


@dataclass(frozen=True)
class Round:
    """How many candidates are scored on what share of the tracks.

    Parameters
    ----------
    candidates
        At most so many; fewer where features of some were not finite.
    share
        Of the training and validation tracks of each task; 1 means all.
    """

    candidates: int
    share: float

    @property
    def is_full(self) -> bool:
        """Whether all tracks are heard."""
        return self.share >= 1

    def text(self) -> str:
        """Return the share in words: ``1/9 of the tracks``."""
        return "all tracks" if self.is_full else f"1/{round(1 / self.share)} of the tracks"


def rounds(candidates: int, tracks: Sequence[int], settings: Halving) -> list[Round]:
    """Return the rounds: ``⌊N / f^r⌋`` candidates on ``f^(r - R)`` of the tracks, r = 0 … R.

    R is the largest number for which the smallest task has ``fewest_tracks`` in the first round and
    a candidate is left in the last one (Jamieson and Talwalkar, arXiv 1502.07943; the rounds of
    Hyperband's first bracket, arXiv 1603.06560).

    Parameters
    ----------
    candidates
        N.
    tracks
        Training and validation tracks of each task.
    settings
        The factor f and ``fewest_tracks``.
    """
    factor, last = settings.factor, 0
    while min(tracks) >= settings.fewest_tracks * factor ** (last + 1) and candidates >= factor ** (
        last + 1
    ):
        last += 1
    return [
        Round(candidates // factor**place, float(factor) ** (place - last))
        for place in range(last + 1)
    ]


def extracted_tracks(
    found: Sequence[Round], train: int, valid: int, *, keeps_rows: bool = True
) -> int:
    """Return how many tracks of a task halving embeds, over all candidates.

    ``Σ_r n_r · (m_r - m_{r-1})`` with ``m_r = ⌈s_r · train⌉ + ⌈s_r · valid⌉``; where a device does
    not take rows of features over, ``Σ_r n_r · m_r``.

    Parameters
    ----------
    found
        From ``rounds``.
    train, valid
        The task's tracks.
    keeps_rows
        Whether a round takes over what the one before embedded, as on a CPU.
    """
    total = known = 0
    for each in found:
        heard = taken(train, each.share) + taken(valid, each.share)
        total += each.candidates * (heard - known)
        known = heard if keeps_rows else 0
    return total


def search_extractions(settings: Search | None, tracks: Sequence[Mapping[str, int]]) -> int:
    """Return as how many λ on all tracks a search's extractions count: the trials, but halving.

    Parameters
    ----------
    settings
        The recipe's search.
    tracks
        Each task's tracks by split.
    """
    if settings is None:
        return 0
    if settings.sampler != "halving":
        return settings.trials
    used = [each["train"] + each["valid"] for each in tracks]
    found = rounds(settings.trials, used, settings.halving_settings())
    heard = sum(extracted_tracks(found, each["train"], each["valid"]) for each in tracks)
    return math.ceil(heard / sum(used))


def taken(tracks: int, share: float) -> int:
    """Return how many of a split's tracks a share is: ``⌈share · tracks⌉``."""
    return math.ceil(round(share * tracks, 9))


def part_of_task(task: PreparedTask, share: float, seed: int) -> PreparedTask:
    """Return a task with a stratified share of its training and validation tracks, and no others.

    A smaller share's tracks are among those of a larger one. The digest names task and tracks, so
    that no score of a part stands for the whole.

    Parameters
    ----------
    task
        The whole.
    share
        Above 0, at most 1.
    seed
        Draws the order of the tracks.

    Raises
    ------
    InputError
        Nothing can be scored on so few tracks.
    """
    kept: list[int] = []
    for split in USED:
        order = stratified_order(task, split, seed)
        kept += order[: taken(len(order), share)]
    kept.sort()
    tracks = probed_tracks(task.corpus)
    corpus = replace(task.corpus, tracks=tuple(tracks[place] for place in kept))
    splits, targets = task.splits[kept], task.targets[kept]
    require_scorable(task.task, splits, task.labels, targets, USED)
    part = {"part_of": task.digest, "tracks": [tracks[place].track.id for place in kept]}
    return replace(
        task,
        corpus=corpus,
        splits=splits,
        targets=targets,
        digest=sha256_of_text(canonical_json(part)),
    )


def stratified_order(task: PreparedTask, split: str, seed: int) -> list[int]:
    """Return the places of a split's tracks so that any first part of them has every kind in turn.

    The i-th of n tracks of a kind, in an order drawn by the seed, comes at ``(i + ½) / n``.

    Parameters
    ----------
    task
        Its tracks and targets. A tagged track's kind is its rarest tag, a class is one, and values
        are of five quantiles.
    split
        Which.
    seed
        Of the order.
    """
    places = np.flatnonzero(task.splits == split)
    kinds = _kinds(task, task.targets[places])
    name = int(sha256_of_text(f"{task.task.name}/{split}")[:8], 16)
    drawn = np.random.default_rng([seed, name]).permutation(len(places))
    position = np.empty(len(places))
    for kind in np.unique(kinds):
        members = drawn[kinds[drawn] == kind]
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    rank = np.empty(len(places), dtype=np.int64)
    rank[drawn] = np.arange(len(places))
    return [int(places[row]) for row in np.lexsort((rank, position))]


def smallest_scorable(
    found: Sequence[Round], tasks: Sequence[PreparedTask], seed: int
) -> tuple[list[Round], list[str]]:
    """Leave out first rounds on whose tracks nothing can be scored; return the others and why.

    All candidates then begin in the first round that is left.
    """
    left, reasons = list(found), []
    while not left[0].is_full:
        try:
            for task in tasks:
                part_of_task(task, left[0].share, seed)
            break
        except InputError as error:
            reasons.append(f"Halving leaves out its round on {left[0].text()}: {error.message}.")
            left[1] = replace(left[1], candidates=left[0].candidates)
            left.pop(0)
    return left, reasons


def halve(
    candidates: Sequence[Any],
    found: Sequence[Round],
    score: Callable[[Any, int], float | None],
    size: Callable[[Any], Any],
) -> list[Any]:
    """Score the candidates round by round; return those of the last round, best first.

    Parameters
    ----------
    candidates
        Those of the first round.
    found
        The rounds.
    score
        Returns a candidate's value in a round (its place); ``None`` drops it.
    size
        Orders candidates of equal values: the smallest first.
    """
    left = list(candidates)
    for place, each in enumerate(found):
        scored = [(score(one, place), one) for one in left[: each.candidates]]
        kept = [(value, one) for value, one in scored if value is not None]
        left = [one for value, one in sorted(kept, key=lambda pair: (-pair[0], size(pair[1])))]
    return left


def _kinds(task: PreparedTask, targets: NDArray[Any]) -> NDArray[np.int64]:
    """Return a number for each track that tracks of the same kind share, shape ``[tracks]``."""
    if task.task.kind == "tagging":
        rarity = np.where(targets, targets.sum(axis=0), len(targets) + 1)
        rarest = np.where(targets.any(axis=1), rarity.argmin(axis=1), targets.shape[1])
        return np.asarray(rarest, dtype=np.int64)
    if task.task.kind in ONE_CLASS:
        return np.asarray(targets, dtype=np.int64)
    first = np.asarray(targets, dtype=np.float64).reshape(len(targets), -1)[:, 0]
    order = np.argsort(np.argsort(first, kind="stable"), kind="stable")
    return np.asarray(order * VALUE_STRATA // max(1, len(targets)), dtype=np.int64)
