"""What all tests share."""

import signal


def pytest_configure() -> None:
    """Let Ctrl-C reach the processes that tests start, also where the tests run in the background.

    A shell without job control starts background commands with SIGINT ignored, and their children
    inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
