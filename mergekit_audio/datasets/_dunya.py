"""What the three Dunya corpora share: recordings' metadata as JSON, and how tags are made of it."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from mergekit_audio.datasets._ccml import CITATION, read_splits, split_source
from mergekit_audio.datasets._files import Faults
from mergekit_audio.datasets.base import Item, Listing, PublicDataset, Source

_METADATA = ("metadata.json", "split/metadata.json")
_PICKLE = "split/metadata.npy"
_HINT = (
    "metadata.json is {id: recording} as Dunya's API returns it, or {id: [tags]}; "
    "`cmerge data info` says how to fetch it"
)


class DunyaDataset(PublicDataset):
    """A CompMusic corpus of Dunya with ccml's split files.

    ``fields`` says how tags are made: category, the recording's list, and the keys that lead from
    an entry of the list to the name.
    """

    license: ClassVar[str] = "recordings: commercial releases, for research, on request"
    terms_url: ClassVar[str] = "https://dunya.compmusic.upf.edu"
    citation: ClassVar[str] = (
        "CompMusic corpora, Music Technology Group, Universitat Pompeu Fabra: Serra, Creating "
        f"Research Corpora for the Computational Study of Music, AES 2014. {CITATION}"
    )
    western: ClassVar[bool] = False
    notes: ClassVar[str] = (
        "The splits are random by recording, not filtered by artist or concert: training and test "
        "may share them. Dunya's metadata changes, so the tags are pinned."
    )
    fields: ClassVar[tuple[tuple[str, str, tuple[str, ...]], ...]]

    @abstractmethod
    def artist_of(self, recording: dict[str, Any]) -> str | None:
        """Return who leads a recording, as its metadata say."""

    def labels(self) -> tuple[str, ...]:
        """Return the pinned tags ``category--value``, sorted."""
        return tuple(sorted(self.test_positives))

    def read(self, raw: Path) -> Listing:
        """Read split files and ``metadata.json``; see `PublicDataset.read`."""
        faults = Faults(raw)
        splits = read_splits(faults)
        value = faults.json(*_METADATA)
        metadata = self._by_id(value, faults) if value is not None else {}
        if value is None and (raw / _PICKLE).is_file():
            faults.add(_PICKLE, "is a pickle, which may run code: save its dictionary as JSON")
        faults.raise_if_any(_HINT)
        names = sorted({*splits, *metadata})
        items = tuple(self._item(name, splits.get(name), metadata) for name in names)
        return Listing(items, files=tuple(faults.read))

    def _by_id(self, value: Any, faults: Faults) -> dict[str, Any]:
        """Accept an object by id, or the list that the API's own listing returns."""
        if isinstance(value, dict):
            return value
        if isinstance(value, list) and all(
            isinstance(row, dict) and "mbid" in row for row in value
        ):
            return {str(row["mbid"]): row for row in value}
        faults.add(faults.read[-1], f"expected an object of recordings by id, found {_kind(value)}")
        return {}

    def _item(self, name: str, split: str | None, metadata: dict[str, Any]) -> Item:
        labels: tuple[str, ...] = ()
        artist, problem = None, ("", "")
        recording = metadata.get(name)
        try:
            if name not in metadata:
                problem = ("missing_metadata", "is not in metadata.json")
            elif recording is None:
                problem = ("missing_metadata", "null: the call of Dunya's API had failed")
            else:
                labels, artist = self._labels(recording), self._artist(recording)
        except ValueError as error:
            problem = ("broken_metadata", str(error))
        audio = (f"audios/{name}.mp3", f"audio/{name}.mp3", f"{name}.mp3")
        return Item(name, split, labels, audio, artist=artist, problem=problem)

    def _labels(self, recording: Any) -> tuple[str, ...]:
        if isinstance(recording, list):
            if not all(isinstance(tag, str) for tag in recording):
                raise ValueError("expected a list of tags, found other things among them")
            return tuple(sorted(set(recording)))
        if not isinstance(recording, dict):
            raise ValueError(f"expected a recording, found {_kind(recording)}")
        tags = set()
        for category, key, path in self.fields:
            entries = recording.get(key)
            if not isinstance(entries, list):
                raise ValueError(f"{key}: expected a list, found {_kind(entries)}")
            names = [_follow(entry, path, key) for entry in entries]
            tags |= {f"{category}--{name}" for name in names if name}
        return tuple(sorted(tags))

    def _artist(self, recording: Any) -> str | None:
        return self.artist_of(recording) if isinstance(recording, dict) else None


def dunya_sources(name: str) -> tuple[Source, ...]:
    """Return what to fetch for one corpus: split files, metadata and audio."""
    account = "an account on dunya.compmusic.upf.edu, its token, and granted access to the audio"
    install = "pip install git+https://github.com/MTG/pycompmusic"
    return (
        split_source(name),
        Source(
            "metadata of each recording",
            f"{install}; in Python: dunya.set_token(TOKEN), then keep "
            f"{{id: dunya.{name}.get_recording(id)}} of all ids of the split files as JSON",
            _METADATA[0],
            f"{account}; null for an id whose call fails",
        ),
        Source(
            "recordings (MP3)",
            "dunya.docserver.get_mp3(id) for each id",
            "audios/<id>.mp3",
            f"{account}; some ids answer 404",
        ),
    )


def lead_artist(recording: dict[str, Any]) -> str | None:
    """Return the album's artists, else the lead performer, of an Indian recording."""
    names = [_name(entry) for entry in _entries(recording, "album_artists")]
    if not any(names):
        performers = _entries(recording, "artists")
        leads = [entry for entry in performers if entry.get("lead")] or performers[:1]
        names = [_name(entry.get("artist")) for entry in leads]
    return _joined(names)


def named_artists(recording: dict[str, Any]) -> str | None:
    """Return the names of a recording's ``artists``."""
    return _joined([_name(entry) for entry in _entries(recording, "artists")])


def _follow(entry: Any, path: tuple[str, ...], key: str) -> str:
    """Return the name of an entry; a name that is null is empty, and gives no tag."""
    for step in path:
        if not isinstance(entry, dict) or step not in entry:
            raise ValueError(f"{key}: an entry has no {'.'.join(path)}")
        entry = entry[step]
    if entry is None:
        return ""
    if not isinstance(entry, str):
        raise ValueError(f"{key}: {'.'.join(path)} is {_kind(entry)}, expected a text")
    return entry.strip()


def _entries(recording: dict[str, Any], key: str) -> list[dict[str, Any]]:
    entries = recording.get(key)
    return (
        [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    )


def _name(entry: Any) -> str:
    name = entry.get("name") if isinstance(entry, dict) else None
    return name.strip() if isinstance(name, str) else ""


def _joined(names: list[str]) -> str | None:
    return ", ".join(sorted({name for name in names if name})) or None


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
