import shutil

import pytest
from pretraining import make_corpus, make_project, make_recipe

from mergekit_audio import pretrain
from mergekit_audio.audio.corpus import Track, write_manifest
from mergekit_audio.errors import InputError
from mergekit_audio.pretrain.checks import declared_culture


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("checks"))


def manifest(path, rows):
    write_manifest(path, [Track(id=i, path=p, **more) for i, p, more in rows])
    return path.name


def test_a_missing_replay_is_named_by_its_key(root):
    with pytest.raises(InputError, match=r"^replay: .*nowhere: no such file or folder") as caught:
        pretrain.plan(make_recipe(replay="nowhere"), root)
    assert "the recipe names it in `replay`" in caught.value.hint


def test_the_same_file_bytes_or_id_may_not_be_trained_on(root):
    copies = root / "copies"
    copies.mkdir()
    shutil.copyfile(root / "makam" / "track1.wav", copies / "renamed.wav")
    kept = manifest(
        root / "kept.jsonl",
        [
            ("a", copies / "renamed.wav", {"split": "test"}),
            ("b", root / "western" / "track0.wav", {"split": "valid"}),
            ("c", root / "makam" / "track2.wav", {"split": "train"}),
        ],
    )
    with pytest.raises(InputError, match="kept for probing would be trained on") as caught:
        pretrain.plan(make_recipe(avoid=[kept]), root)
    lines = caught.value.message.splitlines()[1:]
    assert lines == [
        "  corpus.makam: track1 is a of kept.jsonl (the same bytes)",
        "  replay: track0 is b of kept.jsonl (the same file)",
    ]


def test_ids_count_between_manifests_and_only_what_trains(root):
    train = manifest(
        root / "train.jsonl",
        [
            ("x", root / "makam" / "track0.wav", {"split": "train"}),
            ("y", root / "makam" / "track1.wav", {"split": "test"}),
        ],
    )
    same = manifest(root / "same.jsonl", [("x", root / "western" / "track3.wav", {})])
    test = manifest(root / "test.jsonl", [("y", root / "makam" / "track1.wav", {})])
    with pytest.raises(InputError, match=r"corpus.makam: x is x of same\.jsonl \(the same id\)"):
        pretrain.plan(make_recipe(corpus=train, replay=None, avoid=[same], stages=ONE), root)
    pretrain.plan(make_recipe(corpus=train, replay=None, avoid=[test], stages=ONE), root)


ONE = [{"name": "a", "train": ["*"], "steps": 1, "peak_lr": 1e-3}]


def test_windows_of_a_file_that_do_not_meet_are_different(root):
    path = root / "makam" / "track0.wav"
    train = manifest(root / "first.jsonl", [("one", path, {"start_s": 0.0, "end_s": 0.8})])
    for start, overlaps in ((0.8, False), (0.7, True)):
        kept = manifest(root / "then.jsonl", [("two", path, {"start_s": start, "end_s": 1.6})])
        recipe = make_recipe(corpus=train, replay=None, avoid=[kept], stages=ONE)
        if overlaps:
            with pytest.raises(InputError, match="the same file"):
                pretrain.plan(recipe, root)
        else:
            pretrain.plan(recipe, root)


def test_many_overlaps_are_counted(root):
    with pytest.raises(InputError, match="  and 3 more"):
        pretrain.plan(make_recipe(avoid=["makam", "western"]), root)


def test_a_corpus_of_another_culture_is_a_loud_note(root):
    make_corpus(root / "declared")
    (root / "declared" / "README.md").write_text("---\nlicense: x\nculture: 'carnatic'\n---\n")
    recipe = make_recipe(corpus="declared", stages=ONE, replay=None)
    assert (
        "warning: corpus.makam (declared) declares the culture 'carnatic'"
        in pretrain.plan(recipe, root).notes
    )
    recipe = make_recipe(culture="Carnatic", corpus="declared", replay="declared")
    notes = pretrain.plan(recipe, root).notes
    assert [note for note in notes if note.startswith("warning")] == [
        "warning: replay (declared) declares the culture 'carnatic', which is what the model "
        "learns; replay is to keep what it knew before"
    ]


def test_our_own_corpora_declare_their_culture(tmp_path):
    (tmp_path / "checksums.jsonl").write_text('{"corpus": "synthetic", "culture": "lyra"}\n')
    assert declared_culture(tmp_path / "manifest.jsonl") == "lyra"
    (tmp_path / "checksums.jsonl").write_text("{\n")
    assert declared_culture(tmp_path) is None
    assert declared_culture(tmp_path / "nothing") is None


def test_more_hours_than_there_are_warn_when_the_training_begins(tmp_path):
    root = make_project(tmp_path)
    stage = ONE[0] | {"mixture": [{"dataset": "makam", "hours": 200}]}
    events = []
    pretrain.run(pretrain.plan(make_recipe(stages=[stage]), root), progress=events.append)
    expected = "warning: stage 'a' asks for 200 h of makam, which holds 0.00 h: all of it is used"
    assert expected in [event.note for event in events]


def test_parameters_by_group(root):
    first, second = pretrain.plan(make_recipe(), root).as_dict()["stages"]
    assert list(first["trainable_by_group"]) == ["front"]
    assert sum(second["trainable_by_group"].values()) == second["trainable_parameters"]
    assert {"front", "projection", "mask", "position", "norm", "encoder", "heads.cqt"} == set(
        second["trainable_by_group"]
    )
