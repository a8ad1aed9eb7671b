"""In-batch noise: pieces of the other clips of a batch are added to a clip, as in MERT."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mergekit_audio.recipe.train_arguments import NoiseMixture

FloatArray = npt.NDArray[np.float32]


def mix_in_batch(
    clean: FloatArray,
    settings: NoiseMixture,
    generator: np.random.Generator,
    *,
    sample_rate_hz: int,
    pool: FloatArray | None = None,
    place: int = 0,
) -> FloatArray:
    """Return the clips ``[B, S]`` with noise from each other; targets stay those of ``clean``.

    With probability ``settings.probability`` a clip gets n pieces, n uniform in 1…``max_pieces``.
    Each piece has a length uniform in [min, max] samples (both ends included), is cut from the
    concatenation of the *other* clean clips (it may straddle two of them), and is added times
    ``volume`` at a uniform position; pieces may overlap. A clip without others stays as it is.

    Parameters
    ----------
    clean
        Waveforms ``[B, S]`` at ``sample_rate_hz``, not changed.
    settings
        The recipe's ``noise``.
    generator
        The only source of randomness.
    sample_rate_hz
        Turns the settings' seconds into samples.
    pool
        Clean clips ``[P, S]`` to take pieces from, the batch's among them; None means the batch.
    place
        Where in ``pool`` the batch begins.

    References
    ----------
    MERT (arXiv 2306.00107), in-batch noise mixture; its ``mixture_prob`` is the probability *not*
    to apply it.
    """
    clips, samples = clean.shape
    mixed = clean.copy()
    pool = clean if pool is None else pool
    if len(pool) < 2:
        return mixed
    shortest = min(samples, round(settings.min_length_s * sample_rate_hz))
    longest = min(samples, round(settings.max_length_s * sample_rate_hz))
    pool_samples = (len(pool) - 1) * samples
    for clip in range(clips):
        if generator.random() >= settings.probability:
            continue
        for _ in range(int(generator.integers(1, settings.max_pieces, endpoint=True))):
            length = int(generator.integers(shortest, longest, endpoint=True))
            source = int(generator.integers(0, pool_samples - length, endpoint=True))
            position = int(generator.integers(0, samples - length, endpoint=True))
            piece = _piece_of_others(pool, place + clip, source, source + length)
            mixed[clip, position : position + length] += np.float32(settings.volume) * piece
    return mixed


def _piece_of_others(pool: FloatArray, clip: int, start: int, stop: int) -> FloatArray:
    """Return samples ``[start, stop)`` of the concatenation of all clips but one."""
    flat, samples = pool.reshape(-1), pool.shape[1]
    gap = clip * samples
    if stop <= gap:
        return flat[start:stop]
    if start >= gap:
        return flat[start + samples : stop + samples]
    return np.concatenate([flat[start:gap], flat[gap + samples : stop + samples]])
