"""Bring a synthetic corpus into a folder: audio, manifest, card, checksums; resumable."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import soundfile

from mergekit_audio.datasets._plan import ClipPlan, plan_clip, split_sizes
from mergekit_audio.datasets._render import render
from mergekit_audio.errors import InputError
from mergekit_audio.files import explain_os_errors, sha256_of_file, staged_file, write_text
from mergekit_audio.progress import Progress, ProgressEvent

SYNTHESISER_VERSION = 1
"""Raise it with every change that changes a sample: corpora of another version are not resumed."""
MANIFEST, CARD, CHECKSUMS, AUDIO = "manifest.jsonl", "README.md", "checksums.jsonl", "audio"

_ENCODINGS = {
    "flac": ("FLAC", "PCM_16"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "ogg": ("OGG", "VORBIS"),
    "wav": ("WAV", "PCM_16"),
}


@dataclass(frozen=True)
class Settings:
    """What decides the corpus; the fields of the plug-in."""

    culture: str
    tracks: int
    duration_s: float
    seed: int


def write(settings: Settings, folder: Path, card: str, progress: Progress, workers: int) -> Path:
    """Write what is missing or not as it was written, and return the manifest."""
    plans = [
        plan_clip(settings.culture, split, index, settings.seed)
        for split, size in split_sizes(settings.tracks).items()
        for index in range(size)
    ]
    with explain_os_errors(folder):
        known = _claim(folder, settings)
        _remove_partial_files(folder)
        missing = [plan for plan in plans if not _is_intact(folder, plan, known)]
        task = f"synthesise {settings.culture}"
        done = len(plans) - len(missing)
        progress(ProgressEvent(task, done, len(plans)))
        for plan, digest in _write_clips(missing, folder, settings.duration_s, workers):
            known[_path(plan)] = digest
            with open(folder / CHECKSUMS, "a", encoding="utf-8", newline="\n") as journal:
                journal.write(_line({"path": _path(plan), "sha256": digest}))
            done += 1
            progress(ProgressEvent(task, done, len(plans), plan.id))
        rows = [_row(plan, settings.duration_s) for plan in sorted(plans, key=lambda plan: plan.id)]
        _write_if_new(folder / CARD, card)
        _write_if_new(folder / CHECKSUMS, _checksums(settings, known))
        _write_if_new(folder / MANIFEST, "".join(_line(row) for row in rows))
    return folder / MANIFEST


def _claim(folder: Path, settings: Settings) -> dict[str, str]:
    """Return the sha256 of the files written so far; refuse a folder that is not this corpus."""
    record = folder / CHECKSUMS
    if not record.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(
                f"{folder}: is not empty and holds no {CHECKSUMS} of a synthetic corpus",
                "choose an empty or a new folder",
            )
        write_text(record, _checksums(settings, {}))
        return {}
    text = record.read_text(encoding="utf-8", errors="replace")
    whole_lines = text[: text.rfind("\n") + 1].splitlines()
    found = _parsed(whole_lines[0]) if whole_lines else None
    if found != _header(settings):
        raise InputError(
            f"{record}: the folder holds another corpus ({json.dumps(found)}), "
            f"expected {json.dumps(_header(settings))}",
            "choose another folder, or remove this one",
        )
    rows = [row for row in map(_parsed, whole_lines[1:]) if row]
    known = {str(row.get("path")): str(row.get("sha256")) for row in rows}
    if not text.endswith("\n"):  # the last line was cut when the process was ended
        write_text(record, _checksums(settings, known))
    return known


def _write_clips(
    plans: list[ClipPlan], folder: Path, duration_s: float, workers: int
) -> Iterator[tuple[ClipPlan, str]]:
    """Yield each plan with its file's sha256 as soon as the file is there."""
    if workers <= 1 or len(plans) < 2:
        for plan in plans:
            yield plan, _write_clip(plan, folder, duration_s)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="synthetic")
    try:
        futures = {pool.submit(_write_clip, plan, folder, duration_s): plan for plan in plans}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _write_clip(plan: ClipPlan, folder: Path, duration_s: float) -> str:
    clip = render(plan, duration_s)
    container, encoding = _ENCODINGS[plan.file_format]
    buffer = io.BytesIO()
    soundfile.write(buffer, clip.wave, clip.rate_hz, format=container, subtype=encoding)
    content = buffer.getvalue()
    with staged_file(folder / _path(plan)) as staging:
        staging.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _is_intact(folder: Path, plan: ClipPlan, known: dict[str, str]) -> bool:
    path = folder / _path(plan)
    return path.is_file() and sha256_of_file(path) == known.get(_path(plan))


def _path(plan: ClipPlan) -> str:
    return f"{AUDIO}/{plan.id}.{plan.file_format}"


def _row(plan: ClipPlan, duration_s: float) -> dict[str, Any]:
    return {
        "id": plan.id,
        "path": _path(plan),
        "split": plan.split,
        "tags": list(plan.tags),
        "duration_s": duration_s,
        "artist": plan.artist,
    }


def _header(settings: Settings) -> dict[str, Any]:
    return {"dataset": "synthetic", "synthesiser": SYNTHESISER_VERSION, **asdict(settings)}


def _checksums(settings: Settings, known: dict[str, str]) -> str:
    rows = [{"path": path, "sha256": known[path]} for path in sorted(known)]
    return "".join(_line(row) for row in [_header(settings), *rows])


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _write_if_new(path: Path, text: str) -> None:
    if not path.is_file() or path.read_bytes() != text.encode("utf-8"):
        write_text(path, text)


def _remove_partial_files(folder: Path) -> None:
    for path in sorted((folder / AUDIO).glob(".*.partial")):
        path.unlink(missing_ok=True)
