"""Figures have the same bytes every time, and show base, weight average and choice."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from summaries import sweep_summary

from mergekit_audio.report import figures
from mergekit_audio.report.figures import write_score_figure

SCRIPT = """
import sys
from pathlib import Path
from summaries import sweep_summary
from mergekit_audio.report.figures import write_score_figure
write_score_figure(sweep_summary(), Path(sys.argv[1]))
"""


def evaluation_summary():
    summary = sweep_summary()
    rows = [
        dict(row, kind="model", scale=None, weight_average=False) for row in summary["rows"][:3]
    ]
    return {"seeds": summary["seeds"], "tasks": summary["tasks"], "rows": rows}


@pytest.mark.parametrize("summary", [sweep_summary, evaluation_summary])
def test_the_same_summary_gives_the_same_bytes(tmp_path, summary):
    names = ("scores.png", "scores.svg", "scores.pdf")
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        paths = write_score_figure(summary(), tmp_path / folder)
        assert [path.name for path in paths] == list(names)
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert (tmp_path / "one" / "scores.png").read_bytes().startswith(b"\x89PNG")


def test_another_process_and_a_users_matplotlibrc_give_the_same_bytes(tmp_path):
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nsvg.fonttype: none\n")
    (tmp_path / "there").mkdir()
    write_score_figure(sweep_summary(), tmp_path)
    tests = Path(__file__).parents[1]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)]),
        "PYTHONHASHSEED": "5",
        "MATPLOTLIBRC": str(tmp_path),
    }
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "there")], env=environment, check=True
    )
    for name in ("scores.png", "scores.svg", "scores.pdf"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


def test_the_curve_is_the_summarys():
    summary = sweep_summary()
    figure = figures._drawn(summary)
    axes = figure.axes
    assert [panel.get_title() for panel in axes[:3]] == ["makam", "western", "average of tasks"]
    lines = {line.get_label(): line for line in axes[0].get_lines()}
    assert lines["validation (± std over seeds)"].get_xdata().tolist() == [0.0, 0.25, 0.5, 1.0]
    assert lines["validation (± std over seeds)"].get_ydata().tolist() == pytest.approx(
        [64.0, 74.0, 70.0, 59.0]
    )
    (tested,) = axes[0].containers
    assert tested[0].get_xdata().tolist() == [0.0, 0.25, 0.5, 1.0]
    assert tested[0].get_ydata().tolist() == pytest.approx([62.0, 72.0, 68.0, 57.0])
    assert list(lines["base, test"].get_ydata()) == pytest.approx([62.0, 62.0])
    assert list(lines["weight average, λ = 0.5"].get_ydata()) == pytest.approx([68.0])
    assert list(lines["chosen λ = 0.25"].get_xdata()) == [0.25, 0.25]


def test_files_have_no_date(tmp_path):
    for path in write_score_figure(sweep_summary(), tmp_path):
        assert b"<dc:date>" not in path.read_bytes()
        assert b"CreationDate" not in path.read_bytes()
    assert "mergekit_audio" in (tmp_path / "scores.svg").read_text(encoding="utf-8")
