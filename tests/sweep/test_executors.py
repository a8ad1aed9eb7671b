"""Executors: the same bytes wherever points are computed, whoever is killed meanwhile."""

import json
import multiprocessing
import os
import pickle
import signal
import time

import pytest
import yaml
from checkpoints import make_mert_checkpoint
from commands import start
from probing import CONFIG
from small_models import folder_bytes
from sweeping import DENSE, DIRECT, lines_of, recipe_of, without_figures, write_world

from mergekit_audio.cli.sweep import _describe_sweep
from mergekit_audio.errors import DependencyError, NotFiniteError, UsageError
from mergekit_audio.sweep import plan, run, sweep
from mergekit_audio.sweep.executors.base import Kept, Outcome, Piece, QueueExecutor
from mergekit_audio.sweep.executors.choice import make_executor
from mergekit_audio.sweep.executors.process import ProcessExecutor, _Process
from mergekit_audio.sweep.executors.worker import Bench
from mergekit_audio.sweep.spaces import Point


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = write_world(tmp_path_factory.mktemp("executors"))
    with without_figures():
        for name, value in (("direct", DIRECT), ("dense", DENSE)):
            sweep(recipe_of(root, value, name), root, output=root / name)
        yield root


def results_of(folder):
    """Return an output without what names its folder or its store."""
    named = ("cmerge.lock.json", "suggested_mixture.yaml")
    return {name: data for name, data in folder_bytes(folder).items() if name not in named}


def children_of(pid):
    """Return the processes that a process started, as Linux tells them."""
    with open(f"/proc/{pid}/task/{pid}/children") as stream:
        return [int(each) for each in stream.read().split()]


