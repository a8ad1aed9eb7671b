"""A folder for each class, split by a seed or by folders."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError
from raw_corpora import write_audio

from mergekit_audio.audio.corpus import load_tracks
from mergekit_audio.datasets._splitting import Member, seeded_splits
from mergekit_audio.datasets.folder import Folder
from mergekit_audio.errors import InputError


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two classes; two artists with four recordings each, five with one."""
    raw = tmp_path / "raw"
    for label in ("ney", "oud"):
        names = [
            *(f"{a}-{n}.wav" for a in "ab" for n in range(4)),
            *(f"{a}-0.wav" for a in "cdefg"),
        ]
        write_audio(raw, *(f"{label}/{label}{name}" for name in names))
    return raw


def test_classes_are_split_by_a_seed(raw: Path) -> None:
    tracks = load_tracks(Folder(label_category="instrument").import_from(raw, raw.parent / "out"))
    assert {track.tags for track in tracks} == {("instrument--ney",), ("instrument--oud",)}
    counts = Counter((track.tags[0], track.split) for track in tracks)
    assert [counts[f"instrument--{label}", "test"] for label in ("ney", "oud")] == [3, 3]
    assert {track.split for track in tracks} == {"train", "valid", "test"}
    value = json.loads((raw.parent / "out/report.json").read_text(encoding="utf-8"))
    assert value["settings"]["split_seed"] == 0
    other = Folder(split_seed=1).read(raw).items
    assert [item.split for item in other] != [track.split for track in tracks]
    assert other == Folder(split_seed=1).read(raw).items


def test_a_group_is_in_one_split(raw: Path) -> None:
    items = Folder(group=r"^(?:ney|oud)([a-z])-").read(raw).items
    splits: dict[str, set[str | None]] = {}
    for item in items:
        splits.setdefault(str(item.artist), set()).add(item.split)
    assert all(len(found) == 1 for found in splits.values())
    assert sorted(splits) == list("abcdefg")


def test_folders_of_splits_decide(tmp_path: Path) -> None:
    write_audio(tmp_path, "train/ney/a.wav", "val/ney/b.wav", "test/oud/x/c.wav", "test/.x/d.wav")
    items = Folder().read(tmp_path).items
    assert [(item.id, item.split, item.labels) for item in items] == [
        ("test/oud/x/c.wav", "test", ("label--oud",)),
        ("train/ney/a.wav", "train", ("label--ney",)),
        ("val/ney/b.wav", "valid", ("label--ney",)),
    ]


def test_every_fault_is_listed(raw: Path) -> None:
    write_audio(raw, "loose.wav", "ney/strange.wav")
    with pytest.raises(InputError) as caught:
        Folder(group=r"([a-z])-\d").read(raw)
    assert [line.removeprefix(f"{raw}/") for line in caught.value.message.splitlines()] == [
        "loose.wav: is in no folder of a class",
        r"ney/strange.wav: '([a-z])-\\d' finds nothing in 'strange.wav'",
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group": "("}, "is no regular expression"),
        ({"group": "a"}, r"expected one group \(…\), found 0"),
        ({"valid_share": 0.5, "test_share": 0.5}, "expected less than 1"),
        ({"label_category": "a--b"}, "pattern"),
    ],
)
def test_settings_are_checked(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Folder(**settings)


def test_shares_are_of_recordings_and_hold_by_class() -> None:
    members = {f"{n:03d}": Member("xy"[n % 2], f"g{n // 4}") for n in range(400)}
    splits = seeded_splits(members, seed=3, valid_share=0.25, test_share=0.25)
    counts = Counter(splits.values())
    assert set(splits) == set(members)
    assert [counts[split] for split in ("train", "valid", "test")] == [200, 100, 100]
    shuffled = dict(reversed(members.items()))
    assert seeded_splits(shuffled, seed=3, valid_share=0.25, test_share=0.25) == splits
    only_train = seeded_splits(members, seed=3, valid_share=0, test_share=0)
    assert set(only_train.values()) == {"train"}
