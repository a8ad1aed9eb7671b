"""The curve of λ on the terminal: its line, its place under the bars, what a pipe gets."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from test_cli_progress import in_terminal

from mergekit_audio.cli.curve import BLOCKS, PLAIN, Curve
from mergekit_audio.cli.progress import Lines, reporting
from mergekit_audio.progress import CurvePoint, ProgressEvent

SWEEP = """\
import time
from mergekit_audio.cli.progress import reporting
from mergekit_audio.progress import CurvePoint, ProgressEvent
with reporting(enabled=True) as progress:
    for done, (scale, goal) in enumerate([(0.0, 70.0), (1.0, 71.0), (0.5, 74.0)]):
        progress(ProgressEvent("probe", done, 4, "a point"))
        name = f"λ = {scale:g}" if scale else "base"
        point = CurvePoint(name, scale, goal, 70.0)
        progress(ProgressEvent("λ so far", done + 1, None, "text for pipes", point=point))
        time.sleep(0.3)
"""


def curve(*points: tuple[float | None, float], broken: float = 0.0) -> Curve:
    made = Curve()
    for place, (scale, goal) in enumerate(points):
        name = "base" if scale == 0 else f"λ = {scale:g}" if scale is not None else f"λ: {place}"
        made.add(CurvePoint(name, scale, goal, 70.0, broken if scale == 1 else 0.0))
    return made


def test_a_place_stands_for_its_scale() -> None:
    text = curve((0.0, 70.0), (1.0, 71.0), (0.25, 78.0)).text()
    assert text == "λ 0 ▁█  ▂ 1  best λ = 0.25: 78.00, base 70.00 +8.00 (3 points)"


def test_many_points_share_places_and_the_best_of_a_place_is_seen() -> None:
    points = [(place / 100, 70.0 + (9 if place == 33 else place / 100)) for place in range(101)]
    text = curve(*points).text(width=20)
    line = text[len("λ 0 ") : text.index(" 1  best")]
    assert len(line) == 20
    assert line.index("█") == round(0.33 * 19)
    assert "best λ = 0.33: 79.00" in text


def test_constraints_count_and_of_equals_the_smaller_scale() -> None:
    assert curve((0.0, 70.0), (1.0, 90.0), (0.5, 71.0), broken=2.0).best().name == "λ = 0.5"
    assert curve((0.0, 70.0), (1.0, 71.0), (0.5, 71.0)).best().name == "λ = 0.5"


def test_several_scales_stand_in_their_order() -> None:
    text = curve((None, 70.0), (None, 71.0), (None, math.nan), (None, 72.0)).text()
    assert text.startswith("▁▅ █  best λ: 3: 72.00")


def test_without_blocks_there_are_plain_signs() -> None:
    text = curve((0.0, 70.0), (0.5, 74.0), (1.0, 71.0)).text(encoding="ascii")
    assert text.startswith(f"lambda 0 {PLAIN[0]}{PLAIN[-1]}{PLAIN[2]} 1  best lambda = 0.5: 74.00")
    assert text.isascii()
    assert len(PLAIN) == len(BLOCKS)


@pytest.mark.parametrize("points", [[], [(0.0, math.nan)]])
def test_nothing_known_is_nothing_said(points: list[tuple[float | None, float]]) -> None:
    assert curve(*points).text() == ""
    assert curve((0.0, 70.0)).text() == "λ 0 ▁ 0  best base: 70.00, base 70.00 +0.00 (1 point)"


def test_a_point_that_is_scored_again_takes_its_place() -> None:
    made = curve((0.0, 70.0), (1.0, 71.0))
    made.add(CurvePoint("λ = 1", 1.0, 69.0, 70.0))
    assert "(2 points)" in made.text()
    assert made.best().name == "base"


def test_a_terminal_sees_it_grow_and_keeps_the_last(tmp_path: Path) -> None:
    for encoding, last in (
        ("utf-8", "λ 0 ▁█▃ 1  best λ = 0.5: 74.00"),
        ("ascii", "lambda 0 _#- 1  best lambda = 0.5: 74.00"),
    ):
        code, text = in_terminal(tmp_path, SWEEP, PYTHONIOENCODING=encoding)
        assert code == 0
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
        assert last in plain.splitlines()[-1]
        assert plain.count("best") > 2
        assert "text for pipes" not in plain
        assert "probe" in plain


def test_a_pipe_gets_lines_and_silence_stays_silent(capsys: pytest.CaptureFixture[str]) -> None:
    event = ProgressEvent(
        "λ so far", 2, None, "λ = 1: 71.00 (base 70.00)", point=CurvePoint("λ = 1", 1.0, 71.0, 70.0)
    )
    Lines()(event)
    assert capsys.readouterr().err == "λ so far: 2, λ = 1: 71.00 (base 70.00)\n"
    with reporting(enabled=False, remarks=True) as progress:
        progress(event)
    assert capsys.readouterr().err == ""
