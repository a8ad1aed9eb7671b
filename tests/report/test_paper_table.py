"""The averages of the paper's Table 2 come out of its 84 numbers as it prints them."""

import pytest

from mergekit_audio.probe.summary import average
from mergekit_audio.report.tables import main_table
from mergekit_audio.report.transfer_figure import transfer_table

TASKS = ("makam", "hindustani", "carnatic", "lyra", "fma", "mtat")
# ROC and AP of each task, then the printed average (arXiv 2506.17818, Table 2)
TABLE = {
    "MERT-v1": (83.2, 53.3, 82.4, 52.9, 74.9, 39.7, 85.7, 56.5, 90.7, 48.1, 89.6, 35.9, 66.1),
    "MakamMERT": (88.7, 58.8, 84.5, 57.8, 77.6, 42.7, 84.6, 53.2, 90.3, 47.1, 89.0, 35.6, 67.5),
    "CarnaticMERT": (88.4, 58.4, 87.0, 60.2, 78.8, 44.0, 85.4, 55.8, 90.2, 46.7, 89.2, 35.3, 68.3),
    "HindustaniMERT": (
        88.3,
        58.2,
        87.4,
        60.3,
        77.0,
        42.7,
        84.2,
        52.0,
        90.2,
        46.1,
        89.1,
        35.8,
        67.6,
    ),
    "LyraMERT": (86.7, 56.8, 85.9, 57.4, 76.4, 40.1, 85.0, 53.5, 90.0, 46.0, 88.9, 35.1, 66.8),
    "CultureMERT": (89.6, 60.6, 88.2, 63.5, 79.2, 43.1, 86.9, 56.7, 90.7, 48.1, 89.4, 35.9, 69.3),
    "CultureMERT-TA": (
        89.0,
        61.0,
        87.5,
        59.3,
        79.1,
        43.3,
        87.3,
        57.3,
        90.8,
        49.1,
        89.6,
        36.4,
        69.1,
    ),
}


def paper_summary():
    def row(name, numbers):
        scores = {
            task: {
                split: {
                    "roc_auc": spread(numbers[2 * place] / 100),
                    "average_precision": spread(numbers[2 * place + 1] / 100),
                }
                for split in ("valid", "test")
            }
            for place, task in enumerate(TASKS)
        }
        groups = {"all": TASKS, "non_western": TASKS[:4], "western": TASKS[4:]}
        metrics = ("roc_auc", "average_precision")
        means = {
            group: average(scores, members, metrics, "test") for group, members in groups.items()
        }
        return {
            "name": name,
            "kind": "model",
            "scale": None,
            "weight_average": False,
            "scores": scores,
            "averages": {"test": means, "valid": means},
            "labels": {task: {} for task in TASKS},
        }

    tasks = [
        {
            "name": task,
            "western": task in TASKS[4:],
            "labels": [],
            "unscored": {},
            "without_split": 0,
        }
        for task in TASKS
    ]
    rows = [row(name, numbers) for name, numbers in TABLE.items()]
    return {"kind": "evaluate", "seeds": [0], "tasks": tasks, "rows": rows}


def spread(value):
    return {"mean": value, "std": None, "seeds": [value]}


def cell(table, row, column):
    index = [each.group for each in table.columns].index(column)
    return next(each for each in table.rows if each.title == row).cells[index].mean


@pytest.mark.parametrize("model", TABLE)
def test_the_average_of_twelve_numbers_is_the_printed_one(model):
    mean = cell(main_table(paper_summary()), model, "Average")
    assert mean == pytest.approx(TABLE[model][-1], abs=0.05 + 1e-9)


def test_the_non_western_gain_is_4_9_points_and_the_western_one_none():
    table = main_table(paper_summary())
    assert cell(table, "MERT-v1", "non-Western") == pytest.approx(66.075)
    assert cell(table, "CultureMERT", "non-Western") == pytest.approx(70.975)  # +4.9 points
    assert cell(table, "MERT-v1", "Western") == pytest.approx(66.075)
    assert cell(table, "CultureMERT", "Western") == pytest.approx(66.025)  # -0.05
    assert cell(table, "CultureMERT-TA", "Western") == pytest.approx(66.475)  # +0.4


def test_the_layout_is_the_papers():
    table = main_table(paper_summary())
    assert [name for name, _ in table.groups()] == [*TASKS, "Average", "non-Western", "Western"]
    assert [column.title for column in table.columns[:12]] == ["ROC", "AP"] * 6
    lines = table.markdown().splitlines()
    assert lines[2].startswith("| MERT-v1 | 83.2 | 53.3 |")
    assert "| **89.6** | 60.6 | **88.2** | **63.5** |" in lines[7]
    assert "CultureMERT-TA & 89.0 & \\textbf{61.0}" in table.latex()


def test_plain_text_is_aligned_below_the_names_of_the_tasks():
    lines = main_table(paper_summary()).text().splitlines()
    heads, first = lines[1], lines[2]
    assert lines[0].split() == [*TASKS, "Average", "non-Western", "Western"]
    assert heads.split()[:3] == ["model", "ROC", "AP"]
    assert first.index("83.2") + 4 == heads.index("ROC") + 3
    assert all(line == line.rstrip() for line in lines)


def test_the_transfer_matrix_has_each_metric_and_its_difference_from_the_base():
    rows = transfer_table(paper_summary()).as_dicts()
    assert len(rows) == 7 * 6 * 3
    found = {(row["model"], row["task"], row["metric"]): row for row in rows}
    mean = found["MakamMERT", "carnatic", "mean"]
    assert mean["score"] == pytest.approx((0.776 + 0.427) / 2)
    assert mean["difference"] == pytest.approx((0.776 + 0.427 - 0.749 - 0.397) / 2)
    assert found["CultureMERT", "makam", "roc_auc"]["difference"] == pytest.approx(0.064)
