"""The report holds table, figure and the honest words, and loads nothing."""

import re

import pytest
from summaries import ROWS, sweep_summary

from mergekit_audio.recipe.sweep import Select
from mergekit_audio.report.html import write_report
from mergekit_audio.report.statement import inside_maximum_sentence, selection_sentences
from mergekit_audio.sweep.selection import paired_difference, select_scale


def test_the_report_is_self_contained_and_repeats(tmp_path):
    one = write_report(tmp_path / "one.html", sweep_summary(), synthetic=True)
    two = write_report(tmp_path / "two.html", sweep_summary(), synthetic=True)
    text = one.read_text(encoding="utf-8")
    assert text == two.read_text(encoding="utf-8")
    assert "<script" not in text
    assert re.findall(r'(?:src|href)="(?!#)', text) == []
    assert text.count("<svg") >= 1
    assert "task arithmetic (λ = 0.25)" in text
    assert "makam--&lt;hicaz&gt;" in text
    assert "makam--<hicaz>" not in text


def test_synthetic_is_said_where_it_is_told_and_only_there(tmp_path):
    summary = sweep_summary()
    told = write_report(tmp_path / "told.html", summary, title="Demo", synthetic=True)
    assert "<h1>Demo (synthetic recordings)</h1>" in told.read_text(encoding="utf-8")
    plain = write_report(tmp_path / "plain.html", summary, facts={"wall time": "3 min"})
    assert "synthetic" not in plain.read_text(encoding="utf-8")
    assert "<dt>wall time</dt><dd>3 min</dd>" in plain.read_text(encoding="utf-8")


def test_paired_differences_are_those_of_a_t_test():
    found = paired_difference([0.5, 0.7, 0.6], [0.4, 0.5, 0.6])
    assert found["mean"] == pytest.approx(0.1)
    assert found["std"] == pytest.approx(0.1)
    # t(0.975, 2) = 4.30265; 4.30265 * 0.1 / sqrt(3) = 0.248414
    assert found["low"] == pytest.approx(0.1 - 0.248414, abs=1e-6)
    assert found["high"] == pytest.approx(0.1 + 0.248414, abs=1e-6)
    assert (found["above"], found["seeds"]) == (2, 3)
    assert paired_difference([0.5], [0.4])["std"] is None


def test_the_choice_is_on_validation_and_margins_are_paired():
    selection = sweep_summary()["selection"]
    assert (selection["scale"], selection["row"]) == (0.25, "λ = 0.25")
    assert selection["inside_maximum"]
    base = selection["margins"]["base"]["test"]
    gain = sum(ROWS[("λ = 0.25", "merge", 0.25)]) / 4 - sum(ROWS[("base", "base", 0.0)]) / 4
    assert base["mean"] == pytest.approx(gain)
    assert base["std"] == pytest.approx(0, abs=1e-12)
    assert selection["margins"]["upper_neighbour"]["scale"] == 0.5


def test_equal_scores_choose_the_scale_nearest_to_zero():
    rows = sweep_summary()["rows"]
    for row in rows:
        row["scores"] = rows[0]["scores"]
    selection = select_scale(rows, Select(), ["makam", "western"])
    assert selection["scale"] == 0.0
    assert not selection["inside_maximum"]


def test_one_task_and_one_metric_can_decide():
    rows = sweep_summary()["rows"]
    chosen = select_scale(rows, Select(metric="roc_auc", tasks=["western"]), ["makam", "western"])
    assert chosen["scale"] == 0.0
    assert [round(point["valid"]["seeds"][0], 6) for point in chosen["curve"]] == [
        0.72,
        0.71,
        0.68,
        0.57,
    ]


def words(inside, low, high, scale=0.25):
    difference = {"mean": low + 0.01, "std": 0.01, "low": low, "high": high, "above": 2, "seeds": 3}
    return inside_maximum_sentence(
        {
            "scale": scale,
            "inside_maximum": inside,
            "curve": [{"scale": 0.0}, {"scale": 0.25}, {"scale": 1.0}],
            "margins": {"lowest": {"test": difference}, "highest": {"test": difference}},
        }
    )


def test_the_words_follow_the_intervals():
    assert "above both ends of the grid in 95 % intervals" in words(True, 0.01, 0.03)
    assert "in the mean, but not surely" in words(True, -0.005, 0.03)
    assert "the test split does not confirm it" in words(True, -0.05, 0.03)
    assert words(False, 0, 0, scale=1.0) == (
        "There is no inside maximum: on validation the largest λ, 1, is best."
    )
    one = sweep_summary(seeds=1)
    assert any("with one seed nothing can be said" in line for line in selection_sentences(one))


def test_an_evaluation_has_no_choice():
    assert selection_sentences({"rows": [], "tasks": []}) == []
