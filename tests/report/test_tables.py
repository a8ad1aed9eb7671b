"""The table's numbers are the summary's, worked out by hand here."""

import csv
import io

import pytest
from summaries import sweep_summary

from mergekit_audio.report.tables import main_table, table_notes


def test_rows_and_columns_are_those_of_the_papers_table():
    table = main_table(sweep_summary())
    assert [row.title for row in table.rows] == [
        "base",
        "makam",
        "multi-cultural",
        "weight average (λ = 0.5)",
        "task arithmetic (λ = 0.25)",
    ]
    assert table.groups() == [
        ("makam", 2),
        ("western", 2),
        ("Average", 1),
        ("non-Western", 1),
        ("Western", 1),
    ]


def test_cells_are_percent_with_the_deviation_over_seeds():
    table = main_table(sweep_summary())
    cell = table.rows[0].cells[0]  # base, makam ROC: seeds 0.60 and 0.64
    assert cell.mean == pytest.approx(62.0)
    assert cell.std == pytest.approx(2.8284271)  # 4 / sqrt(2)
    assert cell.text() == "62.0 ± 2.8"
    # average of makam ROC, AP, western ROC, AP of each seed: (60+40+70+50)/4 and (64+44+74+54)/4
    assert table.rows[0].cells[4].mean == pytest.approx(57.0)
    assert table.rows[0].cells[4].std == pytest.approx(2.8284271)


def test_markdown_marks_the_best_of_each_column():
    lines = main_table(sweep_summary()).markdown().splitlines()
    assert lines[0].startswith("| model | makam ROC | makam AP | western ROC |")
    assert lines[2].startswith("| base | 62.0 ± 2.8 | 42.0 ± 2.8 | **72.0 ± 2.8** |")
    assert "**72.0 ± 2.8**" in lines[6]  # the chosen merge is best on makam


def test_csv_reads_back_unrounded():
    rows = list(csv.DictReader(io.StringIO(main_table(sweep_summary()).csv())))
    assert rows[1]["model"] == "makam"
    assert float(rows[1]["makam ROC mean"]) == pytest.approx(70.0, abs=1e-12)
    assert float(rows[1]["makam ROC std"]) == pytest.approx(2.8284271)


def test_latex_is_a_booktabs_tabular():
    text = main_table(sweep_summary(names=("makam_a", "west"))).latex()
    assert text.startswith("\\begin{tabular}{lrrrrrrr}\n\\toprule\n")
    assert "\\multicolumn{2}{c}{makam\\_a}" in text
    assert "task arithmetic ($\\lambda$ = 0.25) & \\textbf{72.0} $\\pm$ 2.8" in text
    assert text.endswith("\\bottomrule\n\\end{tabular}\n")


def test_one_seed_has_no_deviation():
    summary = sweep_summary(seeds=1)
    assert main_table(summary).rows[0].cells[0].text() == "60.0"
    assert "with one probe seed" in table_notes(summary)[0]


def test_notes_name_labels_without_scores_and_what_was_left_out():
    notes = table_notes(sweep_summary())
    assert (
        "makam, test split: 1 of 3 labels without positives are left out of the macro means: "
        "makam--rast." in notes
    )
    assert "makam: 2 tracks without a split are not used." in notes
    assert "makam: 1 recording is left out: a.wav: b." in notes


def test_notes_name_what_can_not_be_learnt():
    summary = sweep_summary()
    task = summary["tasks"][0]
    train = {"train": {"without_positives": ["makam--rast"]}}
    task |= {"unscored": train, "untrained_tags": ["a", "b"]}
    notes = table_notes(summary)
    assert (
        "makam, train split: 1 of 3 labels without positives can't be learnt, but their scores "
        "count: makam--rast." in notes
    )
    assert (
        "makam: 2 tags of validation or test tracks alone can't be learnt and are no label: a, b."
        in notes
    )


def test_an_evaluation_lists_its_models_and_no_merge():
    summary = sweep_summary()
    rows = [
        dict(row, kind="model", scale=None, weight_average=False) for row in summary["rows"][:2]
    ]
    evaluation = {key: summary[key] for key in ("seeds", "tasks")} | {"rows": rows}
    assert [row.title for row in main_table(evaluation).rows] == ["base", "makam"]
    assert len(table_notes(evaluation)) == 5
