import re
import sys
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest
from commands import SLOW_MERGE, Done, environment, run

from mergekit_audio.cli import progress as progress_module
from mergekit_audio.cli.output import duration, outline, shown, table
from mergekit_audio.cli.progress import Lines, reporting
from mergekit_audio.progress import ProgressEvent, silent

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
WINDOW = {"TERM": "xterm-256color", "TTY_COMPATIBLE": "", "COLUMNS": "", "COLORTERM": ""}


def in_terminal(folder: Path, *words: str, **variables: str) -> tuple[int, str]:
    """Return the exit code of a slow merge on a terminal, and all that was written to it."""
    child = pexpect.spawn(
        sys.executable,
        ["-c", SLOW_MERGE, *words],
        cwd=str(folder),
        env=environment(**{**WINDOW, **variables}),
        dimensions=(30, 120),
        encoding="utf-8",
        timeout=60,
    )
    text = child.read()
    child.close()
    assert child.exitstatus is not None
    return child.exitstatus, text


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    return now


def test_a_terminal_gets_a_bar_that_goes_away(merge_recipe: Path, tmp_path: Path) -> None:
    code, text = in_terminal(tmp_path, "merge", "merge.yaml")
    assert code == 0
    assert "merge tensors" in text
    assert re.search(r"\b\d+/83\b", text)
    assert "\x1b[?25h" in text  # the cursor is back
    assert COLOUR.search(text)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert re.search(r"merge tensors: 83/83, \d+\.\d s", plain)
    assert "merged 2 models by task_arithmetic -> out in " in plain.splitlines()[-1]


def test_no_color_is_respected(merge_recipe: Path, tmp_path: Path) -> None:
    code, text = in_terminal(tmp_path, "merge", "merge.yaml", NO_COLOR="1")
    assert code == 0
    assert "merge tensors" in text
    assert not [found for found in COLOUR.findall(text) if re.search(r"[34]\d|9\d", found)]


@pytest.mark.parametrize("option", ["--no-progress", "--quiet"])
def test_bars_can_be_left_out(merge_recipe: Path, tmp_path: Path, option: str) -> None:
    code, text = in_terminal(tmp_path, "merge", "merge.yaml", option)
    assert code == 0
    assert "merge tensors" not in text
    assert "\x1b" not in text
    assert bool(text) == (option == "--no-progress")


def test_a_pipe_gets_plain_lines(merge_recipe: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "merge", "merge.yaml", code=SLOW_MERGE)
    assert (done.code, done.out) == (0, "")
    assert "\x1b" not in done.err
    assert "\r" not in done.err
    lines = done.err.splitlines()
    assert any(line.startswith("merge tensors: 0/83") for line in lines)
    assert any(re.fullmatch(r"merge tensors: 83/83, \d+\.\d s", line) for line in lines)
    assert len(lines) <= 8


def test_only_the_main_process_speaks(
    cmerge: Callable[..., Done], merge_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert cmerge("merge", "merge.yaml", "--json") == Done(0, "", "")
    monkeypatch.setenv("RANK", "0")
    assert cmerge("merge", "merge.yaml", "--json", "--force").out.startswith("{")


def test_nothing_is_drawn_when_not_wanted() -> None:
    with reporting(enabled=False) as progress:
        assert progress is silent


def test_plain_lines_are_rate_limited(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = Lines()
    for second in range(26):
        clock[0] = float(second)
        lines(ProgressEvent("train", second, 26, f"loss {second}"))
    clock[0] = 26.0
    lines(ProgressEvent("train", 26, 26))
    lines(ProgressEvent("train", 26, 26))
    assert capsys.readouterr().err.splitlines() == [
        "train: 0/26, loss 0",
        "train: 10/26, 10.0 s, loss 10",
        "train: 20/26, 20.0 s, loss 20",
        "train: 26/26, 26.0 s",
    ]


def test_a_quick_task_takes_one_line_and_may_come_again(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = Lines()
    for start in (0.0, 5.0):
        clock[0] = start
        lines(ProgressEvent("hash", 0, 1))
        clock[0] += 0.5
        lines(ProgressEvent("hash", 1, 1))
    clock[0] = 6.0
    lines(ProgressEvent("count", 3))
    assert capsys.readouterr().err.splitlines() == ["hash", "hash", "count: 3"]


def test_times_and_paths_are_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [duration(value) for value in (0.04, 59.94, 61, 3599.6, 7500)] == [
        "0.0 s",
        "59.9 s",
        "1 min 01 s",
        "1 h 00 min",
        "2 h 05 min",
    ]
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "runs/a") == "runs/a"
    assert shown("/somewhere/else") == "/somewhere/else"


def test_nested_values_are_readable() -> None:
    value = {
        "name": "x",
        "share": 0.123456789,
        "done": True,
        "none": None,
        "empty": [],
        "list": [1, 2],
        "rows": [{"a": 1, "b": "x"}, {"a": 10, "b": "yy"}],
        "deep": {"mixed": [{"a": 1}, {"b": [1, 2]}]},
    }
    assert outline(value) == (
        "name: x\nshare: 0.123457\ndone: yes\nnone: -\nempty: none\nlist: 1, 2\n"
        "rows:\n   a  b\n   1  x\n  10  yy\n"
        "deep:\n  mixed:\n    -\n      a: 1\n    -\n      b: 1, 2\n"
    )
    assert table([{"n": 1.5, "word": "a"}, {"n": None, "word": "bb"}]) == (
        "  n  word\n1.5  a\n  -  bb\n"
    )
