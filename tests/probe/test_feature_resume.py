"""A killed extraction goes on behind its last finished batch, to the same bytes."""

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from checkpoints import make_mert_checkpoint
from forking import Forked
from probing import CONFIG, write_corpus

from mergekit_audio.audio.store import Store
from mergekit_audio.backbones.mert import Mert
from mergekit_audio.errors import InputError
from mergekit_audio.probe.embedding import Embedder
from mergekit_audio.probe.encoders import FrozenEncoder
from mergekit_audio.probe.features import extract
from mergekit_audio.probe.row_file import open_row_file, unfinished_rows
from mergekit_audio.recipe.protocols import Protocol
from mergekit_audio.weights.checkpoint import Checkpoint

PROTOCOL = Protocol(chunk_s=0.25)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("resume")
    make_mert_checkpoint(root / "model", overrides=CONFIG, seed=0)
    write_corpus(root / "corpus", tracks=10)
    return root


def embed(root, cache, told=lambda event: None, workers=1, corpus="corpus"):
    encoder = FrozenEncoder.of_checkpoint(Checkpoint.open(f"{root}/model"), Mert())
    prepared = Store(Path(root) / "store").prepare(Path(root) / corpus)
    return extract(encoder, prepared, PROTOCOL, Path(cache), told, workers)


def embed_a_part(tell, root, cache):
    """Say so when some rows are done, and never do the others."""

    def told(event):
        if event.done >= 12:
            tell("stuck")
            threading.Event().wait()

    embed(root, cache, told)


def content(cache):
    return {
        path.name: path.read_bytes() for path in sorted(Path(cache).rglob("*")) if path.is_file()
    }


def counted(monkeypatch):
    rows = []
    own = Embedder._batch

    def batch(self, batch_rows, bfloat16):
        rows.extend(batch_rows)
        return own(self, batch_rows, bfloat16)

    monkeypatch.setattr(Embedder, "_batch", batch)
    return rows


def test_after_a_kill_only_missing_rows_are_computed(world, tmp_path, monkeypatch):
    """By another number of workers than before the kill."""
    embed(world, tmp_path / "whole")
    cache = tmp_path / "killed"
    process = Forked(embed_a_part, world, cache)
    assert process.line() == "stuck"
    process.kill()
    done = journal_lines(cache)
    assert 5 <= done < 40
    rows = counted(monkeypatch)
    embed(world, cache, workers=3)
    assert sorted(rows) == list(range(done, 40))
    assert content(cache) == content(tmp_path / "whole")


def journal_lines(cache):
    return sum(path.read_bytes().count(b"\n") for path in Path(cache).rglob("*.journal"))


class StoppedError(Exception):
    """What a test raises in the middle of an extraction."""


def stop_after(cache, world, rows, corpus="corpus"):
    def told(event):
        if event.done == rows:
            raise StoppedError

    with pytest.raises(StoppedError):
        embed(world, cache, told, corpus=corpus)


def test_rows_that_a_power_cut_spoilt_are_computed_again(world, tmp_path, monkeypatch):
    embed(world, tmp_path / "whole")
    cache = tmp_path / "cut"
    stop_after(cache, world, 9)
    (journal,) = cache.rglob("*.journal")
    part = journal.with_suffix(".part")
    with open(part, "r+b") as stream:
        stream.seek(128 + 6 * 3 * 16 * 4)
        stream.write(bytes(64))
    with open(journal, "ab") as stream:
        stream.write(b'{"rows": 10, "crc')
    rows = counted(monkeypatch)
    embed(world, cache)
    assert rows == list(range(6, 40))
    assert content(cache) == content(tmp_path / "whole")


def test_an_unfinished_corpus_gives_its_rows_to_another(world, tmp_path, monkeypatch):
    """A track was taken out of the manifest after an error: the others are not computed again."""
    stop_after(tmp_path, world, 21)
    folder = write_corpus(world / "fewer", tracks=10)
    manifest = folder / "manifest.jsonl"
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(lines[:5] + lines[6:]))
    rows = counted(monkeypatch)
    found = embed(world, tmp_path, corpus="fewer")
    assert rows == list(range(20, 36))
    whole = embed(world, tmp_path / "whole", corpus="fewer")
    np.testing.assert_array_equal(found.values, whole.values)
    assert [path.suffix for path in tmp_path.rglob("*.part")] == [".part"]  # it has rows of its own


def test_rows_of_an_unfinished_corpus_are_removed_when_all_are_elsewhere(world, tmp_path):
    stop_after(tmp_path, world, 4)
    folder = write_corpus(world / "same", tracks=10)
    (folder / "manifest.jsonl").write_text(
        "".join((folder / "manifest.jsonl").read_text().splitlines(keepends=True)[:6])
    )
    found = embed(world, tmp_path, corpus="same")
    names = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert names == [f"{found.key}.json", f"{found.key}.npy"]


def test_a_row_file_is_an_array_that_numpy_reads(tmp_path):
    target = tmp_path / "new" / "rows.npy"
    values = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    with open_row_file(target, (4, 2, 3), "<f4") as rows:
        rows.append(values[:3], [2])
    assert not target.exists()
    found = unfinished_rows(target, (4, 2, 3), "<f4")
    np.testing.assert_array_equal(found, values[:3])
    with open_row_file(target, (4, 2, 3), "<f4") as rows:
        assert (rows.rows, rows.notes) == (3, [2])
        rows.append(values[3:], [])
        rows.finish()
    np.testing.assert_array_equal(np.load(target), values)
    assert [path.name for path in target.parent.iterdir()] == ["rows.npy"]
    assert unfinished_rows(target, (4, 2, 3), "<f4") is None


def test_a_full_disk_is_told_before_anything_is_computed(tmp_path, monkeypatch):
    def full(handle, offset, count):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with (
        pytest.raises(InputError, match="no space left on the device"),
        open_row_file(tmp_path / "rows.npy", (4, 2, 3), "<f4"),
    ):
        pytest.fail("the file was opened")
    assert list(tmp_path.iterdir()) == []


def test_the_index_says_which_chunk_a_row_is(world, tmp_path):
    found = embed(world, tmp_path)
    (path,) = tmp_path.rglob("*.json")
    index = json.loads(path.read_text())
    prepared = Store(world / "store").prepare(world / "corpus")
    assert index["key"] == found.key == path.stem
    assert index["chunks"][0] == [
        prepared.tracks[0].digest,
        [0, 6000],
        [6000, 12_000],
        [12_000, 18_000],
        [18_000, 24_000],
    ]
