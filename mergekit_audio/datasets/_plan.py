"""Decide what clip i of a split is: tags are dealt in shuffled rounds, so none can be missing."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from mergekit_audio.datasets._rhythms import Metre
from mergekit_audio.datasets._scales import Scale
from mergekit_audio.datasets._traditions import (
    CULTURES,
    INSTRUMENTS,
    SPLITS,
    TRADITIONS,
    Style,
    Tradition,
)

FORMATS = ("flac", "flac", "mp3", "ogg", "wav", "wav")  # the lossy ones take longest to write
CLIPS_PER_ARTIST = 4

# Tonics lie 12 cents apart (three times the players' error of intonation) within some 230 cents; of
# each five neighbours three are for training, one for validation and one for test, so that no split
# shares a tonic with another and none lies outside. A wider range makes scales inaudible to any
# feature that is not invariant to transposition, for want of clips.
TONIC_HZ = 220.0
TONIC_STEP_CENTS = 12.0
TONICS = {
    "train": tuple(TONIC_STEP_CENTS * k for k in range(20) if k % 5 in (0, 2, 4)),
    "valid": tuple(TONIC_STEP_CENTS * k for k in range(20) if k % 5 == 1),
    "test": tuple(TONIC_STEP_CENTS * k for k in range(20) if k % 5 == 3),
}

_SCALE, _METRE, _STYLE, _LEAD, _TONIC, _FORMAT = range(6)

Value = TypeVar("Value")


@dataclass(frozen=True)
class ClipPlan:
    """What clip ``index`` of a split is to be: a function of (seed, culture, split, index)."""

    seed: int
    culture: str
    split: str
    index: int
    scale: Scale
    metre: Metre | None
    style: Style
    lead: str
    second: str | None
    tonic_cents: float
    file_format: str

    @property
    def tradition(self) -> Tradition:
        """The clip's tradition."""
        return TRADITIONS[self.culture]

    @property
    def id(self) -> str:
        """The clip's name, unique over all cultures."""
        return f"{self.culture}-{self.split}-{self.index:04d}"

    @property
    def artist(self) -> str:
        """The invented player: four clips share one and its timbres; none crosses splits."""
        number = self.index // CLIPS_PER_ARTIST
        return f"synthetic-{self.seed}-{self.culture}-{self.split}-{number:03d}"

    @property
    def tags(self) -> tuple[str, ...]:
        """The clip's tags ``category--value``, sorted."""
        tradition = self.tradition
        values: list[tuple[str | None, str]] = [
            (tradition.scale_category, self.scale.name),
            (tradition.style_category, self.style.name),
            ("instrument", self.lead),
        ]
        if self.metre is not None:
            values.append((tradition.metre_category, self.metre.name))
        if self.second is not None:
            values.append(("instrument", self.second))
        return tuple(sorted(f"{category}--{value}" for category, value in values if category))

    def generator(self) -> np.random.Generator:
        """Return the clip's own source of randomness."""
        return np.random.default_rng(self._key())

    def artist_generator(self) -> np.random.Generator:
        """Return the source of randomness that the artist's clips share."""
        return np.random.default_rng([*self._key()[:3], self.index // CLIPS_PER_ARTIST, 1, 1])

    def _key(self) -> list[int]:
        return [self.seed, CULTURES.index(self.culture), SPLITS.index(self.split), self.index]


def plan_clip(culture: str, split: str, index: int, seed: int) -> ClipPlan:
    """Plan one clip.

    Every family of tags is dealt like cards: each round of ``len(family)`` clips holds each value
    once, in an order shuffled by (seed, culture, split, family, round). So any split of at least
    six clips has positives and negatives of every tag, whatever the seed.
    """
    tradition = TRADITIONS[culture]
    key = [seed, CULTURES.index(culture), SPLITS.index(split)]
    style = _style(tradition, index, key)
    beat = _metred_before(tradition, index, key)
    lead, second = _instruments(index, key)
    return ClipPlan(
        seed=seed,
        culture=culture,
        split=split,
        index=index,
        scale=_deal(tradition.scales, index, [*key, _SCALE]),
        metre=_deal(tradition.metres, beat, [*key, _METRE]) if style.metred else None,
        style=style,
        lead=lead,
        second=second,
        tonic_cents=_deal(TONICS[split], index, [*key, _TONIC]),
        file_format=_deal(FORMATS, index, [*key, _FORMAT]),
    )


def split_sizes(tracks: int) -> dict[str, int]:
    """Return the clips of each split: a fifth to validate, a fifth to test, the rest to train."""
    fifth = tracks // 5
    return {"train": tracks - 2 * fifth, "valid": fifth, "test": fifth}


def _deal(values: tuple[Value, ...], index: int, key: list[int]) -> Value:
    return values[_order(len(values), index, key)[index % len(values)]]


def _order(count: int, index: int, key: list[int]) -> list[int]:
    return [int(k) for k in np.random.default_rng([*key, index // count]).permutation(count)]


def _style(tradition: Tradition, index: int, key: list[int]) -> Style:
    """Deal styles, each round in the order that fits its scales and metres best, plus noise."""
    styles = tradition.styles
    size = len(styles)
    first = index - index % size
    names = []
    for k in range(first, first + size):
        liked = {_deal(tradition.scales, k, [*key, _SCALE]).name}
        if all(style.metred for style in styles):
            liked.add(_deal(tradition.metres, k, [*key, _METRE]).name)
        names.append(liked)
    noise = np.random.default_rng([*key, _STYLE, first // size]).gumbel(0.0, 0.4, (size, size))
    best = max(
        itertools.permutations(range(size)),
        key=lambda order: sum(
            len(names[place].intersection(styles[choice].likes)) + float(noise[place, choice])
            for place, choice in enumerate(order)
        ),
    )
    return styles[best[index - first]]


def _metred_before(tradition: Tradition, index: int, key: list[int]) -> int:
    """Return how many clips before this one have a metre: metres are dealt over those alone."""
    size = len(tradition.styles)
    first = index - index % size
    whole_rounds = sum(style.metred for style in tradition.styles) * (index // size)
    return whole_rounds + sum(_style(tradition, k, key).metred for k in range(first, index))


def _instruments(index: int, key: list[int]) -> tuple[str, str | None]:
    """Deal the lead; the second, in half of the clips, is the next lead of the round."""
    count = len(INSTRUMENTS)
    order = _order(count, index, [*key, _LEAD])
    place = index % count
    second = INSTRUMENTS[order[(place + 1) % count]]
    has_second = np.random.default_rng([*key, _LEAD, index, 1]).random() < 0.5
    return INSTRUMENTS[order[place]], second if has_second else None
