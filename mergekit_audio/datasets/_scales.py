"""The scales of the five synthetic traditions, in cents above the tonic.

Every table here is a simplified sketch that no musician has reviewed: one octave, one tuning, one
dominant, one melodic motion a scale. Makam steps are the Arel-Ezgi-Uzdilek intervals in Holdrian
commas (53 an octave); ragas are in five-limit just intonation; dromoi and church modes are in
equal temperament. Real performance differs from all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

COMMA_CENTS = 1200 / 53

# Arel-Ezgi-Uzdilek letters, in commas: bakiye, small and large mücennep, tanini, augmented.
_COMMAS = {"B": 4, "S": 5, "K": 8, "T": 9, "A": 12}

# Swaras in cents, five-limit: 16/15, 9/8, 6/5, 5/4, 4/3, 45/32, 3/2, 8/5, 5/3, 9/5, 15/8.
_SWARAS = {
    "S": 0.0, "r": 111.7, "R": 203.9, "g": 315.6, "G": 386.3, "m": 498.0,
    "M": 590.2, "P": 702.0, "d": 813.7, "D": 884.4, "n": 1017.6, "N": 1088.3,
}  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """One scale and the little grammar of its melodies.

    Parameters
    ----------
    name
        The tag's value.
    cents
        Degrees of one octave, ascending from 0.
    dominant
        Index of the stressed degree (güçlü, vadi).
    motion
        ``rising`` starts at the tonic, ``falling`` at the octave, ``arched`` at the dominant.
    falling_cents
        Degrees that sound otherwise on the way down: (index, cents).
    swaying
        Indices of the degrees that carry the tradition's oscillation.
    """

    name: str
    cents: tuple[float, ...]
    dominant: int
    motion: Literal["rising", "falling", "arched"]
    falling_cents: tuple[tuple[int, float], ...] = ()
    swaying: tuple[int, ...] = ()

    def pitch(self, degree: int, falling: bool = False) -> float:
        """Return the cents of a degree; 0 is the tonic, ``len(cents)`` its octave."""
        octave, index = divmod(degree, len(self.cents))
        cents = dict(self.falling_cents).get(index) if falling else None
        return 1200.0 * octave + (self.cents[index] if cents is None else cents)


def comma_steps(letters: str) -> tuple[int, ...]:
    """Return a makam's steps in commas; a whole octave sums to 53."""
    return tuple(_COMMAS[letter] for letter in letters)


def _from_commas(letters: str) -> tuple[float, ...]:
    return tuple(COMMA_CENTS * commas for commas in (0, *accumulate(comma_steps(letters)[:-1])))


def _from_swaras(letters: str) -> tuple[float, ...]:
    return tuple(_SWARAS[letter] for letter in letters)


def _from_semitones(*semitones: int) -> tuple[float, ...]:
    return tuple(100.0 * semitone for semitone in semitones)


MAKAM_STEPS = {
    "hicaz": "SASTKST",
    "huseyni": "KSTTKST",
    "nihavend": "TBTTBTT",
    "rast": "TKSTTKS",
    "segah": "STKTSAS",
    "ussak": "KSTTBTT",
}

WESTERN = (
    Scale("aeolian", _from_semitones(0, 2, 3, 5, 7, 8, 10), 4, "arched"),
    Scale("dorian", _from_semitones(0, 2, 3, 5, 7, 9, 10), 3, "arched"),
    Scale("ionian", _from_semitones(0, 2, 4, 5, 7, 9, 11), 4, "rising"),
    Scale("mixolydian", _from_semitones(0, 2, 4, 5, 7, 9, 10), 3, "falling"),
    Scale("phrygian", _from_semitones(0, 1, 3, 5, 7, 8, 10), 5, "falling"),
)

MAKAM = (
    Scale("hicaz", _from_commas(MAKAM_STEPS["hicaz"]), 3, "arched"),
    Scale(
        "huseyni",
        _from_commas(MAKAM_STEPS["huseyni"]),
        4,
        "arched",
        falling_cents=((5, 35 * COMMA_CENTS),),
    ),
    Scale("nihavend", _from_commas(MAKAM_STEPS["nihavend"]), 4, "falling"),
    Scale(
        "rast",
        _from_commas(MAKAM_STEPS["rast"]),
        4,
        "rising",
        falling_cents=((6, 44 * COMMA_CENTS),),
    ),
    Scale("segah", _from_commas(MAKAM_STEPS["segah"]), 2, "rising"),
    Scale("ussak", _from_commas(MAKAM_STEPS["ussak"]), 3, "rising", swaying=(1,)),
)

HINDUSTANI = (
    Scale("bhairav", _from_swaras("SrGmPdN"), 5, "arched", swaying=(1, 5)),
    Scale("bhupali", _from_swaras("SRGPD"), 2, "rising"),
    Scale("kafi", _from_swaras("SRgmPDn"), 4, "arched", swaying=(2,)),
    Scale("todi", _from_swaras("SrgMPdN"), 5, "falling", swaying=(1, 2)),
    Scale("yaman", _from_swaras("SRGMPDN"), 2, "rising"),
)

CARNATIC = (
    Scale("hamsadhwani", _from_swaras("SRGPN"), 3, "rising", swaying=(1, 4)),
    Scale("kalyani", _from_swaras("SRGMPDN"), 2, "falling", swaying=(1, 3, 5)),
    Scale("kharaharapriya", _from_swaras("SRgmPDn"), 4, "arched", swaying=(1, 2, 6)),
    Scale("mayamalavagowla", _from_swaras("SrGmPdN"), 4, "arched", swaying=(1, 5)),
    Scale("mohanam", _from_swaras("SRGPD"), 2, "falling", swaying=(1, 2, 4)),
)

LYRA = (
    Scale("hitzaz", _from_semitones(0, 1, 4, 5, 7, 8, 10), 3, "arched"),
    Scale("niavent", _from_semitones(0, 2, 3, 6, 7, 8, 11), 4, "arched"),
    Scale("ousak", _from_semitones(0, 1, 3, 5, 7, 8, 10), 3, "falling"),
    Scale("peiraiotikos", _from_semitones(0, 1, 4, 6, 7, 8, 11), 4, "falling"),
    Scale(
        "rast",
        _from_semitones(0, 2, 4, 5, 7, 9, 11),
        4,
        "rising",
        falling_cents=((6, 1000.0),),
    ),
    Scale("sabah", _from_semitones(0, 2, 3, 4, 7, 8, 10), 2, "rising"),
)
