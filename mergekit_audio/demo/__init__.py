"""The demo: run_demo(folder) -> DemoResult, in two sizes."""

from mergekit_audio.demo.run import DemoResult, run_demo
from mergekit_audio.demo.sizes import CULTURES, FULL, QUICK, RECIPES, SETTINGS_NAME, DemoSize

__all__ = [
    "CULTURES",
    "FULL",
    "QUICK",
    "RECIPES",
    "SETTINGS_NAME",
    "DemoResult",
    "DemoSize",
    "run_demo",
]
