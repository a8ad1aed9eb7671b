"""Marks, differences, labels by category, the transfer figure: files of a summary, by hand."""

import csv
import io
import json

import pytest
from summaries import sweep_summary

from mergekit_audio.report.differences import difference_sentences, difference_table
from mergekit_audio.report.evaluation import write_tables
from mergekit_audio.report.figures import write_score_figure
from mergekit_audio.report.html import write_report
from mergekit_audio.report.labels import by_category, label_table
from mergekit_audio.report.tables import main_table, table_notes
from mergekit_audio.report.transfer_figure import write_transfer_figure


def entry(model, task, metric, difference, holm_p, **changes):
    return {
        "models": [model, "base"],
        "task": task,
        "average": None if task else "all",
        "metric": metric,
        "difference": difference,
        "mean_of_seeds": difference,
        "percentile": [difference - 0.01, difference + 0.01],
        "bca": [difference - 0.012, difference + 0.011],
        "p": holm_p / 4,
        "holm_p": holm_p,
        "sign_flip_p": "not possible",
        "tracks": 5,
        "seeds": 2,
        "resamples": 1000,
        "seed": 0,
        **changes,
    }


def evaluation(**changes):
    """Return two models on two tasks, one difference and one average of which are sure."""
    summary = sweep_summary()
    rows = [
        dict(row, kind="model", scale=None, weight_average=False) for row in summary["rows"][:2]
    ]
    differences = {
        "reference": "base",
        "confidence": 0.95,
        "resamples": 1000,
        "seed": 0,
        "seeds": 2,
        "smallest_holm_p": 0.008,
        "entries": [
            entry("makam", "makam", "roc_auc", 0.08, 0.008),
            entry("makam", "makam", "average_precision", 0.10, 0.06),
            entry("makam", "western", "roc_auc", -0.10, 0.5),
            entry("makam", None, "mean", 0.02, 0.049),
        ],
        **changes,
    }
    held = {key: summary[key] for key in ("seeds", "tasks")}
    return {**held, "kind": "evaluate", "rows": rows, "differences": differences}


def test_a_sure_difference_is_marked_in_every_form():
    table = main_table(evaluation())
    marks = [cell.mark for cell in table.rows[1].cells]
    assert marks == ["*", "", "", "", "*", "", ""]
    assert [cell.mark for cell in table.rows[0].cells] == [""] * 7
    assert "| **70.0 ± 2.8**\\* |" in table.markdown()
    assert "\\textbf{70.0} $\\pm$ 2.8$^{*}$" in table.latex()
    assert "70.0 ± 2.8*" in table.text()
    assert table.as_dict()["rows"][1]["cells"][0]["mark"] == "*"
    assert "*" not in table.csv()
    assert not any(
        cell.mark for row in main_table(evaluation(), "valid").rows for cell in row.cells
    )


def test_the_notes_say_how_differences_were_tested():
    notes = difference_sentences(evaluation())
    assert notes[0].startswith(
        "The mark * tells of a difference from base with a Holm-corrected p below 0.05: 2 of 4 "
        "differences, by a paired bootstrap of 1,000 resamples"
    )
    assert notes[1] == "A sign-flip test over 2 seeds is not possible: its smallest p is 0.5."
    assert set(notes) <= set(table_notes(evaluation()))
    too_few = difference_sentences(evaluation(smallest_holm_p=0.2, resamples=40))
    assert "no corrected p of 4 differences can be below 0.2, so none can be marked" in too_few[1]
    assert difference_sentences(sweep_summary()) == []


def test_the_table_of_differences_shows_points_intervals_and_p_values():
    table = difference_table(evaluation())
    assert table.shown[0] == (
        "makam − base",
        "makam",
        "roc auc",
        "+8.00",
        "+8.00",
        "+7.00 to +9.00",
        "+6.80 to +9.10",
        "0.002",
        "0.008*",
        "not possible",
    )
    assert table.shown[3][1:5] == ("average", "mean", "+2.00", "+2.00")
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    assert float(rows[0]["bca_low"]) == pytest.approx(0.068)
    assert (rows[3]["task"], rows[3]["average"]) == ("", "all")
    assert rows[0]["sign_flip_p"] == "not possible"
    assert table.latex().count("\\\\") == 5
    assert len(table.text().splitlines()) == 5
    unknown = entry("makam", "makam", "roc_auc", 0.0, 1.0)
    unknown |= {"percentile": None, "bca": None, "p": None, "holm_p": None}
    assert difference_table(evaluation(entries=[unknown])).shown[0][5:9] == ("not possible",) * 4
    assert difference_table(sweep_summary()) is None


