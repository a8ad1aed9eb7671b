"""The stability gap: curves read from logs, drops below the start, and what the figure says."""

import json

import pytest

from mergekit_audio.errors import InputError
from mergekit_audio.report.stability_figure import (
    read_curve,
    stability_gaps,
    write_stability_figure,
)

TITLES = {"both_stages": "both", "single_stage": "single"}


def write_log(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def logs(tmp_path):
    both = write_log(
        tmp_path / "both.jsonl",
        {"stage": "a", "step": 0, "forgetting": {"west": 0.8}},
        {"stage": "a", "step": 2, "loss": 5.0},
        {"stage": "a", "step": 2, "forgetting": {"west": 0.7}},
        {"stage": "a", "step": 4, "loss": 4.0},
        {"stage": "b", "step": 2, "loss": 3.0, "forgetting": {"west": 0.75}},
    )
    single = write_log(
        tmp_path / "single.jsonl",
        {"stage": "one", "step": 0, "forgetting": {"west": 0.8}},
        {"stage": "one", "step": 6, "loss": 3.5, "forgetting": {"west": 0.5}},
    )
    return {"both_stages": read_curve(both), "single_stage": read_curve(single)}


def test_steps_count_through_the_stages(logs):
    both = logs["both_stages"]
    assert both["loss"] == [[2, 5.0], [4, 4.0], [6, 3.0]]
    assert both["stages"] == [{"name": "a", "first_step": 0}, {"name": "b", "first_step": 4}]
    assert both["forgetting"] == {"west": {"score": [[0, 0.8], [2, 0.7], [6, 0.75]]}}


def test_a_gap_is_the_deepest_drop_below_the_start(logs):
    gaps = stability_gaps(logs)
    assert gaps["both_stages"]["west"]["score"] == {
        "start": 0.8,
        "worst": 0.7,
        "gap": pytest.approx(0.1),
        "step": 2,
        "end": 0.75,
    }
    assert gaps["single_stage"]["west"]["score"]["gap"] == pytest.approx(0.3)


def test_of_a_loss_the_highest_is_the_worst(tmp_path):
    lines = [
        {"stage": "a", "step": step, "forgetting": {"west": {"loss": loss, "accuracy": 0.5}}}
        for step, loss in ((0, 3.0), (1, 4.5), (2, 2.5))
    ]
    gaps = stability_gaps({"run": read_curve(write_log(tmp_path / "log.jsonl", *lines))})
    loss = {"start": 3.0, "worst": 4.5, "gap": 1.5, "step": 1, "end": 2.5}
    assert gaps["run"]["west"]["loss"] == loss
    assert gaps["run"]["west"]["accuracy"]["gap"] == 0.0


def test_the_figure_shows_forgetting_or_says_that_it_shows_losses(logs, tmp_path, monkeypatch):
    import matplotlib as mpl

    from mergekit_audio.report import saving

    monkeypatch.setitem(saving.SETTINGS, "svg.fonttype", "none")
    write_stability_figure(logs, TITLES, tmp_path)
    drawn = (tmp_path / "stability_gap.svg").read_text(encoding="utf-8")
    assert "by the forgetting probe of the logs" in drawn
    assert ">west<" in drawn
    assert (tmp_path / "stability_gap.png").read_bytes()[:4] == b"\x89PNG"
    logs["single_stage"]["forgetting"] = {}
    write_stability_figure(logs, TITLES, tmp_path)
    drawn = (tmp_path / "stability_gap.svg").read_text(encoding="utf-8")
    assert "Training loss (the logs hold no forgetting probe)" in drawn
    assert mpl.rcParams["svg.fonttype"] == mpl.rcParamsDefault["svg.fonttype"]


def test_the_same_curves_give_the_same_bytes(logs, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_stability_figure(logs, TITLES, tmp_path / name)
    for name in ("stability_gap.svg", "stability_gap.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_damaged_log_is_an_input_error(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": ', encoding="utf-8")
    with pytest.raises(InputError, match="can't read the training's log"):
        read_curve(path)
    with pytest.raises(InputError, match="can't read the training's log"):
        read_curve(tmp_path / "missing.jsonl")
