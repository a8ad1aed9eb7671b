"""Open features again that another process has computed, by their file in the cache."""

from __future__ import annotations

from pathlib import Path

from mergekit_audio.audio.store import PreparedCorpus
from mergekit_audio.errors import InputError
from mergekit_audio.probe.chunks import cut_tracks
from mergekit_audio.probe.encoders import FrozenEncoder
from mergekit_audio.probe.feature_cache import stored_array, unpacked_chunks
from mergekit_audio.probe.features import Features, chunk_content, made_features, probed_tracks
from mergekit_audio.recipe.protocols import Protocol


def reopen(
    path: Path, corpus: PreparedCorpus, protocol: Protocol, encoder: FrozenEncoder
) -> Features:
    """Return features that ``extract`` gave, here or in another process, by their file.

    Parameters
    ----------
    path
        ``Features.path``.
    corpus, protocol
        As given to ``extract``.
    encoder
        As given to ``extract``, or another one of the same configuration.

    Raises
    ------
    InputError
        The file is gone.
    """
    found = stored_array(path)
    if found is None:
        raise InputError(
            f"{path}: the features are gone that were computed a moment ago",
            "run the same command again, and leave the store alone meanwhile",
        )
    tracks = probed_tracks(corpus)
    every = cut_tracks(tracks, protocol, corpus.sample_rate_hz, encoder.backbone.receptive_field)
    left = iter(every)
    chunks = [
        next(each for each in left if chunk_content(tracks, each) == key)
        for key in unpacked_chunks(found[0])
    ]
    return made_features(found, tracks, chunks, encoder)
