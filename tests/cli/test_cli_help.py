import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Done, environment, run

import mergekit_audio

HEAVY = ("torch", "numpy", "scipy", "sklearn", "matplotlib", "transformers", "safetensors")
ALSO_LEFT_OUT = ("yaml", "huggingface_hub", "soundfile", "mergekit_audio.recipe.load")
COMMANDS = [
    ("demo",),
    ("data", "ls"),
    ("data", "info"),
    ("data", "import"),
    ("data", "prepare"),
    ("recipe", "ls"),
    ("recipe", "cp"),
    ("recipe", "show"),
    ("recipe", "check"),
    ("recipe", "schema"),
    ("train-culture",),
    ("train-multi",),
    ("ablation",),
    ("merge",),
    ("sweep-lambda",),
    ("measure",),
    ("similarity",),
    ("inspect",),
    ("extract-lora",),
    ("evaluate",),
    ("verify",),
]
WRITING = [
    ("demo",),
    ("data", "import"),
    ("data", "prepare"),
    ("recipe", "cp"),
    ("train-culture",),
    ("train-multi",),
    ("ablation",),
    ("merge",),
    ("extract-lora",),
    ("sweep-lambda",),
    ("measure",),
    ("similarity",),
    ("evaluate",),
]


def test_help_lists_the_commands_by_task(cmerge: Callable[..., Done]) -> None:
    done = cmerge("--help")
    assert done.code == 0
    assert done.err == ""
    places = [done.out.index(f" {panel} ") for panel in ("Start", "Train", "Merge", "Release")]
    assert places == sorted(places)
    assert all(f" {words[0]} " in done.out for words in COMMANDS)
    assert "Example: cmerge " in done.out
    assert "\x1b" not in done.out


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_help_of_a_command_has_an_example(
    cmerge: Callable[..., Done], words: tuple[str, ...]
) -> None:
    done = cmerge(*words, "-h")
    assert done.code == 0
    assert f"Example: cmerge {' '.join(words)}" in done.out
    assert ("--dry-run" in done.out) == (words in WRITING)


@pytest.mark.parametrize("words", [["--help"], ["merge", "--help"], ["recipe", "ls"]])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom mergekit_audio.cli.main import main\n"
        "try:\n    main()\nfinally:\n"
        f"    found = [name for name in {HEAVY + ALSO_LEFT_OUT} if name in sys.modules]\n"
        "    sys.stderr.write(','.join(found))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout


def test_help_loads_few_modules(tmp_path: Path) -> None:
    """What the help loads is what it costs: the command line, Typer, rich, and little of Python."""
    code = (
        "import sys\nfrom mergekit_audio.cli.main import main\n"
        "try:\n    main()\nfinally:\n    sys.stderr.write(' '.join(sorted(sys.modules)))\n"
    )
    done = run(tmp_path, "--help", code=code)
    assert done.code == 0
    loaded = done.err.split()
    assert len(loaded) < 450
    own = {name for name in loaded if name.startswith("mergekit_audio.")}
    shared = {name.split(".")[1] for name in own} - {"cli"}
    assert shared <= {"errors", "files", "progress", "report"}
    assert len(own) < 60


def test_checking_a_recipe_loads_no_torch(tmp_path: Path, merge_recipe: Path) -> None:
    code = (
        "import sys\nfrom mergekit_audio.cli.main import main\n"
        "try:\n    main()\nfinally:\n"
        f"    sys.stderr.write(','.join(name for name in {HEAVY} if name in sys.modules))\n"
    )
    done = run(tmp_path, "recipe", "check", merge_recipe, code=code)
    assert (done.code, done.err) == (0, "")


def test_the_version_is_printed(cmerge: Callable[..., Done]) -> None:
    done = cmerge("--version")
    assert (done.code, done.out) == (0, f"cmerge {mergekit_audio.__version__}\n")


def test_python_dash_m_is_the_same_command(tmp_path: Path) -> None:
    assert run(tmp_path, "--version").out == f"cmerge {mergekit_audio.__version__}\n"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("cmerge swe", ["sweep-lambda"]),
        ("cmerge recipe s", ["schema", "show"]),
        ("cmerge recipe cp merge/cu", ["merge/culturemert_ta"]),
        ("cmerge recipe schema s", ["similarity", "sweep"]),
        ("cmerge data info mtat", ["mtat_clean", "mtat_full"]),
        ("cmerge merge --dr", ["--dry-run"]),
    ],
)
def test_completion_offers_commands_options_and_names(
    tmp_path: Path, typed: str, offered: list[str]
) -> None:
    done = run(
        tmp_path,
        _CMERGE_COMPLETE="complete_bash",
        COMP_WORDS=typed,
        COMP_CWORD=str(len(typed.split()) - 1),
    )
    assert done.code == 0
    assert sorted(done.out.split()) == offered
