"""Raw folders of public corpora, as their publishers lay them out, with a few items each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from recordings import write_recording

MTAT_TAGS = (
    "guitar classical slow techno strings drums electronic rock fast piano ambient beat violin "
    "vocal synth female indian opera male singing vocals no_vocals harpsichord loud quiet flute "
    "woman male_vocal no_vocal pop soft sitar solo man classic choir voice new_age dance "
    "male_voice female_vocal beats harp cello no_voice weird country metal female_voice choral"
)
MTAT_TAGS = tuple(tag.replace("_", " ") for tag in MTAT_TAGS.split())


def write_ids(raw: Path, splits: Mapping[str, Sequence[str]], width: int = 36) -> None:
    """Write ``split/<split>.npy`` of ids as ccml does."""
    (raw / "split").mkdir(parents=True, exist_ok=True)
    for split, names in splits.items():
        np.save(raw / "split" / f"{split}.npy", np.array(names, dtype=f"<U{width}"))


def write_audio(raw: Path, *places: str) -> None:
    """Write a short recording at each place (an MP3 by its suffix)."""
    for place in places:
        path = raw / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_recording(path.suffix))


@cache
def _recording(suffix: str) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = write_recording(Path(folder) / f"a{suffix}", duration_s=0.5)
        return path.read_bytes()


def mbid(number: int) -> str:
    """Return a made-up MusicBrainz id."""
    return f"00000000-0000-4000-8000-{number:012d}"


def makam_recording(
    name: str, makams: Sequence[str], usuls: Sequence[str] = (), instruments: Sequence[str] = ()
) -> dict[str, Any]:
    """Return a recording as Dunya's makam API returns it."""
    return {
        "mbid": name,
        "title": "A peşrev",
        "releases": [],
        "works": [],
        "artists": [{"mbid": "a", "name": "Tanburi Cemil"}],
        "makamlist": [{"uuid": "u", "name": makam} for makam in makams],
        "usullist": [{"uuid": "u", "name": usul} for usul in usuls],
        "performers": [
            {"mbid": "p", "name": "P", "instrument": {"mbid": "i", "name": instrument}}
            for instrument in instruments
        ],
    }


def indian_recording(
    name: str,
    ragas: Sequence[str],
    talas: Sequence[str],
    instruments: Sequence[str],
    forms: Sequence[str],
    *,
    keys: tuple[str, str, str],
) -> dict[str, Any]:
    """Return a recording as Dunya's Indian APIs do; ``keys`` name its raga, tala and form lists."""

    def named(names: Sequence[str]) -> list[dict[str, str]]:
        return [{"uuid": "u", "name": each.upper(), "common_name": each} for each in names]

    raga, tala, form = keys
    return {
        "mbid": name,
        "title": "T",
        "length": 600_000,
        raga: named(ragas),
        tala: named(talas),
        form: named(forms) if form == "forms" else [{"name": each} for each in forms],
        "artists": [
            {
                "artist": {"mbid": f"m{number}", "name": f"Player {number}"},
                "instrument": {"mbid": "i", "name": instrument},
                "lead": number == 1,
                "attributes": "",
            }
            for number, instrument in enumerate(instruments)
        ],
        "album_artists": [],
    }


def write_metadata(raw: Path, value: Any) -> None:
    """Write ``metadata.json``."""
    raw.mkdir(parents=True, exist_ok=True)
    (raw / "metadata.json").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def write_makam(raw: Path) -> None:
    """Write eight recordings of makam music: five to train, one to validate, two to test."""
    names = [mbid(number) for number in range(8)]
    write_ids(raw, {"train": names[:5], "valid": names[5:6], "test": names[6:]})
    labels = [("Hicaz", "Aksak", "Ney"), ("Rast", "Düyek", "Oud"), ("Hicaz", "Düyek", "Ney")]
    write_metadata(
        raw,
        {
            name: makam_recording(name, [makam], [usul], [instrument, instrument])
            for name, (makam, usul, instrument) in zip(names, labels * 3, strict=False)
        },
    )
    write_audio(raw, *(f"audios/{name}.mp3" for name in names))


LYRA_COLUMNS = (
    "id",
    "instruments",
    "genres",
    "place",
    "coordinates",
    "is-danced",
    "youtube-id",
    "start-ts",
    "end-ts",
)


def lyra_row(name: str, instruments: str, genres: str, place: str) -> str:
    """Return a line of Lyra's TSV."""
    return "\t".join([name, instruments, genres, place, "None", "1", "cKXi8_5_Rd4", "10", "200"])


def write_lyra(raw: Path, training: Sequence[str], test: Sequence[str]) -> None:
    """Write ``data/split/training.tsv`` and ``test.tsv``."""
    folder = raw / "data/split"
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("training", training), ("test", test)):
        text = "\n".join(["\t".join(LYRA_COLUMNS), *rows]) + "\n"
        (folder / f"{name}.tsv").write_text(text, encoding="utf-8")


FMA_HEADER = (
    ",album,album,artist,artist,set,set,track,track,track\n"
    ",comments,title,bio,name,split,subset,bit_rate,genres_all,title\n"
    "track_id,,,,,,,,,\n"
)
FMA_GENRES = (
    "genre_id,#tracks,parent,title,top_level\n"
    "12,32923,0,Rock,12\n15,34413,0,Electronic,15\n25,9261,12,Punk,12\n1,8693,38,Avant-Garde,38\n"
)


def fma_row(number: int, subset: str, genres: str, artist: str = "An artist") -> str:
    """Return a line of FMA's ``tracks.csv``; the biography has a line break and quotes."""
    bio = '"<p>A ""band"",\nof two</p>"'
    return f'{number},0,Album,{bio},{artist},training,{subset},256000,"{genres}",Title\n'


def write_fma(raw: Path, splits: Mapping[str, Sequence[str]], rows: Sequence[str]) -> None:
    """Write split files, ``tracks.csv`` and ``genres.csv``."""
    write_ids(raw, splits, width=6)
    folder = raw / "fma_metadata"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tracks.csv").write_text(FMA_HEADER + "".join(rows), encoding="utf-8")
    (folder / "genres.csv").write_text(FMA_GENRES, encoding="utf-8")


def write_mtat_clean(raw: Path, splits: Mapping[str, Sequence[tuple[int, str]]]) -> None:
    """Write the Won split; clip n has tags n and n + 1 (modulo 50)."""
    entries = {
        split: [f"{index}\t{path}" for index, path in rows] for split, rows in splits.items()
    }
    write_ids(raw, entries, width=172)
    np.save(raw / "split/tags.npy", np.array(MTAT_TAGS))
    clips = 1 + max(index for rows in splits.values() for index, _ in rows)
    binary = np.zeros((clips, 50), dtype=np.int64)
    for index in range(clips):
        binary[index, [index % 50, (index + 1) % 50]] = 1
    np.save(raw / "split/binary.npy", binary)


def write_mtat_full(raw: Path, clips: Mapping[str, Sequence[str]]) -> None:
    """Write ``annotations_final.csv``: tabs, every cell quoted, the tags and some more."""
    tags = [*sorted(MTAT_TAGS), "zz rare"]
    lines = ["\t".join(f'"{cell}"' for cell in ("clip_id", *tags, "mp3_path"))]
    for number, (path, has) in enumerate(clips.items(), start=2):
        cells = [str(number), *("1" if tag in has else "0" for tag in tags), path]
        lines.append("\t".join(f'"{cell}"' for cell in cells))
    raw.mkdir(parents=True, exist_ok=True)
    (raw / "annotations_final.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
