"""What all tests share."""

import gc
import os
import signal
import sys

import pytest


def pytest_configure() -> None:
    """Prepare what the processes that tests start inherit.

    Ctrl-C reaches them also where the tests run in the background: a shell without job control
    starts background commands with SIGINT ignored, and their children inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Compiled modules are kept: hundreds of them would be compiled in every process that starts.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def pytest_collection_finish() -> None:
    """Take what was imported out of the garbage collector's rounds: it stays to the end.

    Accelerate calls the collector after every training, which took longer than a small training.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _own_digest_memory(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what tests remember of files apart from the user's memory, also in their processes."""
    os.environ["CMERGE_DIGEST_CACHE"] = str(tmp_path_factory.mktemp("digests"))
