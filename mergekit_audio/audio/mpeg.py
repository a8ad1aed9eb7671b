"""Count the frames of an MPEG audio file, and give it the header that its encoder left out.

libsndfile estimates the length of an MP3 without a Xing header from its first frame: a variable
bit rate then reads as too short (sound is lost in silence) and a cut file as a shorter whole one.
Walking the frame headers gives the true count and shows a last frame that is not complete.
"""

from __future__ import annotations

import io
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_SEARCH_BYTES = 1 << 16
_XING_FRAMES_AND_BYTES = 0x3
# kbit/s by (is MPEG-1, layer); index 0 is "free format", 15 is forbidden: both are unknown here
_BITRATES_KBPS = {
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448, 0),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 0),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256, 0),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
_SAMPLE_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


@dataclass(frozen=True)
class MpegStream:
    """What the frame headers of an MPEG audio file say.

    Parameters
    ----------
    sample_rate_hz, samples_per_frame
        Of every frame.
    frames
        Complete frames of sound (the Xing frame is not one).
    promised_frames
        Frames of sound that the Xing header promises; ``None`` without such a header.
    ends_inside_frame
        The file ends before its last frame does.
    first_byte, end_byte
        Where the frames begin and where the last complete one ends.
    """

    sample_rate_hz: int
    samples_per_frame: int
    frames: int
    promised_frames: int | None
    ends_inside_frame: bool
    first_byte: int
    end_byte: int

    @property
    def seconds(self) -> float:
        """Seconds of sound in the complete frames."""
        return self.frames * self.samples_per_frame / self.sample_rate_hz

    @property
    def cut(self) -> str:
        """What is missing at the end, as a phrase; empty when the file is whole."""
        if self.promised_frames is not None and self.frames + 1 < self.promised_frames:
            promised_s = self.promised_frames * self.samples_per_frame / self.sample_rate_hz
            return f"holds {self.seconds:.2f} s of the {promised_s:.2f} s that its header promises"
        if self.ends_inside_frame:
            return f"ends inside an MPEG frame after {self.seconds:.2f} s"
        return ""


def scan(path: Path) -> MpegStream | None:
    """Walk the frame headers of a file; ``None`` when there are no two frames in a row.

    References
    ----------
    ISO/IEC 11172-3, section 2.4.1.3 (frame header); ISO/IEC 13818-3 (lower sampling rates).
    """
    with (
        open(path, "rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        end = _end_without_tags(data)
        first = _first_frame(data, skip_id3v2(data), end)
        if first is None:
            return None
        header = data[first : first + 4]
        lengths = _frame_lengths(header)
        promised = _xing_frames(data[first : first + lengths[header[2]]])
        position, frames, complete_end = first, 0, first
        while position < end:
            length = _length_at(data, position, end, header, lengths)
            if not length:
                resumed = _first_frame(data, position + 1, end)
                if resumed is None:
                    break
                position = resumed
                continue
            position += length
            if position <= end:
                frames += 1
                complete_end = position
        return MpegStream(
            sample_rate_hz=_sample_rate_hz(header),
            samples_per_frame=_samples_per_frame(header),
            frames=frames - (promised is not None),
            promised_frames=promised,
            ends_inside_frame=position > end or _is_cut_header(data[position:end], header),
            first_byte=first,
            end_byte=complete_end,
        )


def with_xing_header(file: IO[bytes], stream: MpegStream) -> _Spliced:
    """Return an open file's frames without tags, after a Xing frame that tells their number."""
    file.seek(stream.first_byte)
    first = file.read(4)
    lengths = _frame_lengths(first)
    # the roomiest frame header of this stream, so that the Xing fields always fit
    third_byte = max(
        (value for value, length in enumerate(lengths) if length), key=lambda value: lengths[value]
    )
    header = bytes([first[0], first[1] | 1, third_byte, first[3]])
    size = stream.end_byte - stream.first_byte + lengths[third_byte]
    fields = b"Xing" + b"".join(
        value.to_bytes(4, "big") for value in (_XING_FRAMES_AND_BYTES, stream.frames, size)
    )
    frame = header + bytes(_side_information_bytes(header)) + fields
    front = frame.ljust(lengths[third_byte], b"\0")
    return _Spliced(front, file, stream.first_byte, stream.end_byte)


def skip_id3v2(data: Sequence[int] | mmap.mmap | bytes) -> int:
    """Return where the sound begins after any ID3v2 tags at the start."""
    position = 0
    while bytes(data[position : position + 3]) == b"ID3":
        flags_and_size = bytes(data[position + 5 : position + 10])
        if len(flags_and_size) < 5:
            break
        size = 0
        for byte in flags_and_size[1:]:
            size = size << 7 | byte & 0x7F
        position += 10 + size + (10 if flags_and_size[0] & 0x10 else 0)
    return position


class _Spliced(io.RawIOBase):
    """Some bytes, and then a part of an open file, as one file; nothing is held in memory."""

    def __init__(self, front: bytes, file: IO[bytes], first_byte: int, end_byte: int) -> None:
        super().__init__()
        self.front = front
        self.file = file
        self.first_byte = first_byte
        self.size = len(front) + end_byte - first_byte
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        self.position = max(0, start + offset)
        return self.position

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), max(0, self.size - self.position))
        if self.position < len(self.front):
            data = self.front[self.position : self.position + wanted]
        else:
            self.file.seek(self.first_byte + self.position - len(self.front))
            data = self.file.read(wanted)
        memoryview(buffer).cast("B")[: len(data)] = data
        self.position += len(data)
        return len(data)


