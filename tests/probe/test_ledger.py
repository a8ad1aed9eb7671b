"""The results file keeps whole lines, drops a torn last one, and refuses what is not its own."""

import errno

import pytest
from checkpoints import make_mert_checkpoint
from probing import CONFIG, write_corpus

from mergekit_audio.audio.store import Store
from mergekit_audio.backbones.mert import Mert
from mergekit_audio.errors import InputError
from mergekit_audio.probe import embedding, features
from mergekit_audio.probe.encoders import FrozenEncoder
from mergekit_audio.probe.ledger import Ledger
from mergekit_audio.recipe.evaluate import Protocol
from mergekit_audio.weights.checkpoint import Checkpoint


def line(model, seed):
    return {"model": model, "model_key": "k", "task_digest": "t", "seed": seed, "score": 0.1 + seed}


def test_points_are_found_by_row_and_by_content(tmp_path):
    path = tmp_path / "new" / "results.jsonl"
    ledger = Ledger(path)
    ledger.append(line("base", 0))
    ledger.append(line("λ = 1", 1))
    again = Ledger(path)
    assert again.find("base", ("k", "t", 0)) == line("base", 0)
    assert again.find("makam", ("k", "t", 0)) is None
    assert again.find_content(("k", "t", 1)) == line("λ = 1", 1)
    assert path.read_text(encoding="utf-8").count("\n") == 2


def test_tasks_of_the_same_content_are_told_apart(tmp_path):
    ledger = Ledger(tmp_path / "results.jsonl")
    ledger.append({**line("base", 0), "task": "one"})
    assert ledger.find("base", ("k", "t", 0), "one")["task"] == "one"
    assert ledger.find("base", ("k", "t", 0), "other") is None
    assert ledger.find_content(("k", "t", 0))["task"] == "one"


@pytest.mark.parametrize("torn", [b'{"model": "la', b"{", '{"model": "λ'.encode()[:-1]])
def test_a_torn_last_line_is_dropped(tmp_path, torn):
    path = tmp_path / "results.jsonl"
    Ledger(path).append(line("base", 0))
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    ledger = Ledger(path)
    assert path.read_bytes() == whole
    ledger.append(line("base", 1))
    assert Ledger(path).find("base", ("k", "t", 1)) == line("base", 1)


def test_a_line_that_is_no_result_is_refused_with_its_number(tmp_path):
    path = tmp_path / "results.jsonl"
    Ledger(path).append(line("base", 0))
    path.write_bytes(path.read_bytes() + b'{"model": "base"}\n')
    with pytest.raises(InputError, match=r"results\.jsonl:2: not a line of results"):
        Ledger(path)


def test_a_full_disk_is_said_and_leaves_no_half_written_features(tmp_path, monkeypatch):
    model = make_mert_checkpoint(tmp_path / "model", overrides=CONFIG)
    corpus = Store(tmp_path / "store").prepare(write_corpus(tmp_path / "corpus", tracks=5))
    encoder = FrozenEncoder.of_checkpoint(Checkpoint.open(str(model)), Mert())

    def full(function, items, workers):
        yield function(items[0])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(embedding, "ordered_map", full)
    cache = tmp_path / "cache"
    with pytest.raises(InputError, match="no space left on the device"):
        features.extract(encoder, corpus, Protocol(chunk_s=0.5), cache)
    assert not [path for path in cache.rglob("*") if path.suffix != ".json" and path.is_file()]
