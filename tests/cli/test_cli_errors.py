import errno
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Done

from mergekit_audio import merge
from mergekit_audio.cli import main as main_module
from mergekit_audio.errors import DependencyError


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*arguments: object, **keywords: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["merg"], "No such command 'merg'", "`cmerge --help` shows"),
        (["merge"], "Missing argument 'RECIPE'", "`cmerge merge --help` shows"),
        (["merge", "x.yaml", "--forse"], "No such option: --forse", "`cmerge merge --help`"),
        (["recipe", "schema", "merg"], "'merg' is no recipe kind", "did you mean 'merge'?"),
        (["inspect", "a", "b", "c"], "3 models without a base", "add --base"),
        (["data", "prepare", "x", "--workers", "0"], "--workers", "`cmerge data prepare --help`"),
    ],
)
def test_usage_errors_are_code_2(
    cmerge: Callable[..., Done], words: list[str], message: str, hint: str
) -> None:
    done = cmerge(*words)
    assert (done.code, done.out) == (2, "")
    first, blank, last = done.err.rstrip("\n").rsplit("\n", 2)
    assert message in first
    assert blank == ""
    assert last.startswith("hint: ")
    assert hint in last


def test_recipe_errors_are_code_3_and_list_every_fault(
    cmerge: Callable[..., Done], merge_recipe: Path
) -> None:
    text = merge_recipe.read_text()
    merge_recipe.write_text(text.replace("weight", "wieght") + "scal: 1\n")
    done = cmerge("merge", "merge.yaml", "--no-progress")
    assert done.code == 3
    assert done.out == ""
    assert done.err.splitlines() == [
        f"merge.yaml:5:{text.splitlines()[4].index('weight') + 1}: models[1].wieght: "
        "unknown key; did you mean 'weight'?",
        "merge.yaml:9:1: scal: unknown key; expected one of: allow_nonfinite, device, dtype, "
        "exclude, groups, max_shard_size_mb, mismatched, missing, seed, stack, unrelated, "
        "weight_norm",
        "",
        "hint: `cmerge recipe schema merge` prints every key and what it takes",
    ]


def test_a_fault_that_the_engine_finds_has_its_line(
    cmerge: Callable[..., Done], merge_recipe: Path
) -> None:
    merge_recipe.write_text(merge_recipe.read_text() + 'exclude: ["encoder.*", "decoder.*"]\n')
    done = cmerge("merge", "merge.yaml", "--dry-run", "--quiet")
    assert done.code == 3
    assert done.err.startswith("merge.yaml:9:24: exclude[1]: 'decoder.*' matches no tensor")


def test_input_errors_are_code_4(cmerge: Callable[..., Done], merge_recipe: Path) -> None:
    done = cmerge("merge", "merge.yaml", "--quiet", "--set", "base=nowhere")
    assert done.code == 4
    assert "nowhere: no such folder or file" in done.err
    assert "\n\nhint: " in done.err


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_place_that_can_not_be_written_is_code_4(
    cmerge: Callable[..., Done],
    merge_recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
) -> None:
    error = OSError(code, "no", "somewhere")
    monkeypatch.setattr("mergekit_audio.merge.writing.copy_side_files", failing(error))
    done = cmerge("merge", "merge.yaml", "--quiet")
    assert done.code == 4
    assert f"{tmp_path / 'out'}: " in done.err
    assert "hint: " in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["merge.yaml"]


def test_an_error_of_the_disk_outside_an_output_is_code_4(
    cmerge: Callable[..., Done], merge_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "run", failing(OSError(errno.ENOSPC, "full", "cache")))
    done = cmerge("merge", "merge.yaml", "--quiet")
    assert done.code == 4
    assert done.err.startswith("cache: No space left on device\n")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DependencyError("needs a GPU", "take a machine with one"), "needs a GPU"),
        (MemoryError(), "out of memory"),
        (ModuleNotFoundError("No module named 'ray'", name="ray"), "the package 'ray' is not"),
    ],
)
def test_missing_packages_and_hardware_are_code_6(
    cmerge: Callable[..., Done],
    merge_recipe: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    message: str,
) -> None:
    monkeypatch.setattr(merge, "plan", failing(error))
    done = cmerge("merge", "merge.yaml", "--quiet")
    assert done.code == 6
    assert done.err.startswith(message)
    assert "\n\nhint: " in done.err


class TestBug:
    """An error that is not the user's."""

    @pytest.fixture(autouse=True)
    def _bug(self, monkeypatch: pytest.MonkeyPatch, merge_recipe: Path) -> None:
        monkeypatch.setattr(merge, "plan", failing(ValueError("a bug")))

    def test_is_code_1_in_two_lines(self, cmerge: Callable[..., Done]) -> None:
        done = cmerge("merge", "merge.yaml", "--quiet")
        assert done.code == 1
        assert done.err.startswith("internal error: ValueError: a bug\n\nhint: ")
        assert "Traceback" not in done.err

    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_shows_its_traceback_when_asked(self, cmerge: Callable[..., Done], place: int) -> None:
        words = ["merge", "merge.yaml"]
        words.insert(place, "--traceback")
        done = cmerge(*words)
        assert done.code == 1
        assert "Traceback (most recent call last)" in done.err
        assert done.err.count("internal error: ValueError: a bug") == 1

    def test_shows_its_traceback_when_debugging(
        self, cmerge: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CMERGE_DEBUG", "1")
        assert "Traceback" in cmerge("merge", "merge.yaml").err
        monkeypatch.setenv("CMERGE_DEBUG", "0")
        assert "Traceback" not in cmerge("merge", "merge.yaml").err


def test_an_interrupt_is_code_130_in_one_line(
    cmerge: Callable[..., Done], merge_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "run", failing(KeyboardInterrupt()))
    done = cmerge("merge", "merge.yaml", "--quiet")
    assert done.code == 130
    assert done.err.startswith("interrupted: ")
    assert done.err.count("\n") == 1


def test_json_is_alone_on_stdout_when_a_command_fails(
    cmerge: Callable[..., Done], merge_recipe: Path
) -> None:
    merge_recipe.write_text("kind: merge\n")
    done = cmerge("recipe", "check", "merge.yaml", "--json")
    assert done.code == 3
    value = json.loads(done.out)
    assert value["valid"] is False
    assert [fault["key"] for fault in value["faults"]] == ["method", "models", "output"]
    assert value["faults"][0]["line"] == 1


def test_every_documented_code_has_its_error() -> None:
    from mergekit_audio import errors

    kinds = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.CmergeError)
    ]
    assert {kind.exit_code for kind in kinds} == {1, 2, 3, 4, 5, 6}
    documented = str(main_module.main.__doc__)
    assert all(f"{code} " in documented for code in (0, 1, 2, 3, 4, 5, 6, 130))


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    import subprocess

    from commands import environment

    done = subprocess.run(
        f"{sys.executable} -m mergekit_audio recipe schema train | head -n 1",
        shell=True,
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "{\n"
    assert done.stderr == ""
