"""Whole folders: what a killed process left is removed, what a living one writes is not."""

import os
import signal
import subprocess
import sys

from mergekit_audio.files import staged_folder

HANG = """
import sys, time
from pathlib import Path
from mergekit_audio.files import staged_folder
with staged_folder(Path(sys.argv[1])) as staging:
    (staging / "half").write_text("half")
    print(staging.name, flush=True)
    time.sleep(60)
"""


def test_only_what_a_killed_process_left_is_removed(tmp_path):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", HANG, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        killed, living = ((tmp_path / writer.stdout.readline().strip()) for writer in writers)
        writers[0].send_signal(signal.SIGKILL)
        writers[0].wait()
        assert (killed / "half").exists()
        with staged_folder(tmp_path / "out") as staging:
            assert not killed.exists()
            assert (living / "half").exists()
            (staging / "whole").write_text("whole")
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    assert os.listdir(tmp_path / "out") == ["whole"]
