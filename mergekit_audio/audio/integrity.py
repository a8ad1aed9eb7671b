"""Tell from a file's own marks what kind of recording it is and whether its end is missing.

libsndfile reads a WAV or OGG that was cut as a shorter whole one; their headers know better.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from mergekit_audio.audio.mpeg import skip_id3v2

READABLE_SUFFIXES = (".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav")

_STREAMED_SIZES = (0, 0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF)  # "not known" as written by pipes
_OGG_PAGE_BYTES = 65_307  # the longest page
_END_OF_STREAM = 0x04
_MAGICS = {b"RIFF": "wav", b"RIFX": "wav", b"RF64": "wav", b"fLaC": "flac", b"OggS": "ogg"}


def kind_of(path: Path) -> str:
    """Return ``wav``, ``flac``, ``ogg``, ``mp3`` or, when the first bytes say none, an empty text.

    An ID3v2 tag in front is skipped; anything else that begins with an ID3v2 tag or an MPEG sync,
    or whose name ends in ``.mp3``, is taken for an MP3.
    """
    with open(path, "rb") as stream:
        head = stream.read(10)
        sound = skip_id3v2(head)
        stream.seek(sound)
        magic = stream.read(4)
    if magic in _MAGICS:
        return _MAGICS[magic]
    is_sync = len(magic) > 1 and magic[0] == 0xFF and magic[1] & 0xE0 == 0xE0
    return "mp3" if sound or is_sync or path.suffix.lower() == ".mp3" else ""


def find_cut(path: Path, kind: str) -> str:
    """Return what is missing at the end of a WAV or OGG as a phrase; empty when nothing is."""
    if kind == "wav":
        return _find_wav_cut(path)
    if kind == "ogg":
        return _find_ogg_cut(path)
    return ""


def _find_wav_cut(path: Path) -> str:
    size = path.stat().st_size
    bytes_per_second, long_length = 0, 0
    with open(path, "rb") as stream:
        order: Literal["big", "little"] = "big" if stream.read(4) == b"RIFX" else "little"
        position = 12
        while position + 8 <= size:
            stream.seek(position)
            name = stream.read(4)
            length = int.from_bytes(stream.read(4), order)
            if name == b"ds64":
                long_length = int.from_bytes(stream.read(16)[8:], order)
            if name == b"fmt ":
                bytes_per_second = int.from_bytes(stream.read(12)[8:], order)
            if name == b"data":
                held = size - position - 8
                length = long_length if length == 0xFFFFFFFF else length
                if length in _STREAMED_SIZES or length <= held:
                    return ""
                if not bytes_per_second:
                    return f"holds {held} of the {length} bytes that its header promises"
                return (
                    f"holds {held / bytes_per_second:.2f} s of the "
                    f"{length / bytes_per_second:.2f} s that its header promises"
                )
            position += 8 + length + length % 2
    return "ends before its sound begins"


def _find_ogg_cut(path: Path) -> str:
    with open(path, "rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 2 * _OGG_PAGE_BYTES))
        tail = stream.read()
    page = tail.rfind(b"OggS")
    if page == -1:
        return "ends without an OGG page"
    segments = tail[page + 27 : page + 27 + tail[page + 26]] if page + 26 < len(tail) else b""
    complete = (
        page + 26 < len(tail)
        and len(segments) == tail[page + 26]
        and page + 27 + len(segments) + sum(segments) <= len(tail)
    )
    if not complete:
        return "ends inside an OGG page"
    if not tail[page + 5] & _END_OF_STREAM:
        return "ends without the mark of the stream's end"
    return ""
