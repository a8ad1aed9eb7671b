"""What all importers share: audio, headers, tags, counts, the report, resuming."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from raw_corpora import write_audio
from recordings import cut, write_recording

from mergekit_audio.audio.corpus import load_tracks
from mergekit_audio.datasets import _headers
from mergekit_audio.datasets._findings import CORPUS, FINDINGS, LEFT_OUT
from mergekit_audio.datasets._importing import plan, report
from mergekit_audio.datasets.base import Finding, Item, Listing, PublicDataset, Source, TaskKind
from mergekit_audio.errors import InputError
from mergekit_audio.progress import ProgressEvent


class Toy(PublicDataset):
    """A corpus whose listing the test gives."""

    license: ClassVar[str] = "CC0-1.0"
    citation: ClassVar[str] = "nobody"
    terms_url: ClassVar[str] = "https://example.org"
    title: ClassVar[str] = "Toy"
    western: ClassVar[bool] = False
    sources: ClassVar[tuple[Source, ...]] = (Source("all", "nowhere", "audios/<id>.wav"),)
    splits: ClassVar[Mapping[str, int]] = {"train": 2, "valid": 1, "test": 1}
    pinned: ClassVar[tuple[str, ...]] = ("t--a", "t--b")
    listing: ClassVar[Listing]

    name: Literal["toy"] = "toy"
    culture: Literal["none"] = "none"

    def labels(self) -> tuple[str, ...]:
        return self.pinned

    def read(self, raw: Path) -> Listing:
        return self.listing


def item(name: str, split: str | None, *labels: str, **more: object) -> Item:
    return Item(name, split, labels, (f"audios/{name}.wav", f"{name}.wav"), **more)


GOOD = (
    item("1", "train", "t--a"),
    item("2", "train", "t--b", "t--rare"),
    item("3", "valid", "t--a", "t--b"),
    item("4", "test", "t--b", "t--a"),
)


def toy(*items: Item, kind: TaskKind = "tagging", **facts: object) -> Toy:
    listing = Listing(items)
    return type(
        "Toy", (Toy,), {"listing": listing, "kind": kind, "__module__": __name__, **facts}
    )()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    write_audio(folder, *(f"audios/{name}.wav" for name in "1234"))
    return folder


def saved(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def test_a_good_corpus_becomes_a_manifest_with_pinned_tags(raw: Path, tmp_path: Path) -> None:
    manifest = toy(*GOOD).import_from(raw, tmp_path / "corpus")
    tracks = load_tracks(manifest.parent)
    assert [(track.id, track.split, track.tags) for track in tracks] == [
        ("1", "train", ("t--a",)),
        ("2", "train", ("t--b",)),
        ("3", "valid", ("t--a", "t--b")),
        ("4", "test", ("t--a", "t--b")),
    ]
    assert tracks[0].duration_s == pytest.approx(0.5)
    assert tracks[0].path.resolve() == (raw / "audios/1.wav").resolve()
    value = saved(tmp_path / "corpus")
    assert value["splits"]["train"] == {"published": 2, "listed": 2, "usable": 2}
    assert value["labels"]["t--b"] == {"train": 1, "valid": 1, "test": 1}
    assert not any(value["counts"].values())
    assert list(value["findings"]) == list(FINDINGS)


def test_every_kind_of_fault_is_listed_in_one_run(raw: Path, tmp_path: Path) -> None:
    cut(raw / "audios/3.wav")
    write_audio(raw, "audios/7.wav", "audios/8.wav", "audios/9.wav")
    items = (
        *GOOD[:3],
        item("5", "test", "t--a"),
        item("6", None, "t--a"),
        item("7", "test"),
        item("8", "train", problem=("missing_metadata", "null")),
        item("9", "train", "t--a", known_broken="is empty"),
    )
    toy(*items).import_from(raw, tmp_path / "corpus")
    value = saved(tmp_path / "corpus")
    found = {
        kind: [entry["id"] for entry in entries]
        for kind, entries in value["findings"].items()
        if entries
    }
    assert found == {
        "missing_metadata": ["8"],
        "without_split": ["6"],
        "known_broken": ["9"],
        "missing_audio": ["5"],
        "unreadable": ["3"],
        "unlabelled": ["7"],
        "differing_count": ["test", "train"],
        "without_positives": ["t--a", "t--b"],
    }
    assert "audios/3.wav" in value["findings"]["unreadable"][0]["reason"]
    assert value["splits"]["train"] == {"published": 2, "listed": 3, "usable": 2}
    assert value["splits"]["valid"] == {"published": 1, "listed": 1, "usable": 0}
    assert [track.id for track in load_tracks(tmp_path / "corpus")] == ["1", "2", "7"]


def test_a_dry_run_finds_the_same_without_opening_audio(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_headers, "read_duration", lambda path: pytest.fail("opened"))
    found = report(plan(toy(*GOOD, item("5", "test", "t--a")), raw))
    assert found.counts()["missing_audio"] == 1
    assert found.usable == 4


def test_the_rule_is_compared_with_the_pinned_tags(raw: Path) -> None:
    items = (*GOOD, item("5", "train", "t--rare", "t--rare2"), item("6", "train", "t--rare"))
    found = report(plan(toy(*items, top_tags=2), raw)).as_dict()["findings"]["differing_labels"]
    # train counts: rare 3, a 1, b 1, rare2 1
    assert found == [
        {"id": "t--b", "reason": "only pinned"},
        {"id": "t--rare", "reason": "only counted"},
    ]
    assert not report(plan(toy(*GOOD, top_tags=2), raw)).counts()["differing_labels"]


def test_published_positives_and_checksums_are_compared(raw: Path) -> None:
    (raw / "split.txt").write_text("x")
    dataset = toy(*GOOD, test_positives={"t--a": 1, "t--b": 2}, checksums={"split.txt": "0" * 64})
    type(dataset).listing = Listing(GOOD, files=("split.txt",))
    value = report(plan(dataset, raw)).as_dict()
    assert value["findings"]["differing_positives"] == [
        {"id": "t--b", "reason": "1 listed, 2 published"}
    ]
    assert [entry["id"] for entry in value["findings"]["differing_file"]] == ["split.txt"]
    assert value["files"]["split.txt"]["sha256"].startswith("2d711642b726b044")


def test_without_pinned_labels_all_are_kept(raw: Path, tmp_path: Path) -> None:
    toy(*GOOD, pinned=()).import_from(raw, tmp_path / "corpus")
    assert load_tracks(tmp_path / "corpus")[1].tags == ("t--b", "t--rare")


def test_a_class_needs_exactly_one_label(raw: Path, tmp_path: Path) -> None:
    items = (item("1", "train", "t--a", "t--other"), item("2", "train"), GOOD[2], GOOD[3])
    toy(*items, kind="multiclass").import_from(raw, tmp_path / "corpus")
    found = saved(tmp_path / "corpus")["findings"]["not_one_label"]
    assert [entry["id"] for entry in found] == ["2", "3", "4"]
    assert found[1]["reason"] == "found t--a, t--b"


def test_a_value_is_needed_for_a_regression(raw: Path) -> None:
    items = (item("1", "train", values=(("arousal", 0.1),)), item("2", "train"))
    planned = plan(toy(*items, kind="regression"), raw)
    assert [entry.id for entry, _ in planned.found] == ["1"]
    assert Finding("without_values", "2", "no number is given") in planned.findings


def test_audio_is_found_in_each_place_and_under_each_readable_suffix(
    raw: Path, tmp_path: Path
) -> None:
    (raw / "audios/1.wav").rename(raw / "1.wav")
    (raw / "audios/2.wav").unlink()
    write_audio(raw, "audios/2.flac", "audios/a.b.ogg")
    toy(*GOOD, item("a.b", "train", "t--a")).import_from(raw, tmp_path / "corpus")
    names = [track.path.name for track in load_tracks(tmp_path / "corpus")]
    assert names == ["1.wav", "2.flac", "3.wav", "4.wav", "a.b.ogg"]


def test_no_file_outside_the_raw_folder_is_taken(raw: Path, tmp_path: Path) -> None:
    write_audio(tmp_path, "secret.wav")
    outside = str((tmp_path / "secret.wav").absolute())
    items = (*GOOD, Item("x", "train", (), ("../secret.wav",)), Item("y", "train", (), (outside,)))
    found = report(plan(toy(*items), raw)).as_dict()["findings"]["missing_audio"]
    assert [entry["id"] for entry in found] == ["x", "y"]


def test_folders_behind_links_are_found_from_the_manifest(raw: Path, tmp_path: Path) -> None:
    deep = tmp_path / "a/b/c"
    deep.mkdir(parents=True)
    (tmp_path / "link").symlink_to(deep)
    (tmp_path / "raw link").symlink_to(raw)
    toy(*GOOD).import_from(tmp_path / "raw link", tmp_path / "link/corpus")
    assert len(load_tracks(tmp_path / "link/corpus")) == 4
    assert len(load_tracks(deep / "corpus")) == 4


def test_a_second_run_opens_and_writes_nothing(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "corpus"
    toy(*GOOD).import_from(raw, folder)
    before = {path.name: (path.read_bytes(), path.stat().st_ino) for path in folder.iterdir()}
    monkeypatch.setattr(_headers, "read_duration", lambda path: pytest.fail("opened"))
    toy(*GOOD).import_from(raw, folder)
    after = {path.name: (path.read_bytes(), path.stat().st_ino) for path in folder.iterdir()}
    assert after == before
    assert sorted(after) == ["headers.jsonl", "manifest.jsonl", "report.json"]


def test_an_interrupted_run_is_resumed_also_after_a_torn_line(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, opened = tmp_path / "corpus", []
    true = _headers.read_duration

    def counted(path: Path) -> float:
        if len(opened) == 2:
            raise KeyboardInterrupt
        opened.append(path.name)
        return true(path)

    monkeypatch.setattr(_headers, "read_duration", counted)
    with pytest.raises(KeyboardInterrupt):
        toy(*GOOD).import_from(raw, folder)
    assert not (folder / "manifest.jsonl").exists()
    with open(folder / "headers.jsonl", "a", encoding="utf-8") as journal:
        journal.write('{"path": "audios/3.w')
    again: list[str] = []
    monkeypatch.setattr(_headers, "read_duration", lambda path: again.append(path.name) or 0.5)
    toy(*GOOD).import_from(raw, folder)
    assert again == ["3.wav", "4.wav"]
    clean = toy(*GOOD).import_from(raw, tmp_path / "clean").parent
    for name in ("manifest.jsonl", "headers.jsonl", "report.json"):
        assert (folder / name).read_bytes() == (clean / name).read_bytes()


def test_a_changed_recording_is_looked_at_again(raw: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    toy(*GOOD).import_from(raw, folder)
    write_recording(raw / "audios/1.wav", duration_s=1.0)
    (raw / "audios/2.wav").unlink()
    toy(*GOOD).import_from(raw, folder)
    assert next((t.id, t.duration_s) for t in load_tracks(folder)) == ("1", 1.0)
    assert saved(folder)["counts"]["missing_audio"] == 1
    assert "audios/2.wav" not in (folder / "headers.jsonl").read_text()


def test_the_result_does_not_depend_on_the_threads(raw: Path, tmp_path: Path) -> None:
    write_audio(raw, *(f"audios/x{number}.wav" for number in range(20)))
    (raw / "audios/x3.wav").write_bytes(b"RIFF")
    items = [*GOOD, *(item(f"x{number}", "train", "t--a") for number in range(20))]
    one = toy(*items).import_from(raw, tmp_path / "one", workers=1).parent
    many = toy(*reversed(items)).import_from(raw, tmp_path / "two", workers=4).parent
    for name in ("manifest.jsonl", "headers.jsonl", "report.json"):
        assert (one / name).read_bytes() == (many / name).read_bytes()


def test_progress_counts_every_header(raw: Path, tmp_path: Path) -> None:
    events: list[ProgressEvent] = []
    toy(*GOOD).import_from(raw, tmp_path / "corpus", progress=events.append)
    assert [(event.done, event.total) for event in events] == [(n, 4) for n in range(5)]


class TestRefusals:
    """Folders and listings that can't be used."""

    def test_a_folder_with_something_else(self, raw: Path, tmp_path: Path) -> None:
        (tmp_path / "corpus").mkdir()
        (tmp_path / "corpus/notes.txt").write_text("mine")
        with pytest.raises(InputError, match="is not empty and holds no import"):
            toy(*GOOD).import_from(raw, tmp_path / "corpus")

    def test_a_folder_with_another_import(self, raw: Path, tmp_path: Path) -> None:
        toy(*GOOD).import_from(raw, tmp_path / "corpus")
        journal = tmp_path / "corpus/headers.jsonl"
        journal.write_text(journal.read_text().replace('"toy"', '"other"'))
        with pytest.raises(InputError, match=r"another import \('other'\), expected 'toy'"):
            toy(*GOOD).import_from(raw, tmp_path / "corpus")

    def test_no_raw_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no raw folder is given"):
            toy(*GOOD).write(tmp_path / "corpus")
        with pytest.raises(InputError, match="no such folder"):
            toy(*GOOD).import_from(tmp_path / "nothing", tmp_path / "corpus")

    def test_an_id_that_is_listed_twice(self, raw: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="the id '1' is listed twice"):
            toy(*GOOD, item("1", "test")).import_from(raw, tmp_path / "corpus")

    def test_no_usable_recording(self, tmp_path: Path) -> None:
        (tmp_path / "raw").mkdir()
        with pytest.raises(InputError) as caught:
            toy(*GOOD).import_from(tmp_path / "raw", tmp_path / "corpus")
        assert "no recording of Toy can be used" in caught.value.message
        assert "1: no audios/1.wav" in caught.value.message
        assert "audios/<id>.wav" in caught.value.hint
        assert not (tmp_path / "corpus").exists()

    def test_only_unreadable_recordings(self, raw: Path, tmp_path: Path) -> None:
        for path in (raw / "audios").iterdir():
            path.write_bytes(b"")
        with pytest.raises(InputError, match=r"is empty \(0 bytes\)"):
            toy(*GOOD).import_from(raw, tmp_path / "corpus")
        assert not (tmp_path / "corpus/manifest.jsonl").exists()


def test_the_kinds_of_findings_are_distinct() -> None:
    assert not set(LEFT_OUT) & set(CORPUS)
    assert len(FINDINGS) == len(set(FINDINGS.values()))
