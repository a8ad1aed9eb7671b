"""Digests are remembered as long as a file is untouched, and never against it."""

import os
import time

import pytest
from small_models import family, recipe

from mergekit_audio import merge
from mergekit_audio.lock import read_lock, verify
from mergekit_audio.weights import digest_cache
from mergekit_audio.weights.digest_cache import VARIABLE, DigestCache


@pytest.fixture
def old_file(tmp_path):
    """Return a file that was written ten seconds ago, as the cache sees it."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


@pytest.fixture
def settled(monkeypatch):
    """Let files count as settled at once, so that a test need not wait two seconds."""
    monkeypatch.setattr(digest_cache, "_SETTLED_NS", 0)


def test_what_is_saved_is_known_by_the_next(tmp_path, old_file, settled):
    cache = DigestCache(tmp_path / "memory")
    cache.remember(old_file, sha256="a")
    cache.remember(old_file, tensors={"w": "b"})
    cache.save()
    assert DigestCache(tmp_path / "memory").known(old_file) == {
        "sha256": "a",
        "tensors": {"w": "b"},
    }


@pytest.mark.parametrize("change", ["content", "touch", "replace", "mode"])
def test_a_file_that_was_touched_is_not_known(tmp_path, old_file, settled, change):
    cache = DigestCache(tmp_path / "memory")
    cache.remember(old_file, sha256="a")
    time.sleep(0.02)
    if change == "content":
        status = old_file.stat()
        old_file.write_bytes(b"CONTENT")
        os.utime(old_file, ns=(status.st_atime_ns, status.st_mtime_ns))  # ctime tells
    elif change == "touch":
        os.utime(old_file)
    elif change == "replace":
        (tmp_path / "other").write_bytes(b"content")
        os.replace(tmp_path / "other", old_file)
    else:
        old_file.chmod(0o600)
    assert cache.known(old_file) == {}


def test_a_file_that_was_just_written_is_not_remembered(tmp_path, old_file):
    cache = DigestCache(tmp_path / "memory")
    cache.remember(old_file, sha256="a")
    assert cache.known(old_file) == {}
    cache.save()
    assert not (tmp_path / "memory").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 0, "files": {}}', '{"format": 1}'])
def test_a_damaged_memory_counts_as_none(tmp_path, old_file, settled, text):
    (tmp_path / "digests.json").write_text(text)
    cache = DigestCache(tmp_path)
    assert cache.known(old_file) == {}
    cache.remember(old_file, sha256="a")
    cache.save()
    assert DigestCache(tmp_path).known(old_file) == {"sha256": "a"}


def test_without_a_memory_nothing_is_written(tmp_path, old_file, settled, monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    cache = DigestCache.of_user()
    cache.remember(old_file, sha256="a")
    cache.save()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_a_merge_gives_the_same_lock_with_and_without_a_memory(tmp_path, settled, monkeypatch):
    family(tmp_path)
    locks = []
    for folder in ("", str(tmp_path / "memory"), str(tmp_path / "memory")):
        monkeypatch.setenv(VARIABLE, folder)
        merge.run(merge.plan(recipe(), tmp_path), force=True)
        locks.append(read_lock(tmp_path / "merged"))
    assert locks[0] == locks[1] == locks[2]
    assert (tmp_path / "memory" / "digests.json").is_file()


def test_verify_reads_the_files_themselves(tmp_path, settled, monkeypatch):
    family(tmp_path)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "memory"))
    merge.run(merge.plan(recipe(), tmp_path))
    weights = tmp_path / "makam" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    forged = DigestCache(tmp_path / "memory")
    forged.remember(weights, sha256=read_lock(tmp_path / "merged").inputs[1].files[weights.name])
    forged.save()
    assert [each.what for each in verify(tmp_path / "merged")] == ["input"]