def _end_without_tags(data: mmap.mmap) -> int:
    end = len(data)
    if end >= 128 and data[end - 128 : end - 125] == b"TAG":
        end -= 128
    if end >= 32 and data[end - 32 : end - 24] == b"APETAGEX":
        size = int.from_bytes(data[end - 20 : end - 16], "little")
        has_header = data[end - 9] & 0x80
        end = max(0, end - size - (32 if has_header else 0))
    return end


def _first_frame(data: mmap.mmap, start: int, end: int) -> int | None:
    """Find two frames in a row, or one that fills the rest."""
    position = data.find(b"\xff", start, min(end, start + _SEARCH_BYTES))
    while position != -1:
        header = data[position : position + 4]
        if _is_header(header):
            lengths = _frame_lengths(header)
            following = position + lengths[header[2]]
            if following == end or _length_at(data, following, end, header, lengths):
                return position
        position = data.find(b"\xff", position + 1, min(end, start + _SEARCH_BYTES))
    return None


def _length_at(
    data: mmap.mmap, position: int, end: int, like: bytes, lengths: Sequence[int]
) -> int:
    """Return the length of the frame at a position, 0 when there is none like the others."""
    if position + 4 > end or data[position] != 0xFF:
        return 0
    if (data[position + 1] ^ like[1]) & 0xFE:
        return 0
    return lengths[data[position + 2]]


def _is_cut_header(rest: bytes, like: bytes) -> bool:
    """Tell whether one to three last bytes are the beginning of a frame header."""
    return 1 < len(rest) < 4 and rest[0] == 0xFF and not (rest[1] ^ like[1]) & 0xFE


def _is_header(header: bytes) -> bool:
    return (
        len(header) == 4
        and header[0] == 0xFF
        and header[1] & 0xE0 == 0xE0
        and _version(header) != 1
        and header[1] & 0x06 != 0
        and header[2] & 0x0C != 0x0C
        and _frame_lengths(header)[header[2]] > 0
    )


def _frame_lengths(header: bytes) -> list[int]:
    """Return the frame's length in bytes for each third header byte at this rate, else 0."""
    version, layer, rate = _version(header), _layer(header), _sample_rate_hz(header)
    kbps = _BITRATES_KBPS[version == 3, layer]
    lengths = []
    for byte in range(256):
        padding = byte >> 1 & 1
        bits = kbps[byte >> 4] * 1000
        if not bits or (byte ^ header[2]) & 0x0C:
            lengths.append(0)
        elif layer == 1:
            lengths.append((12 * bits // rate + padding) * 4)
        else:
            lengths.append(_samples_per_frame(header) // 8 * bits // rate + padding)
    return lengths


def _xing_frames(frame: bytes) -> int | None:
    offset = 4 + _side_information_bytes(frame)
    if frame[offset : offset + 4] in (b"Xing", b"Info") and frame[offset + 7] & 1:
        return int.from_bytes(frame[offset + 8 : offset + 12], "big")
    if frame[36:40] == b"VBRI":
        return int.from_bytes(frame[50:54], "big")
    return None


def _side_information_bytes(header: bytes) -> int:
    mono = header[3] >> 6 == 3
    if _version(header) == 3:
        return 17 if mono else 32
    return 9 if mono else 17


def _samples_per_frame(header: bytes) -> int:
    layer = _layer(header)
    if layer == 1:
        return 384
    return 576 if layer == 3 and _version(header) != 3 else 1152


def _sample_rate_hz(header: bytes) -> int:
    return _SAMPLE_RATES_HZ[_version(header)][header[2] >> 2 & 3]


def _version(header: bytes) -> int:
    return header[1] >> 3 & 3


def _layer(header: bytes) -> int:
    return 4 - (header[1] >> 1 & 3)
