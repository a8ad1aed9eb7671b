"""Many processes of one training, as torchrun starts them: who writes, and who waits for it."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed

from mergekit_audio.errors import CmergeError, DependencyError, UsageError
from mergekit_audio.recipe.train import TrainRecipe
from mergekit_audio.recipe.train_arguments import TrainArguments

Value = TypeVar("Value")

# The main process may decode and tokenise a corpus for days while the others wait.
_LONGEST_WAIT = datetime.timedelta(days=30)


@contextlib.contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Yield this process's place among those that torchrun started; one process stays alone.

    Accelerate makes the process group that transformers' Trainer trains with: nccl on GPUs, one GPU
    a process, gloo on CPUs. Objects travel in a gloo group of their own, which may wait for days.

    Parameters
    ----------
    device
        ``cuda`` or ``cpu``.

    Raises
    ------
    DependencyError
        There are fewer GPUs than processes on this machine, or another process stopped.
    """
    if started_processes() == 1:
        yield Processes()
        return
    _require_gpus(device)
    from accelerate import PartialState

    # Where it is not set, Accelerate would choose the number of threads, not the recipe.
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))

    state: Any = PartialState(cpu=device == "cpu", backend=backend_name(device))
    group: Any = torch.distributed.new_group(backend="gloo", timeout=_LONGEST_WAIT)
    try:
        yield Processes(state.process_index, state.num_processes, group)
    except (RuntimeError, ConnectionError) as error:
        if not _is_lost_peer(error):
            raise
        raise DependencyError(
            f"process {state.process_index}: another process of this training stopped: "
            f"{str(error).splitlines()[0]}",
            "its own message says why; the same command goes on from the last checkpoint",
        ) from error
    torch.distributed.destroy_process_group()
    PartialState._reset_state()


@dataclass(frozen=True)
class Processes:
    """The processes of one training, seen from one of them.

    Parameters
    ----------
    index
        This process's number; 0 is the main process, which alone writes.
    count
        How many there are.
    group
        A gloo group of all of them, or None for one process.
    """

    index: int = 0
    count: int = 1
    group: Any = None

    @property
    def is_main(self) -> bool:
        """Whether this process writes and talks."""
        return self.index == 0

    def on_main(self, work: Callable[[], Value]) -> Value:
        """Do work in the main process while the others wait, and return its value in all of them.

        Raises
        ------
        Exception
            What the work raised, in the main process.
        SystemExit
            The same in the others, with its exit code: the main process says why.
        """
        if self.count == 1:
            return work()
        failure: Exception | None = None
        outcome: list[Any] = [None, None]
        if self.is_main:
            try:
                outcome[0] = work()
            except Exception as error:
                failure = error
                outcome[1] = error.exit_code if isinstance(error, CmergeError) else 1
        torch.distributed.broadcast_object_list(outcome, src=0, group=self.group)
        if failure is not None:
            raise failure
        if outcome[1] is not None:
            raise SystemExit(outcome[1])
        value: Value = outcome[0]
        return value

    def agreed(self, error: CmergeError) -> BaseException:
        """Return what to raise of an error that every process found: only one has to say it."""
        return error if self.is_main else SystemExit(error.exit_code)


def started_processes() -> int:
    """Return how many processes torchrun started for this command: ``WORLD_SIZE``, else 1."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def require_processes(arguments: TrainArguments) -> None:
    """Raise ``UsageError`` when one process alone is to train in shards."""
    if arguments.parallel == "fsdp" and started_processes() == 1:
        raise UsageError(
            "arguments.parallel: fsdp cuts a model into shards for many processes; there is one",
            "start it with torchrun (torchrun --nproc-per-node=gpu -m mergekit_audio …), or "
            "--set arguments.parallel=ddp",
        )


def clips_per_step(arguments: TrainArguments) -> int:
    """Return the clips of an optimiser step: micro-batch · accumulation · processes, or as set."""
    if arguments.clips_per_step is not None:
        return arguments.clips_per_step
    return arguments.batch_size * arguments.accumulation * started_processes()


def with_steps(recipe: TrainRecipe) -> TrainRecipe:
    """Return the recipe with each stage's hours as steps, at least one.

    ``steps = hours · 3600 / (clips of a step · crop_s)``, rounded.
    """
    step_s = clips_per_step(recipe.arguments) * recipe.arguments.crop_s
    stages = [
        stage
        if stage.hours is None
        else stage.model_copy(
            update={"steps": max(1, round(stage.hours * 3600 / step_s)), "hours": None}
        )
        for stage in recipe.stages
    ]
    return recipe.model_copy(update={"stages": stages})


def backend_name(device: str) -> str:
    """Return what gradients travel by."""
    return "gloo" if device == "cpu" else "nccl"


def _require_gpus(device: str) -> None:
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device != "cpu" and here > torch.cuda.device_count():
        raise DependencyError(
            f"{here} processes were started on a machine with {torch.cuda.device_count()} GPUs",
            "start one process a GPU (torchrun --nproc-per-node=gpu -m mergekit_audio …)",
        )


def _is_lost_peer(error: Exception) -> bool:
    """Whether a collective failed because the process on the other side is gone."""
    return isinstance(error, torch.distributed.DistError) or "by peer" in str(error)
