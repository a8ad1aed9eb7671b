"""How much the demo does: its recipes, and what the quick one changes of them."""

from __future__ import annotations

from dataclasses import dataclass

CULTURES = ("makam", "hindustani", "carnatic", "lyra")
RECIPES = ("base", *CULTURES, "multi", "weight_average", "sweep", "similarity", "landscape")
SETTINGS_NAME = "demo.json"


@dataclass(frozen=True)
class DemoSize:
    """How much the demo does.

    Parameters
    ----------
    tracks
        Recordings of each tradition.
    duration_s
        Length of a recording in seconds.
    overrides
        ``key=value`` changes of the shipped demo recipes, by recipe name.
    """

    tracks: int
    duration_s: float
    overrides: dict[str, tuple[str, ...]]


FULL = DemoSize(tracks=300, duration_s=8.0, overrides={})
QUICK = DemoSize(
    tracks=40,
    duration_s=6.0,
    overrides={
        "base": ("stages[0].steps=30",),
        **{name: ("stages[0].steps=4", "stages[1].steps=12") for name in (*CULTURES, "multi")},
        "sweep": ("scales=[0.0, 0.25, 0.5]", "seeds=[0, 1]"),
        "landscape": (
            "tasks=[{name: makam, corpus: data/makam, protocol: screen}, "
            "{name: western, corpus: data/western, western: true, protocol: screen}]",
            "interpolate={points: 32, tolerance: 0.2, max_nodes: 15}",
            "search.trials=8",
            "label_free.minutes=0.2",
            "label_free.rounds=2",
            "similarity.targets=[makam]",
            "select.resamples=200",
            "resamples=1000",
        ),
    },
)

QUICK_NOTE = (
    "The quick demo has too little music and too few steps for its scores to mean anything."
)
