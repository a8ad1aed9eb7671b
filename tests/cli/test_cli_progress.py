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
from mergekit_audio.progress import ProgressEvent, remark, silent

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
WINDOW = {"TERM": "xterm-256color", "TTY_COMPATIBLE": "", "COLUMNS": "", "COLORTERM": ""}
WORK = """\
import time
from mergekit_audio.cli.progress import reporting
from mergekit_audio.progress import ProgressEvent
with reporting(enabled=True) as progress:
    for done in range(23):
        progress(ProgressEvent("count sheep", done, 22, "one more"))
        time.sleep(0.05)
"""


def in_terminal(folder: Path, code: str, *words: str, **variables: str) -> tuple[int, str]:
    """Return the exit code of a program on a terminal, and all that it wrote there."""
    child = pexpect.spawn(
        sys.executable,
        ["-c", code, *words],
        cwd=str(folder),
        env=environment(**{**WINDOW, **variables}),
        dimensions=(30, 120),
        encoding="utf-8",
        timeout=500,
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
    code, text = in_terminal(tmp_path, SLOW_MERGE, "merge", "merge.yaml")
    assert code == 0
    assert re.search(r"\b\d+/83\b", text)
    assert "\x1b[?25h" in text  # the cursor is back
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert re.search(r"merge tensors: 83/83, \d+\.\d s", plain)
    assert "merged 2 models by task_arithmetic -> out in " in plain.splitlines()[-1]


def test_bars_have_colours_unless_no_color_is_set(tmp_path: Path) -> None:
    for variables, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        code, text = in_terminal(tmp_path, WORK, **variables)
        assert code == 0
        assert "count sheep" in text
        assert "one more" in text
        codes = [found for found in COLOUR.findall(text) if re.search(r"\b[349]\d", found)]
        assert bool(codes) == coloured


def test_a_dumb_terminal_and_a_pipe_get_plain_lines(tmp_path: Path) -> None:
    code, text = in_terminal(tmp_path, WORK, TERM="dumb")
    done = run(tmp_path, code=WORK)
    assert (code, done.code, done.out) == (0, 0, "")
    for lines in (text.splitlines(), done.err.splitlines()):
        assert lines[0] == "count sheep: 0/22, one more"
        assert re.fullmatch(r"count sheep: 22/22, \d\.\d s, one more", lines[1])
        assert len(lines) == 2


def test_progress_can_be_left_out(cmerge: Callable[..., Done], merge_recipe: Path) -> None:
    assert cmerge("merge", "merge.yaml").err.startswith("open inputs\n")
    err = cmerge("merge", "merge.yaml", "--force", "--no-progress").err
    assert err.count("\n") == 1
    assert err.startswith("merged 2 models")
    assert cmerge("merge", "merge.yaml", "--force", "--quiet").err == ""


def test_only_the_main_process_speaks(
    cmerge: Callable[..., Done], merge_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert cmerge("merge", "merge.yaml", "--json") == Done(0, "", "")
    monkeypatch.setenv("RANK", "0")
    assert cmerge("merge", "merge.yaml", "--json", "--force").out.startswith("{")


def test_remarks_are_read_also_without_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with reporting(enabled=False, remarks=True) as progress:
        progress(ProgressEvent("merge", 0, 3))
        progress(ProgressEvent("merge", 3, 3, "a tensor"))
        progress(remark("plan", "warning: mind this"))
    assert capsys.readouterr().err == "plan: warning: mind this\n"


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


def test_remarks_are_all_kept(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    for note in ("the head is random", "the teacher is fitted first"):
        lines(ProgressEvent("plan", 1, 1, note))
    assert capsys.readouterr().err.splitlines() == [
        "plan: the head is random",
        "plan: the teacher is fitted first",
    ]


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
    words = ["long words " * 4, "more words " * 4]
    assert outline({"notes": words}) == f"notes:\n  - {words[0]}\n  - {words[1]}\n"
    assert table([{"n": 1.5, "word": "a"}, {"n": None, "word": "bb"}]) == (
        "  n  word\n1.5  a\n  -  bb\n"
    )
