"""The README keeps its promises of size and names every command."""

from pathlib import Path

from mergekit_audio.cli.main import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_stays_short():
    assert len(README.splitlines()) <= 225


def test_every_command_and_exit_code_is_there():
    commands = [command.name for command in app.registered_commands]
    assert len(commands) >= 8
    for name in [*commands, "data prepare", "recipe ls"]:
        assert f"cmerge {name}" in README
    for code in (0, 1, 2, 3, 4, 5, 6, 130):
        assert f"| {code} |" in README


def test_every_link_to_a_file_leads_somewhere():
    targets = [part.split(")")[0] for part in README.split("](")[1:]]
    local = [target for target in targets if not target.startswith("http")]
    assert local
    for target in local:
        assert (ROOT / target).exists(), target
