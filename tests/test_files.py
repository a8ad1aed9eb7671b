"""Whole folders: what a killed process left is removed, what a living one writes is not."""

import os
import signal
import subprocess
import sys

import pytest

from mergekit_audio.files import remove_abandoned, staged_folder

HANG = """
import sys, time
from pathlib import Path
from mergekit_audio import files
with getattr(files, sys.argv[2])(Path(sys.argv[1])) as staging:
    (staging / "half" if staging.is_dir() else staging).write_text("half")
    print(staging.name, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["staged_folder", "staged_file"])
def test_only_what_a_killed_process_left_is_removed(tmp_path, kind):
    command = [sys.executable, "-c", HANG, str(tmp_path / "out"), kind]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        killed, living = ((tmp_path / writer.stdout.readline().strip()) for writer in writers)
        writers[0].send_signal(signal.SIGKILL)
        writers[0].wait()
        assert killed.exists()
        remove_abandoned(tmp_path / "out")
        assert not killed.exists()
        assert living.exists()
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    with staged_folder(tmp_path / "out") as staging:
        (staging / "whole").write_text("whole")
    assert os.listdir(tmp_path) == ["out"]
