"""The files that a corpus was read from: all that were looked at, wherever they lie."""

import json
import os
from pathlib import Path

import pytest
from recordings import write_recording

from mergekit_audio.audio.corpus import from_printable, printable
from mergekit_audio.audio.origins import origins
from mergekit_audio.audio.store import Store
from mergekit_audio.files import sha256_of_file


def test_recordings_left_out_and_elsewhere_are_named(tmp_path):
    inside, elsewhere = tmp_path / "music" / "a.wav", tmp_path / "more" / "b.wav"
    for seed, path in enumerate((inside, elsewhere)):
        write_recording(path, duration_s=2, seed=seed)
    (tmp_path / "music" / "broken.wav").write_bytes(b"nothing")
    manifest = tmp_path / "music" / "m.jsonl"
    paths = ["a.wav", "../more/b.wav", "broken.wav"]
    manifest.write_text("".join(json.dumps({"path": path}) + "\n" for path in paths))
    own, other = origins(Store(tmp_path / "store").prepare(manifest), tmp_path)
    assert (own.source, sorted(own.files)) == ("music/m.jsonl", ["a.wav", "broken.wav", "m.jsonl"])
    assert own.files["a.wav"] == sha256_of_file(inside)
    assert (other.source, other.files) == ("more", {"b.wav": sha256_of_file(elsewhere)})


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_names_that_are_no_text_come_back():
    for name in (b"\xff\xfe.ogg", "köy/мугам.flac".encode(), b"a b.wav"):
        path = Path(os.fsdecode(name))
        printable(path).encode("utf-8")
        assert from_printable(printable(path)) == path
