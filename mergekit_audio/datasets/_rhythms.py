"""The metres of the five synthetic traditions as stroke patterns, one character a pulse.

Simplified sketches that no musician has reviewed: one pattern a metre, no variation, no tempo
hierarchy. Teental, jhaptal and rupak follow the outline of their thekas, düyek, aksak, sofyan and
yürük semai the textbook düm-tek patterns; the others only mark the groups of the metre.
"""

from __future__ import annotations

from dataclasses import dataclass

# Stroke -> (drum, gain): low and high strokes, strong and weak; "-" is silence.
STROKES = {"D": ("low", 1.0), "d": ("low", 0.6), "T": ("high", 0.9), "t": ("high", 0.45)}


@dataclass(frozen=True)
class Metre:
    """One metre.

    Parameters
    ----------
    name
        The tag's value.
    pattern
        One character a pulse: ``D d T t`` of `STROKES`, or ``-``.
    groups
        Pulses of each group, in order; they sum to the pattern's length.
    """

    name: str
    pattern: str
    groups: tuple[int, ...]

    @property
    def pulses(self) -> int:
        """Pulses of one cycle."""
        return len(self.pattern)


WESTERN = (
    Metre("six-eight", "DttTtt", (3, 3)),
    Metre("four-four", "D-T-DtT-", (2, 2, 2, 2)),
    Metre("three-four", "D-t-t-", (2, 2, 2)),
)

MAKAM = (
    Metre("aksak", "D-ttD-T-T", (2, 2, 2, 3)),
    Metre("duyek", "DT-TD-T-", (4, 4)),
    Metre("sofyan", "D-tt", (2, 2)),
    Metre("yuruksemai", "DTTDT-", (3, 3)),
)

HINDUSTANI = (
    Metre("jhaptal", "DtDdtTtDdt", (2, 3, 2, 3)),
    Metre("rupak", "TttDtDt", (3, 2, 2)),
    Metre("teental", "DdddDdddDtttTddd", (4, 4, 4, 4)),
)

CARNATIC = (
    Metre("adi", "DttdTtTt", (4, 2, 2)),
    Metre("misrachapu", "D-tT-Tt", (3, 2, 2)),
    Metre("rupaka", "DtTtTt", (2, 2, 2)),
)

LYRA = (
    Metre("hasapiko", "DtTt", (2, 2)),
    Metre("kalamatianos", "D-tT-T-", (3, 2, 2)),
    Metre("syrtos", "D--T--T-", (3, 3, 2)),
    Metre("zeibekiko", "D-T-D-T-t", (2, 2, 2, 3)),
)
