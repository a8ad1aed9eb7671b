"""What tells the five synthetic traditions apart: scales, metres, ornaments and mild priors.

The priors (drone, chords, tempo) overlap on purpose, and all traditions share the same instruments,
so that neither timbre nor accompaniment alone gives the tradition away. None of it is evidence
about any real tradition; the places of "lyra" are invented.
"""

from __future__ import annotations

from dataclasses import dataclass

from mergekit_audio.datasets import _rhythms, _scales
from mergekit_audio.datasets._rhythms import Metre
from mergekit_audio.datasets._scales import Scale

CULTURES = ("western", "makam", "hindustani", "carnatic", "lyra")
SPLITS = ("train", "valid", "test")
INSTRUMENTS = ("bowed", "flute", "plucked", "reed", "voice")


@dataclass(frozen=True)
class Ornament:
    """How notes are joined and shaken.

    Parameters
    ----------
    glide_share, glide_s
        Share of notes that slide from the note before, and the range of the slide's length.
    sway_share, sway_cents, sway_hz
        Share of the scale's swaying degrees that oscillate, depth and rate.
    grace_share
        Share of notes with a short neighbour note before them.
    """

    glide_share: float
    glide_s: tuple[float, float]
    sway_share: float
    sway_cents: float
    sway_hz: tuple[float, float]
    grace_share: float


@dataclass(frozen=True)
class Style:
    """One value of the tradition's form, place or genre tag.

    Parameters
    ----------
    metred
        Whether there is a metre (and percussion, with probability `percussion_share`).
    tempo, density
        Factors of the pulse rate and of the share of groups split into shorter notes.
    likes
        Names of scales and metres that go with it.
    """

    name: str
    metred: bool = True
    percussion_share: float = 1.0
    tempo: float = 1.0
    density: float = 0.5
    likes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tradition:
    """One synthetic tradition; a category of ``None`` means that it has no such tag."""

    scales: tuple[Scale, ...]
    scale_category: str | None
    metres: tuple[Metre, ...]
    metre_category: str | None
    styles: tuple[Style, ...]
    style_category: str | None
    ornament: Ornament
    drone_share: float
    chord_share: float
    pulses_per_minute: tuple[float, float]

    def labels(self) -> tuple[str, ...]:
        """Return all tags ``category--value``, sorted."""
        values: list[tuple[str | None, str]] = [
            *((self.scale_category, scale.name) for scale in self.scales),
            *((self.metre_category, metre.name) for metre in self.metres),
            *((self.style_category, style.name) for style in self.styles),
            *(("instrument", instrument) for instrument in INSTRUMENTS),
        ]
        return tuple(sorted(f"{category}--{value}" for category, value in values if category))


TRADITIONS = {
    "western": Tradition(
        scales=_scales.WESTERN,
        scale_category="mode",
        metres=_rhythms.WESTERN,
        metre_category=None,
        styles=(
            Style(
                "classical",
                percussion_share=0.2,
                density=0.7,
                likes=("ionian", "aeolian", "three-four"),
            ),
            Style("folk", tempo=1.1, likes=("dorian", "mixolydian", "six-eight")),
            Style("popular", tempo=0.9, density=0.35, likes=("ionian", "aeolian", "four-four")),
        ),
        style_category="genre",
        ornament=Ornament(0.15, (0.03, 0.08), 0.0, 0.0, (5.0, 6.0), 0.08),
        drone_share=0.3,
        chord_share=0.65,
        pulses_per_minute=(190.0, 290.0),
    ),
    "makam": Tradition(
        scales=_scales.MAKAM,
        scale_category="makam",
        metres=_rhythms.MAKAM,
        metre_category="usul",
        styles=(Style("plain"),),
        style_category=None,
        ornament=Ornament(0.3, (0.04, 0.12), 0.4, 30.0, (3.0, 5.0), 0.2),
        drone_share=0.45,
        chord_share=0.3,
        pulses_per_minute=(190.0, 300.0),
    ),
    "hindustani": Tradition(
        scales=_scales.HINDUSTANI,
        scale_category="raga",
        metres=_rhythms.HINDUSTANI,
        metre_category="tala",
        styles=(
            Style("alap", metred=False),
            Style("drut", tempo=1.3, density=0.7),
            Style("vilambit", tempo=0.9, density=0.35),
        ),
        style_category="form",
        ornament=Ornament(0.5, (0.1, 0.3), 0.5, 40.0, (2.0, 3.5), 0.1),
        drone_share=0.7,
        chord_share=0.25,
        pulses_per_minute=(190.0, 300.0),
    ),
    "carnatic": Tradition(
        scales=_scales.CARNATIC,
        scale_category="raga",
        metres=_rhythms.CARNATIC,
        metre_category="tala",
        styles=(
            Style("alapana", metred=False),
            Style("kriti", tempo=0.9, density=0.4),
            Style("tillana", tempo=1.3, density=0.75),
        ),
        style_category="form",
        ornament=Ornament(0.35, (0.05, 0.15), 0.8, 90.0, (4.5, 7.0), 0.1),
        drone_share=0.7,
        chord_share=0.25,
        pulses_per_minute=(190.0, 300.0),
    ),
    "lyra": Tradition(
        scales=_scales.LYRA,
        scale_category=None,
        metres=_rhythms.LYRA,
        metre_category="genre",
        styles=(
            Style(
                "coast",
                percussion_share=0.8,
                density=0.4,
                likes=("rast", "niavent", "hasapiko", "syrtos"),
            ),
            Style(
                "highland",
                percussion_share=0.3,
                tempo=1.15,
                likes=("ousak", "sabah", "kalamatianos"),
            ),
            Style(
                "port",
                tempo=0.9,
                density=0.65,
                likes=("hitzaz", "peiraiotikos", "zeibekiko"),
            ),
        ),
        style_category="place",
        ornament=Ornament(0.2, (0.03, 0.1), 0.0, 0.0, (5.0, 6.0), 0.3),
        drone_share=0.35,
        chord_share=0.5,
        pulses_per_minute=(200.0, 310.0),
    ),
}
