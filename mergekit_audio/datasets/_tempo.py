"""Read annotation files that hold one tempo in beats a minute."""

from __future__ import annotations

import math
from pathlib import Path


def read_bpm(raw: Path, *places: str) -> tuple[float | None, tuple[str, str]]:
    """Return the tempo of the first file that is there, and what is wrong with it.

    Returns
    -------
    tuple
        The tempo or nothing; the kind of a finding and its reason, both empty where all is well. A
        tempo of 0 means that the annotators found none.
    """
    place = next((place for place in places if (raw / place).is_file()), None)
    if place is None:
        return None, ("missing_metadata", f"no {places[0]}")
    try:
        text = (raw / place).read_text(encoding="utf-8").strip()
        tempo_bpm = float(text)
    except (OSError, ValueError):
        return None, ("broken_metadata", f"{place}: expected one number")
    if not math.isfinite(tempo_bpm) or tempo_bpm < 0:
        return None, ("broken_metadata", f"{place}: expected beats a minute, found {text}")
    if tempo_bpm == 0:
        return None, ("without_values", f"{place}: 0, no tempo was found")
    return tempo_bpm, ("", "")
