import signal
import time
from pathlib import Path

import pytest
from commands import STUCK_MERGE, start


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "kill"])
def test_an_interrupted_merge_leaves_nothing_and_says_so_in_one_line(
    merge_recipe: Path, tmp_path: Path, kind: signal.Signals
) -> None:
    process = start(tmp_path, "merge", "merge.yaml", "--no-progress", code=STUCK_MERGE)
    deadline = time.monotonic() + 500
    while not list(tmp_path.glob(".out.*.partial/*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None
    process.send_signal(kind)
    out, err = process.communicate(timeout=500)
    assert process.returncode == 130
    assert out == ""
    assert err.startswith("interrupted: ")
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["merge.yaml"]
