"""Searches, label-free λ and λ of similarity in whole sweeps of small models."""

import json

import pytest
from pretraining import make_base, make_corpus, make_recipe
from probing import sweep_recipe, write_corpus
from pydantic import ValidationError
from small_models import folder_bytes

from mergekit_audio import pretrain, similarity
from mergekit_audio.errors import InputError
from mergekit_audio.lock import read_lock, verify
from mergekit_audio.probe.ledger import Ledger
from mergekit_audio.recipe.load import from_dict, load
from mergekit_audio.recipe.sweep import SweepRecipe
from mergekit_audio.sweep import sweep

STAGE = {"name": "only", "train": ["*"], "steps": 6, "peak_lr": 2e-3}
LABEL_FREE = {
    "minutes": 0.05,
    "crop_s": 0.5,
    "batch_size": 2,
    "rounds": 2,
    "num_threads": 1,
    "spaces": ["shared", "per_culture"],
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A base with heads and two cultures trained from it, corpora with labels, token distances."""
    root = tmp_path_factory.mktemp("search")
    make_base(root / "start")
    for place, name in enumerate(("makam", "lyra", "western")):
        make_corpus(root / "audio" / name, seed=place + 1)
    own = {"replay": None, "stages": [STAGE], "store": "store"}
    plans = [make_recipe(base="start", corpus="audio/western", output="models/base", **own)]
    plans += [
        make_recipe(base="models/base", corpus=f"audio/{name}", output=f"models/{name}", **own)
        for name in ("makam", "lyra")
    ]
    for recipe in plans:
        pretrain.run(pretrain.plan(recipe, root))
    write_corpus(root / "corpora" / "tones", seed=1)
    write_corpus(root / "corpora" / "west", seed=2)
    compared = from_dict(
        {
            "kind": "similarity",
            "corpora": [
                {"name": name, "corpus": f"audio/{name}", "western": name == "western"}
                for name in ("makam", "lyra", "western")
            ],
            "teacher": json.loads((root / "models/base/cmerge.lock.json").read_text())["recipe"][
                "teachers"
            ][0],
            "fitted": "models/base",
            "resamples": 20,
            "store": "store",
            "output": "similar",
        },
        root,
    )
    similarity.run(similarity.plan(compared, root))
    return root


def swept(root, **changes):
    recipe = sweep_recipe(root, store="store", resamples=0, **changes)
    sweep(recipe, root)
    folder = root / recipe.output
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def rows_of(summary, kind):
    return {row["name"]: row for row in summary["rows"] if row["kind"] == kind}


def test_label_free_and_similarity_are_rows_with_test_scores(world):
    summary = swept(
        world,
        output="free",
        label_free={**LABEL_FREE, "corpora": {"hum": "audio/makam", "west": "corpora/west"}},
        similarity={"results": "similar", "targets": ["western"]},
    )
    free = rows_of(summary, "label_free")
    assert list(free) == ["label-free (shared)", "label-free (per culture)"]
    alike = rows_of(summary, "similarity")
    assert list(alike) == ["similarity (western)"]
    for row in [*free.values(), *alike.values()]:
        assert all("test" in held for held in row["scores"].values())
    assert sum(alike["similarity (western)"]["scales"].values()) == pytest.approx(1.0)
    shared = set(free["label-free (shared)"]["scales"].values())
    assert len(shared) == 1
    facts = summary["label_free"]
    assert len(facts["curve"]) == 11
    assert set(facts["curve"][0]["losses"]) == {"hum", "west"}
    assert any("Label-free λ, shared: makam" in note for note in summary["notes"])
    table = (world / "free" / "table.md").read_text(encoding="utf-8")
    assert "label-free (per culture)" in table
    assert "similarity (western)" in table
    assert (world / "free" / "label_free.png").stat().st_size > 1000
    assert verify(world / "free") == []
    inputs = {each.name: each for each in read_lock(world / "free").inputs}
    assert {"heads.safetensors", "model.safetensors"} <= set(inputs["base"].files)
    assert "teachers/residual_kmeans.safetensors" in inputs["base"].files


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ("audio/makam/track0.wav", "label_free.hum (audio/makam) track0.wav"),
        ("similar/summary.json", "similarity (similar) summary.json"),
    ],
)
def test_verify_notices_what_labels_were_replaced_by(world, changed, told):
    path = world / changed
    before = path.read_bytes()
    path.write_bytes(before + b" ")
    try:
        assert [each.what for each in verify(world / "free")] == ["input"]
        assert told in str(verify(world / "free")[0])
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("sampler", ["quadratic", "greedy", "tpe"])
def test_a_search_adds_trials_to_the_results(world, sampler):
    if sampler == "tpe":
        pytest.importorskip("optuna")
    search = {"sampler": sampler, "trials": 4}
    summary = swept(world, output=f"found_{sampler}", space="per_culture", search=search)
    trials = summary["search"]["trials"]
    names = [row["name"] for row in summary["rows"]]
    assert len(names) == len(set(names))
    assert {trial["row"] for trial in trials} <= set(names)
    assert len(trials) >= 5
    lines = (world / f"found_{sampler}" / "results.jsonl").read_text().splitlines()
    points = [(json.loads(e)["model"], json.loads(e)["task"], json.loads(e)["seed"]) for e in lines]
    assert len(points) == len(set(points))
    best = max(trials, key=lambda trial: trial["values"][0])
    chosen = summary["selection"]["curve"]
    top = max(point["valid"]["mean"] for point in chosen)
    assert best["values"][0] == pytest.approx(100 * top, abs=1e-6)
    mixture = summary["suggested_mixture"]
    assert mixture["row"] == summary["selection"]["row"]
    if "recipe" in mixture:
        path = world / f"found_{sampler}" / mixture["recipe"]
        assert load(path, kind="train").recipe.culture == "multi"
        assert any(
            "Suggested mixture for `cmerge train-multi`" in note for note in summary["notes"]
        )


def test_a_search_on_two_goals_has_a_front(world):
    pytest.importorskip("optuna")
    search = {"sampler": "nsga", "trials": 4}
    summary = swept(world, output="front", space="per_culture", search=search)
    found = summary["search"]
    assert found["goals"] == ["mean(non_western)", "mean(western)"]
    values = [tuple(each["values"]) for each in found["pareto_front"]]
    assert values == sorted(values)
    assert all(
        not (other[0] >= one[0] and other[1] >= one[1] and other != one)
        for one in values
        for other in [tuple(each["values"]) for each in found["trials"]]
    )
    assert found["split"] == "valid"
    tested = {
        row["name"]
        for row in summary["rows"]
        if all("test" in held for held in row["scores"].values())
    }
    average = {row["name"] for row in summary["rows"] if row["weight_average"]}
    chosen = summary["selection"]["row"]
    assert tested == {"base", "makam", "lyra", chosen} | average


def test_a_killed_search_goes_on_to_the_same_bytes(world, monkeypatch):
    changes = {"space": "per_culture", "search": {"sampler": "quadratic", "trials": 3}}
    swept(world, output="whole", **changes)

    class KilledError(Exception):
        pass

    append = Ledger.append

    def killing(self, line):
        append(self, line)
        if len(self._by_name) == 14:
            raise KilledError

    monkeypatch.setattr(Ledger, "append", killing)
    with pytest.raises(KilledError):
        swept(world, output="halves", **changes)
    monkeypatch.setattr(Ledger, "append", append)
    swept(world, output="halves", **changes)
    whole, halves = (folder_bytes(world / name) for name in ("whole", "halves"))
    for name in ("results.jsonl", "summary.json", "table.md"):
        assert halves[name] == whole[name], name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": {"trials": 0}}, "greater than 0"),
        ({"search": {"sampler": "nsga"}, "tasks": [0]}, "all are of one kind"),
        ({"label_free": {"rounds": 0}}, "greater than 0"),
    ],
)
def test_what_no_recipe_says(world, changes, message):
    value = sweep_recipe(world).model_dump(mode="json")
    if changes.get("tasks"):
        changes = {**changes, "tasks": value["tasks"][:1]}
    with pytest.raises(ValidationError, match=message):
        SweepRecipe.model_validate({**value, **changes})


def test_similarity_of_other_corpora_is_refused(world):
    with pytest.raises(InputError, match="no λ for the cultures makam, lyra and the targets mars"):
        swept(world, output="no", similarity={"results": "similar", "targets": ["mars"]})
    with pytest.raises(InputError, match=r"nowhere.summary\.json: No such file"):
        swept(world, output="no", similarity={"results": "nowhere"})
    assert not (world / "no").exists()
