"""`cmerge similarity`, from recipe to rebuilt folder."""

import json

import pytest
import yaml
from pretraining import TEACHERS, make_corpus, make_project, make_recipe

from mergekit_audio import pretrain

RECIPE = {
    "kind": "similarity",
    "corpora": [
        {"name": "makam", "corpus": "makam"},
        {"name": "lyra", "corpus": "lyra"},
        {"name": "western", "corpus": "western", "western": True},
    ],
    "teacher": TEACHERS[0],
    "fitted": "out",
    "resamples": 50,
    "store": "store",
    "output": "similar",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = make_project(tmp_path_factory.mktemp("similarity"))
    make_corpus(root / "lyra", seed=3)
    stages = [{"name": "only", "train": ["*"], "steps": 1, "peak_lr": 1e-3}]
    pretrain.run(pretrain.plan(make_recipe(stages=stages), root))
    return root


@pytest.fixture
def write(trained, monkeypatch):
    monkeypatch.chdir(trained)

    def write(**changes):
        text = yaml.safe_dump(RECIPE | changes)
        (trained / "similarity.yaml").write_text(text, encoding="utf-8")

    return write


def test_from_recipe_to_rebuilt_folder(cmerge, trained, write):
    write()
    dry = json.loads(cmerge("similarity", "similarity.yaml", "--dry-run", "--json", "-q").out)
    assert [each["tracks"] for each in dry["corpora"]] == [4, 4, 4]
    assert not (trained / "similar").exists()
    done = cmerge("similarity", "similarity.yaml")
    assert done.code == 0
    assert "Suggested λ" in done.out
    assert "compared 3 corpora by tokens of residual_kmeans" in done.err
    summary = json.loads((trained / "similar" / "summary.json").read_text(encoding="utf-8"))
    found = summary["measures"]["jensen_shannon"]
    assert all(0 < found["values"][i][j] <= 1 for i, j in ((0, 1), (0, 2), (1, 2)))
    targets = summary["suggested_scales"]["targets"]
    assert set(targets) == {"makam", "lyra", "western"}
    assert set(targets["western"]) == {"makam", "lyra"}
    for name in ("similarity.png", "similarity.svg", "jensen_shannon.csv", "cosine.csv"):
        assert (trained / "similar" / name).stat().st_size > 0
    assert cmerge("verify", "similar", "--rebuild").code == 0


def test_gains_of_an_evaluation_are_correlated(cmerge, trained, write):
    scores = {"makam": 0.5, "lyra": 0.5, "western": 0.6}
    rows = [
        {
            "name": name,
            "scores": {
                task: {"test": {"roc_auc": {"mean": value + add * i}}}
                for i, (task, value) in enumerate(scores.items())
            },
        }
        for name, add in (("base", 0.0), ("makam", 0.01), ("lyra", -0.02))
    ]
    (trained / "scored").mkdir(exist_ok=True)
    (trained / "scored" / "summary.json").write_text(json.dumps({"rows": rows}), "utf-8")
    write(gains={"results": "scored"}, output="with_gains", codebooks=[1], tracks=3)
    done = cmerge("similarity", "similarity.yaml", "--json", "-q")
    told = json.loads(done.out)["summary"]
    assert [each["tracks"] for each in told["corpora"]] == [3, 3, 3]
    assert told["codebooks"] == 1
    pairs = {(each["culture"], each["corpus"]): each["gain"] for each in told["gains"]["pairs"]}
    assert pairs[("makam", "western")] == pytest.approx(0.02)
    assert len(pairs) == 4


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"fitted": None}, 4, "has to be fitted, and `fitted` names no model folder"),
        ({"fitted": "base"}, 4, "residual_kmeans.safetensors: there is no such file"),
        ({"codebooks": [0, 9]}, 4, "codebooks: 9 does not exist"),
        ({"split": "test"}, 4, "0 of 4 tracks are of the split test usable"),
        ({"teacher": {"name": "cqt"}}, 3, "teacher cqt makes no codes"),
        ({"gains": {"results": "nowhere"}}, 4, "nowhere/summary.json: there is no such file"),
        ({"temperature": 0}, 3, "greater than 0"),
    ],
)
def test_what_is_refused(cmerge, trained, write, changes, code, message):
    write(**{"output": "refused", **changes})
    done = cmerge("similarity", "similarity.yaml", "-q")
    assert done.code == code
    assert message in done.err
    assert not (trained / "refused").exists()
