"""The shipped demo of all protocols runs on the synthetic corpora with a tiny model."""

import json
import shutil

import pytest
from probing import write_models

from mergekit_audio.datasets.synthetic import Synthetic
from mergekit_audio.probe.run import evaluate, plan
from mergekit_audio.recipe.load import load
from mergekit_audio.recipe.shipped import shipped_recipe

SMALL = ["seeds=[0]", "resamples=20", "tasks[2].protocol.max_epochs=2"]
SMALL += ["tasks[3].protocol.max_steps=20"]


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    root = tmp_path_factory.mktemp("protocols")
    for culture in ("makam", "western"):
        Synthetic(culture=culture, tracks=30, duration_s=1.5).write(root / "data" / culture)
    write_models(root, ("multi",))
    (root / "models").rename(root / "runs")
    shutil.copy(shipped_recipe("evaluate/protocols_demo"), root / "protocols_demo.yaml")
    loaded = load(root / "protocols_demo.yaml", SMALL)
    planned = plan(loaded.recipe, loaded.root).as_dict()
    assert planned["points"] == 14
    assert planned["tasks"][1]["protocol"]["aggregate"] == "mean_logit"
    evaluate(loaded.recipe, loaded.root)
    return json.loads((root / "runs" / "protocols" / "summary.json").read_text(encoding="utf-8"))


def test_every_protocol_is_recorded_whole_with_every_result(summary):
    protocols = {task["name"]: task["protocol"] for task in summary["tasks"]}
    assert [protocol["preset"] for protocol in protocols.values()] == [
        "culturemert", "marble-v1", "marble-grid", "petl-probe", "screen", "marble-v1", "screen",
    ]  # fmt: skip
    assert protocols["petl-probe"]["dropout_place"] == "before_relu"
    assert any("the paper leaves open: layer, overlap" in note for note in summary["notes"])
    assert any("`petl-probe`, with its own layer, max_steps" in note for note in summary["notes"])


def test_the_grid_tries_each_layer_with_each_rate(summary):
    for row in summary["rows"]:
        candidates = row["choices"]["marble-grid"]["candidates"]
        assert len(candidates) == 4 * 6  # three hidden states and their sum
        assert len(row["choices"]["screen"]["candidates"]) == 4


def test_labels_are_summed_up_by_category(summary):
    categories = summary["rows"][0]["categories"]["culturemert"]
    assert {"instrument", "makam", "usul"} <= set(categories)
    labels = summary["rows"][0]["labels"]["culturemert"]
    of_makam = [each["roc_auc"]["mean"] for name, each in labels.items() if "makam--" in name]
    assert categories["makam"]["labels"] == len(of_makam)
    assert categories["makam"]["roc_auc"]["mean"] == pytest.approx(sum(of_makam) / len(of_makam))


def test_tables_have_a_column_for_each_kinds_metric(summary):
    row = summary["rows"][0]
    assert list(row["scores"]["scale"]["test"]) == ["accuracy"]
    assert list(row["scores"]["screen"]["test"]) == [
        "roc_auc",
        "average_precision",
    ]
