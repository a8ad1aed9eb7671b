"""Count the acoustic tokens of every track of a corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mergekit_audio.audio.prepared import PreparedCorpus, Segment
from mergekit_audio.errors import InputError
from mergekit_audio.pretrain.targets import TargetCache
from mergekit_audio.progress import Progress
from mergekit_audio.teachers._frames import frame_count

SEGMENT_S = 30.0
SHORTEST_S = 1.0

Codes = NDArray[np.int64]
Counts = NDArray[np.int32]


@dataclass(frozen=True)
class Tokens:
    """The tokens of a corpus's tracks.

    Parameters
    ----------
    corpus
        The prepared corpus.
    track_ids
        The tracks that count, in the corpus's order.
    codes
        Of each track, uint16 ``[T, K]``.
    """

    corpus: PreparedCorpus
    track_ids: tuple[str, ...]
    codes: tuple[NDArray[np.uint16], ...]


def read_tokens(
    corpus: PreparedCorpus,
    chosen: Sequence[str],
    cache: TargetCache,
    progress: Progress,
    *,
    workers: int,
) -> Tokens:
    """Return the codes of some tracks, made and kept in the store where they are missing.

    Tracks are cut into segments of 30 s from their beginning as in training, so that both share the
    cache; a rest shorter than a second is left out.

    Parameters
    ----------
    chosen
        Ids of tracks; those that could not be prepared are left out.

    Raises
    ------
    InputError
        Fewer than two tracks are left.
    """
    wanted = set(chosen)
    segments = [
        each
        for each in corpus.segments(SEGMENT_S, SHORTEST_S)
        if corpus.tracks[each.track_index].track.id in wanted
    ]
    by_track: dict[int, list[Segment]] = {}
    for each in segments:
        by_track.setdefault(each.track_index, []).append(each)
    if len(by_track) < 2:
        raise InputError(
            f"{corpus.source}: {len(by_track)} of {len(wanted)} tracks can be used, and a "
            "comparison needs two or more",
            f"cmerge data prepare {corpus.source} lists what is wrong with the others",
        )
    cache.prepare(
        [(corpus.tracks[each.track_index], each) for each in segments], progress, workers=workers
    )
    codes = [
        np.concatenate(
            [
                cache.read(corpus.tracks[index], each, 0, frame_count(each.stop - each.start))
                for each in own
            ]
        )
        for index, own in sorted(by_track.items())
    ]
    ids = tuple(corpus.tracks[index].track.id for index in sorted(by_track))
    return Tokens(corpus, ids, tuple(codes))


def count_tokens(
    tokens: Mapping[str, Tokens], codebooks: Sequence[int] | None, *, joint: bool
) -> dict[str, Counts]:
    """Return how often each track has each token, over the same tokens for all corpora.

    Parameters
    ----------
    tokens
        By corpus.
    codebooks
        Which, or None for all.
    joint
        Count tuples of codes of a frame instead of each codebook's codes.

    Returns
    -------
    dict
        By corpus ``[tracks, K, C]``, with K = 1 for tuples.

    Raises
    ------
    InputError
        A codebook does not exist.
    """
    chosen = {
        name: [_columns(name, each, codebooks) for each in own.codes]
        for name, own in tokens.items()
    }
    if joint:
        every = np.concatenate([each for own in chosen.values() for each in own])
        _, places = np.unique(every, axis=0, return_inverse=True)
        ends = np.cumsum([len(each) for own in chosen.values() for each in own])
        numbers = iter(np.split(places.reshape(-1, 1), ends[:-1]))
        chosen = {name: [next(numbers) for _ in own] for name, own in chosen.items()}
    size = 1 + max(int(each.max()) for own in chosen.values() for each in own)
    return {name: np.stack([_counted(each, size) for each in own]) for name, own in chosen.items()}


def _counted(codes: Codes, size: int) -> Counts:
    columns = [np.bincount(column, minlength=size) for column in codes.T]
    return np.stack(columns).astype(np.int32)


def _columns(name: str, codes: NDArray[np.uint16], codebooks: Sequence[int] | None) -> Codes:
    if codebooks is None:
        return codes.astype(np.int64)
    if max(codebooks) >= codes.shape[1]:
        raise InputError(
            f"codebooks: {max(codebooks)} does not exist, the teacher has 0 to "
            f"{codes.shape[1] - 1} ({name})",
            "choose some of these",
        )
    return codes[:, list(codebooks)].astype(np.int64)
