"""Whole folders: what a killed process left is removed, what a living one writes is not."""

import os
import signal
import subprocess
import sys

import pytest

from mergekit_audio.errors import InputError
from mergekit_audio.files import remove_abandoned, require_space, staged_folder

HANG = """
import sys, time
from pathlib import Path
from mergekit_audio import files
with getattr(files, sys.argv[2])(Path(sys.argv[1])) as staging:
    (staging / "half" if staging.is_dir() else staging).write_text("half")
    print(staging.name, flush=True)
    time.sleep(60)
"""


def started(tmp_path, kind):
    """Start a process that writes half of ``out`` and hangs; return it and its temporary path."""
    command = [sys.executable, "-c", HANG, str(tmp_path / "out"), kind]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return writer, tmp_path / writer.stdout.readline().strip()


def kill(writer):
    writer.send_signal(signal.SIGKILL)
    writer.communicate()


def test_only_what_a_killed_process_left_is_removed(tmp_path):
    (first, killed), (second, living) = (started(tmp_path, "staged_file") for _ in range(2))
    try:
        kill(first)
        assert killed.exists()
        remove_abandoned(tmp_path / "out")
        assert not killed.exists()
        assert living.exists()
    finally:
        kill(second)


def test_one_process_writes_a_folder_and_another_says_so(tmp_path):
    writer, killed = started(tmp_path, "staged_folder")
    try:
        with (
            pytest.raises(InputError, match="out: another process is writing this output"),
            staged_folder(tmp_path / "out"),
        ):
            pass
        assert killed.exists()
    finally:
        kill(writer)
    with staged_folder(tmp_path / "out") as staging:
        assert not killed.exists()
        (staging / "whole").write_text("whole")
    assert os.listdir(tmp_path) == ["out"]


def test_a_folder_is_replaced_in_one_step(tmp_path):
    for content in ("old", "new"):
        with staged_folder(tmp_path / "out", force=True) as staging:
            (staging / "file").write_text(content)
    assert (tmp_path / "out" / "file").read_text() == "new"
    assert os.listdir(tmp_path) == ["out"]


def test_a_disk_without_room_is_found_before_the_work(tmp_path):
    with pytest.raises(InputError, match=r"out: no space left .* 999,000,000,000 MB are to be"):
        require_space(tmp_path / "a" / "out", 999 * 10**15)
    require_space(tmp_path / "a" / "out", 1000)
