"""Folders and manifests: what is taken, and how faults are told."""

import json

import pytest
from recordings import write_recording

from mergekit_audio.audio.corpus import Track, load_tracks, write_manifest
from mergekit_audio.errors import InputError


@pytest.fixture
def folder(tmp_path):
    for name in ("b.wav", "a.flac", "deep/c.ogg", "deep/d.mp3"):
        write_recording(tmp_path / name, duration_s=0.3)
    return tmp_path


def test_a_folder_is_searched_and_sorted(folder):
    (folder / "notes.txt").write_text("not audio")
    (folder / ".hidden.wav").write_bytes(b"")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.wav").write_bytes(b"")
    tracks = load_tracks(folder)
    assert [track.id for track in tracks] == ["a", "b", "deep/c", "deep/d"]
    assert tracks[2] == Track(id="deep/c", path=folder / "deep" / "c.ogg")


def test_files_that_share_a_name_keep_their_suffix(folder):
    write_recording(folder / "a.wav", duration_s=0.3)
    write_recording(folder / "UPPER.FLAC", duration_s=0.3)
    (folder / "strange.m4a").write_bytes(b"not readable, but to be reported")
    ids = [track.id for track in load_tracks(folder)]
    assert ids == ["UPPER", "a.flac", "a.wav", "b", "deep/c", "deep/d", "strange"]


def test_linked_folders_are_followed_once(folder):
    (folder / "deep" / "up").symlink_to(folder, target_is_directory=True)
    assert len(load_tracks(folder)) == 4


def test_a_folder_without_audio(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="holds no audio files"):
        load_tracks(tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        load_tracks(tmp_path / "none")


def test_a_manifest_is_written_and_read_back(folder, tmp_path_factory):
    tracks = [
        Track(
            "z", folder / "b.wav", "train", ("makam--hicaz", "usul--aksak"), 0.3, None, None, "Ş"
        ),
        Track("a", folder / "deep" / "c.ogg", "test", (), None, 0.1, 0.25, None),
    ]
    manifest = tmp_path_factory.mktemp("elsewhere") / "m.jsonl"
    write_manifest(manifest, tracks)
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    assert rows[0].keys() == {"id", "path", "split", "start_s", "end_s"}
    assert rows[1]["path"].startswith("../")
    back = load_tracks(manifest)
    assert [track.id for track in back] == ["a", "z"]
    for found, given in zip(back, reversed(tracks), strict=True):
        assert found.path.samefile(given.path)
        assert vars(found) | {"path": None} == vars(given) | {"path": None}


def test_csv_with_byte_order_mark_quotes_and_empty_cells(folder):
    text = (
        "\ufeffid,path,split,tags,start_s,end_s,artist\r\n"
        'one,b.wav,train,makam--hicaz|usul--aksak,,,"Ney, solo"\r\n'
        "\r\n"
        "two,deep/d.mp3,,,0.1,0.2,\r\n"
    )
    (folder / "m.csv").write_bytes(text.encode("utf-8"))
    one, two = load_tracks(folder / "m.csv")
    assert one.tags == ("makam--hicaz", "usul--aksak")
    assert one.artist == "Ney, solo"
    assert (two.split, two.tags, two.start_s, two.end_s) == (None, (), 0.1, 0.2)


def test_a_folder_with_a_manifest_means_the_manifest(folder):
    (folder / "manifest.csv").write_text("path\nb.wav\n")
    assert [track.id for track in load_tracks(folder)] == ["b"]
    (folder / "manifest.jsonl").write_text('{"path": "a.flac"}\n')
    with pytest.raises(InputError, match=r"holds both manifest\.jsonl and manifest\.csv"):
        load_tracks(folder)


def test_every_fault_of_a_jsonl_is_told_with_its_line(folder):
    lines = [
        '{"id": "ok", "path": "b.wav", "split": "train"}',
        '{"id": "gone", "path": "gone.wav", "splitt": "train"}',
        "",
        '{"id": "bad", "path": "a.flac", "split": "validation", "tags": 3}',
        '{"id": "ok", "path": "a.flac", "start_s": 5, "end_s": 2}',
        '{"id": "json", "path": ',
        '["a list"]',
        '{"id": "no path", "duration_s": -1, "start_s": NaN, "end_s": true}',
        '{"id": "twice", "id": "twice", "path": "a.flac"}',
    ]
    manifest = folder / "m.jsonl"
    manifest.write_text("\n".join(lines))
    with pytest.raises(InputError) as caught:
        load_tracks(manifest)
    found = [line.removeprefix(f"{manifest}:") for line in caught.value.message.splitlines()]
    assert found == [
        "2: unknown column 'splitt' (did you mean 'split'?)",
        "2: path: no such file: gone.wav (relative to the manifest)",
        "4: split: expected train, valid, test or nothing, found 'validation'; "
        "did you mean 'valid'?",
        "4: tags: expected a list of texts, found 3",
        "5: end_s: 2 s is not after start_s (5 s)",
        "5: id: 'ok' is used in line 1 already",
        "6: is not JSON: Expecting value at character 24",
        '7: expected an object {…}, found ["a list"]',
        "8: duration_s: expected seconds, 0 or more, found -1",
        "8: start_s: expected seconds, 0 or more, found nan",
        "8: end_s: expected seconds, 0 or more, found True",
        "8: path: is missing",
        "9: 'id' is given twice",
    ]
    assert "id, path, split" in caught.value.hint
    assert caught.value.exit_code == 4


def test_every_fault_of_a_csv_is_told_with_its_line(folder):
    manifest = folder / "m.csv"
    manifest.write_text(
        'id,path,tag,artist\n1,b.wav,x,"two\nlines"\n2,a.flac\n3,gone.wav,,\n1,a.flac,,\n'
    )
    with pytest.raises(InputError) as caught:
        load_tracks(manifest)
    found = [line.removeprefix(f"{manifest}:") for line in caught.value.message.splitlines()]
    assert found == [
        "1: unknown column 'tag' (did you mean 'tags'?)",
        "4: has 2 cells, the header has 4",
        "5: path: no such file: gone.wav (relative to the manifest)",
        "6: id: '1' is used in line 2 already",
    ]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("m.jsonl", b'{"path": "b.wav"}\n{"path": "\xff"}\n', r"m\.jsonl:2: is not UTF-8"),
        ("m.csv", b"path;id\nb.wav;1\n", r"m\.csv:1: expected commas"),
        ("m.csv", b"id,artist\n1,x\n", r"m\.csv:1: has no column 'path'"),
        ("m.csv", b"path,path\nb.wav,b.wav\n", r"m\.csv:1: column 'path' is there twice"),
        ("m.csv", b'path\n"b.wav\n', r"m\.csv:2: is not CSV"),
        ("m.csv", b"path\n", r"m\.csv:1: the manifest has no rows"),
        ("m.jsonl", b"", r"m\.jsonl:1: the manifest has no rows"),
        ("m.txt", b"b.wav\n", r"is not a manifest \(\.jsonl or \.csv\)"),
    ],
)
def test_manifests_that_cannot_be_read(folder, name, data, message):
    (folder / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        load_tracks(folder / name)


def test_very_many_faults_are_cut_short(folder):
    (folder / "m.jsonl").write_text('{"path": "gone.wav"}\n' * 500)
    with pytest.raises(InputError, match=r"and \d+ more faults$"):
        load_tracks(folder / "m.jsonl")