def test_no_mark_where_the_means_over_seeds_say_the_opposite():
    astray = entry("makam", "makam", "roc_auc", 0.08, 0.008, mean_of_seeds=-0.01)
    summary = evaluation(entries=[astray])
    assert not any(cell.mark for cell in main_table(summary).rows[1].cells)
    assert difference_table(summary).shown[0][3:5] == ("-1.00", "+8.00")
    notes = difference_sentences(summary)
    assert "0 of 1 differences" in notes[0]
    assert notes[1].startswith("In 1 of 1 differences the mean over seeds and the scores averaged")


def test_labels_stand_by_category_below_their_mean():
    table = label_table(evaluation(), "makam")
    assert table.heads == ("category", "label", "base ROC", "base AP", "makam ROC", "makam AP")
    assert [row[:2] for row in table.shown] == [
        ("makam", "mean of 1"),
        ("makam", "makam--<hicaz>"),
        ("usul", "mean of 1"),
        ("usul", "usul--aksak"),
    ]
    assert table.shown[0][2:] == ("62.0", "42.0", "70.0", "52.0")
    assert by_category(["b", "raga--x", "a", "form--y"]) == {
        "": ["a", "b"],
        "form": ["form--y"],
        "raga": ["raga--x"],
    }


def mixed():
    """Return an evaluation whose second task is a key task."""
    summary = evaluation()
    for row in summary["rows"]:
        for split in ("valid", "test"):
            of_task = row["scores"]["western"][split]
            row["scores"]["western"][split] = {"weighted_score": of_task["roc_auc"]}
        row["labels"]["western"] = {
            "key--C major": {"weighted_score": row["scores"]["western"]["test"]["weighted_score"]}
        }
    return summary


def test_tasks_of_other_kinds_have_their_own_columns_and_panels(tmp_path):
    table = main_table(mixed())
    titles = [(column.group, column.title) for column in table.columns[:3]]
    assert titles == [("makam", "ROC"), ("makam", "AP"), ("western", "Key")]
    assert "averages are taken over all columns of all tasks" in table_notes(mixed())[0]
    drawn = write_score_figure(mixed(), tmp_path)[1]
    assert drawn.read_text(encoding="utf-8").startswith("<?xml")
    report = write_report(tmp_path / "report.html", mixed()).read_text(encoding="utf-8")
    assert "key--C major" in report
    assert '<th scope="row">makam − base</th><td>makam</td><td>roc auc</td><td>+8.00</td>' in report


def test_all_files_are_written_and_the_same_again(tmp_path):
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        write_tables(mixed(), folder)
    names = sorted(path.name for path in folders[0].iterdir())
    assert names == [
        *("differences.csv", "differences.tex", "labels.csv", "labels.md", "scores.pdf"),
        *(
            "scores.png",
            "scores.svg",
            "table.csv",
            "table.json",
            "table.md",
            "table.tex",
            "table.txt",
        ),
        *("transfer.csv", "transfer.pdf", "transfer.png", "transfer.svg"),
    ]
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    held = json.loads((folders[0] / "table.json").read_text(encoding="utf-8"))
    assert held["differences"][0]["holm_p"] == 0.008
    rows = list(csv.DictReader(io.StringIO((folders[0] / "labels.csv").read_text("utf-8"))))
    assert {row["metric"] for row in rows} == {"roc_auc", "average_precision", "weighted_score"}
    assert "| makam − base |" in (folders[0] / "table.md").read_text(encoding="utf-8")
    assert "\nmakam − base " in (folders[0] / "table.txt").read_text(encoding="utf-8")


def test_one_model_has_neither_differences_nor_a_transfer_matrix(tmp_path):
    summary = mixed()
    summary["rows"] = summary["rows"][:1]
    del summary["differences"]
    write_tables(summary, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert not names & {"differences.csv", "transfer.csv"}


def test_equal_models_can_be_drawn(tmp_path):
    summary = evaluation()
    summary["rows"][1] = {**summary["rows"][0], "name": "same"}
    assert len(write_transfer_figure(summary, tmp_path)) == 4
