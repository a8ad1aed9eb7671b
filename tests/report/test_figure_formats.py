"""Every figure is there as PNG, SVG and PDF with its data as CSV, and is the same every time."""

import csv
import io

import pytest
from report_cases import told_label_free, told_landscape, told_similarity, told_sweep

from mergekit_audio.report.data import points_csv, trials_csv, write_data
from mergekit_audio.report.evaluation import write_tables
from mergekit_audio.report.label_free_figure import write_label_free_figure
from mergekit_audio.report.similarity_figure import write_similarity_figure


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_formats_repeat_and_hold_no_date(tmp_path):
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        write_label_free_figure(told_label_free(), folder)
        write_similarity_figure(told_similarity(), folder)
    for stem in ("label_free", "similarity"):
        for kind in ("png", "svg", "pdf"):
            one, two = (
                (tmp_path / name / f"{stem}.{kind}").read_bytes() for name in ("one", "two")
            )
            assert one == two
            assert b"CreationDate" not in one
            assert b"dc:date" not in one
    lines = read((tmp_path / "one" / "label_free.csv").read_text(encoding="utf-8"))
    assert [float(line["loss"]) for line in lines] == [4.0, 4.5, 5.0]
    assert float(lines[2]["loss west"]) == 6.0


def test_a_sweeps_tables_bring_all_formats_and_the_curve(tmp_path):
    write_tables(told_sweep(), tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {
        f"{stem}.{kind}" for stem in ("scores", "transfer") for kind in ("png", "svg", "pdf")
    } <= names
    lines = read((tmp_path / "curve.csv").read_text(encoding="utf-8"))
    assert [line["point"] for line in lines] == ["base", "λ = 0.25", "λ = 0.5", "λ = 1"]
    chosen = lines[1]
    assert (chosen["scale λ"], chosen["chosen"], chosen["in_band"]) == ("0.25", "True", "True")
    assert float(chosen["goal valid mean"]) == pytest.approx(0.6475)
    assert float(chosen["makam roc_auc test"]) == pytest.approx(0.72)
    assert (float(lines[3]["low"]), float(lines[3]["high"])) == (0.1, 0.2)


def test_a_landscape_has_a_column_for_each_scale_and_its_trials(tmp_path):
    written = write_data(told_landscape(), tmp_path)
    assert [path.name for path in written] == ["landscape.csv", "trials.csv"]
    lines = read(points_csv(told_landscape()))
    assert len(lines) == 9
    assert (lines[5]["scale makam"], lines[5]["scale lyra"]) == ("0.5", "1.0")
    trials = read(trials_csv(told_landscape()))
    assert [trial["on_front"] for trial in trials].count("True") == 3
    assert float(trials[8]["mean(non_western)"]) == pytest.approx(55.5)
    assert write_data({"rows": []}, tmp_path) == []
