"""Join a Ray cluster with its token, or start a private one, and leave nothing behind.

Ray 2.59 and newer let in whoever has the cluster's token (``RAY_AUTH_MODE=token``, with
``RAY_AUTH_TOKEN``, ``RAY_AUTH_TOKEN_PATH`` or ``~/.ray/auth_token``). A private cluster gets a
token of its own in this process's environment. Authentication is never switched off here.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import os
import re
import secrets
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mergekit_audio.cores import core_count
from mergekit_audio.errors import DependencyError, UsageError

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
PREFIX = "cmerge-ray-"
STORE_BYTES = 1 << 28
LOOPBACK = "127.0.0.1"
LONGEST_FOLDER = 12
"""Names of Unix sockets have at most 107 signs, and Ray's are long."""
TOKEN_HINT = (
    f"`ray get-auth-token --generate` makes a token; start all machines with {MODE}=token and the "
    f"same {TOKEN} (or {TOKEN_PATH}=FILE), and this command too"
)


def require_ray(address: str | None) -> None:
    """Raise where Ray is missing, or an address can't be joined from here.

    Raises
    ------
    UsageError
        The address is neither ``HOST:PORT`` nor ``auto``.
    DependencyError
        Ray is not installed, or there is no token for the address.
    """
    if importlib.util.find_spec("ray") is None:
        raise DependencyError(
            "the executor ray needs the package ray, which is not installed",
            "pip install 'mergekit_audio[distributed]'",
        )
    if address is None:
        return
    if address != "auto" and not re.fullmatch(r"[^:/\s]+:\d+", address):
        raise UsageError(
            f"{address!r} is no address of a Ray cluster",
            "HOST:PORT as `ray start --head` says it, or auto",
        )
    if os.environ.get(MODE, "token").lower() == "token" and not _has_token():
        raise DependencyError(f"no token for the Ray cluster at {address}", TOKEN_HINT)


@dataclass
class Cluster:
    """A cluster that this process has joined.

    Parameters
    ----------
    ray
        The package.
    stack
        Undoes what joining changed.
    """

    ray: Any
    stack: contextlib.ExitStack = field(repr=False)

    @classmethod
    def connect(cls, address: str | None, workers: int | None, opening_bytes: int) -> Cluster:
        """Join a cluster, or start one with so many cores and room for the opening.

        Raises
        ------
        DependencyError
            None answers, it refuses the token, or it has no core for work.
        """
        with contextlib.ExitStack() as stack:
            token = {MODE: "token"} if os.environ.get(MODE) is None else {}
            if address is None:
                token = {MODE: "token", TOKEN: _own_token()}
            if "ray" in sys.modules:
                token.pop(MODE, None)  # read once, when it was imported
            stack.enter_context(_environment({**QUIET, **token}))
            import ray

            if not ray.is_initialized():
                options = _options(address, workers, opening_bytes, stack)
                stack.callback(ray.shutdown)
                _start(ray, address, options)
            found = cls(ray, stack.pop_all())
        if not found.cores():
            found.leave(())
            raise DependencyError(
                f"the Ray cluster at {address} has no core for work",
                "start it with --num-cpus above 0, or add machines",
            )
        return found

    def cores(self) -> int:
        """Return the cores of all machines that are alive."""
        return int(self.ray.cluster_resources().get("CPU", 0))

    def task(self, retries: int, *, on_gpu: bool) -> Any:
        """Return the task that computes a piece; with a GPU where the cluster has any."""
        from mergekit_audio.sweep.executors.cluster_task import compute_piece

        has_gpu = self.ray.cluster_resources().get("GPU", 0) >= 1
        return self._remote(compute_piece).options(
            num_cpus=1,
            num_gpus=int(has_gpu and on_gpu),
            max_retries=retries,
            scheduling_strategy="SPREAD",
        )

    @functools.cached_property
    def _remote(self) -> Any:
        return functools.cache(self.ray.remote)

    def leave(self, tasks: Sequence[Any]) -> None:
        """Cancel tasks and leave; a private cluster ends."""
        with self.stack:
            for each in tasks:
                with contextlib.suppress(Exception):
                    self.ray.cancel(each, force=True)


def _options(
    address: str | None, workers: int | None, opening_bytes: int, stack: contextlib.ExitStack
) -> dict[str, Any]:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is not None:
        is_here = address.split(":")[0] in ("127.0.0.1", "localhost")
        return {
            **quiet,
            "address": address,
            **({"_node_ip_address": "127.0.0.1"} if is_here else {}),
        }
    folder = tempfile.gettempdir()
    folder = folder if len(folder) <= LONGEST_FOLDER else "/tmp"
    _remove_abandoned(Path(folder))
    own = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=folder)
    stack.callback(shutil.rmtree, own, ignore_errors=True)
    return {
        **quiet,
        "num_cpus": workers or core_count(),
        "include_dashboard": False,
        "object_store_memory": STORE_BYTES + 2 * opening_bytes,
        "_temp_dir": own,
    }


def _remove_abandoned(folder: Path) -> None:
    """Remove what private clusters left whose driver was killed."""
    for path in sorted(folder.glob(f"{PREFIX}*-*")):
        try:
            os.kill(int(path.name.removeprefix(PREFIX).split("-")[0]), 0)
        except ProcessLookupError:
            shutil.rmtree(path, ignore_errors=True)
        except (PermissionError, ValueError):
            continue  # another user's


def _start(ray: Any, address: str | None, options: dict[str, Any]) -> None:
    """Call ``ray.init``; the handler of SIGTERM stays this program's."""
    where = f"the Ray cluster at {address}" if address else "a private Ray cluster"
    with _own_handlers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ray.init(**options)
        except ray.exceptions.AuthenticationError as error:
            raise DependencyError(f"{where} refuses the token", TOKEN_HINT) from error
        except (ConnectionError, RuntimeError, TimeoutError, ValueError, OSError) as error:
            text = str(error).strip().splitlines()
            raise DependencyError(
                f"{where} can't be reached: {text[0] if text else type(error).__name__}",
                "look at its address; this command must run on one of its machines (`ray start "
                "--address=HOST:PORT` adds this one)"
                if address
                else "look at free memory and at the folder for temporary files",
            ) from error


@contextlib.contextmanager
def _own_handlers() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError, TypeError):  # not in the main thread
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@functools.cache
def _own_token() -> str:
    """Return the token of this process's private clusters; Ray reads it once."""
    return secrets.token_hex(32)


def _has_token() -> bool:
    path = os.environ.get(TOKEN_PATH)
    kept = Path(path) if path else Path.home() / ".ray" / "auth_token"
    return bool(os.environ.get(TOKEN)) or kept.is_file()