def workers_of(pid):
    """Return the processes that compute: not multiprocessing's own."""
    found = []
    for child in children_of(pid):
        with open(f"/proc/{child}/cmdline") as stream:
            found += [child] if "spawn_main" in stream.read() else []
    return found


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def await_true(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Inline(QueueExecutor):
    """A worker in this process, which gets the last piece first; all that is sent is pickled."""

    def open(self, opening, arrivals):
        super().open(opening, arrivals)
        self.bench = Bench(pickle.loads(pickle.dumps(opening)))

    def in_hand(self):
        return []

    def hand_out(self):
        pass

    def receive(self, seconds):
        if seconds is None:
            piece = self.waiting.pop()
            sent = pickle.dumps((piece, self.arrivals.known(piece)))
            answers = []
            outcome = self.bench.compute(
                *pickle.loads(sent), lambda each: answers.append(pickle.dumps(each))
            )
            for answer in map(pickle.loads, answers):
                if isinstance(answer, Kept):
                    self.arrivals.keep(answer)
            self.finish(piece, pickle.loads(pickle.dumps(outcome)))


@pytest.fixture
def inline(monkeypatch):
    monkeypatch.setattr(run, "make_executor", lambda *words: Inline())


@pytest.mark.parametrize(("name", "value"), [("direct", DIRECT), ("dense", DENSE)])
def test_the_bytes_are_the_same_wherever_and_in_what_order_points_are_computed(
    world, inline, name, value
):
    output = world / f"inline-{name}"
    sweep(recipe_of(world, value, f"inline-{name}"), world, output=output)
    assert results_of(output) == results_of(world / name)
    diverged = json.loads((output / "summary.json").read_text())["diverged"]
    assert [each["row"] for each in diverged] == ["λ = 1e+25"] * (name == "direct")


def test_an_error_of_a_worker_is_that_of_the_sweep(world, tmp_path, inline, monkeypatch):
    (tmp_path / "corpora").symlink_to(world / "corpora")
    (tmp_path / "models").mkdir()
    for name in ("base", "lyra"):
        (tmp_path / "models" / name).symlink_to(world / "models" / name)
    make_mert_checkpoint(
        tmp_path / "models" / "makam",
        overrides=CONFIG,
        perturb_of=world / "models" / "base",
        perturb_scale=1e25,
    )
    errors = []
    for name in ("inline", "serial"):
        with pytest.raises(NotFiniteError) as caught:
            sweep(recipe_of(tmp_path, DIRECT, name), tmp_path)
        errors.append((caught.type, caught.value.message, caught.value.hint))
        monkeypatch.undo()
    assert errors[0] == errors[1]
    assert "makam on tones" in errors[0][1]


def test_killed_workers_and_a_killed_driver_lose_nothing(world):
    recipe = recipe_of(world, DENSE, "killed")
    described = recipe.model_dump(mode="json", exclude_unset=True) | {"output": "killed"}
    (world / "killed.yaml").write_text(yaml.safe_dump(described))
    words = ("sweep-lambda", "killed.yaml", "--executor", "process", "--workers", 2)
    driver = start(world, *words, "--no-progress")
    results = world / "killed.work" / "results.jsonl"

    def finished():
        return results.read_bytes().count(b"\n") if results.exists() else 0

    await_true(lambda: finished() >= 2)
    os.kill(workers_of(driver.pid)[0], signal.SIGKILL)
    await_true(lambda: finished() >= 9)
    started = children_of(driver.pid)
    assert len(workers_of(driver.pid)) == 2
    driver.kill()
    driver.communicate()
    await_true(lambda: not any(is_alive(pid) for pid in started))
    assert not (world / "killed").exists()
    assert 9 <= finished() < len(lines_of(world / "dense"))
    sweep(recipe, world, output=world / "killed")
    assert results_of(world / "killed") == results_of(world / "dense")
    lines = lines_of(world / "killed")
    assert len({(line["model"], line["task"], line["seed"]) for line in lines}) == len(lines)


def test_a_piece_that_ends_its_process_three_times_is_an_error_that_names_it():
    class Gone:
        exitcode = -9

        def join(self, timeout=None):
            pass

        def is_alive(self):
            return False

    executor = ProcessExecutor(1)
    piece = Piece("point", "λ = 0.5", Point((0.5,)))
    ours, theirs = multiprocessing.Pipe()
    for _ in range(2):
        process = _Process(0, Gone(), ours, piece)
        executor._processes.append(process)
        executor._bury(process)
        assert executor.waiting.popleft() == piece
    executor._processes.append(process)
    with pytest.raises(DependencyError, match=r"λ = 0\.5: 3 processes ended .* by SIGKILL"):
        executor._bury(process)
    theirs.close()


def test_after_an_error_only_what_comes_before_it_is_computed():
    executor = ProcessExecutor(1)
    pieces = [Piece("point", f"λ = {scale}", Point((scale,))) for scale in (0.1, 0.2, 0.3)]
    executor.order = {piece: place for place, piece in enumerate(pieces)}
    executor.waiting.extend([pieces[0], pieces[2]])
    executor.finish(pieces[1], Outcome(error=NotFiniteError("diverges")))
    assert list(executor.waiting) == [pieces[0], pieces[2]]
    executor.finish(pieces[1], Outcome(error=OSError("gone")))
    assert list(executor.waiting) == [pieces[0]]


def test_errors_go_to_other_processes_with_their_hints():
    error = pickle.loads(pickle.dumps(NotFiniteError("what", "do this")))
    assert (type(error), error.message, error.hint) == (NotFiniteError, "what", "do this")


@pytest.mark.parametrize(
    ("words", "kind", "problem"),
    [
        (("threads",), UsageError, "none of serial, process, ray"),
        (("process", "auto"), UsageError, "an address belongs to a Ray cluster"),
    ],
)
def test_what_is_no_executor_is_refused(words, kind, problem):
    with pytest.raises(kind, match=problem):
        make_executor(*words)


def test_dry_run_names_executor_and_workers(world):
    planned = plan(recipe_of(world, DIRECT, "direct"), world)
    found = _describe_sweep(planned, "process", None, 2)["estimate"]
    assert (found["executor"], found["workers"]) == ("process", 2)
    assert found["fewest"]["time_s"] > 0
