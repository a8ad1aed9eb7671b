"""What all tests share."""

import os
import signal

import pytest


def pytest_configure() -> None:
    """Let Ctrl-C reach the processes that tests start, also where the tests run in the background.

    A shell without job control starts background commands with SIGINT ignored, and their children
    inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _own_digest_memory(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what tests remember of files apart from the user's memory, also in their processes."""
    os.environ["CMERGE_DIGEST_CACHE"] = str(tmp_path_factory.mktemp("digests"))
