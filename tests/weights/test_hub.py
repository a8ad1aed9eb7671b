"""Hub repos: read from the cache, and told apart when they can't be had."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
from checkpoints import make_mert_checkpoint
from huggingface_hub import constants

from mergekit_audio.errors import InputError
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.hub import resolve

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty hub cache, with the network off."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def cached_repo(cache: Path) -> Callable[..., Path]:
    """Return a function that puts a checkpoint into the cache as the hub's client does."""

    def _make(**options: object) -> Path:
        repo = cache / "models--m-a-p--MERT-tiny"
        snapshot = repo / "snapshots" / COMMIT
        made = make_mert_checkpoint(cache.parent / "made", **options)  # type: ignore[arg-type]
        (repo / "blobs").mkdir(parents=True)
        snapshot.mkdir(parents=True)
        for number, path in enumerate(sorted(made.iterdir())):
            blob = repo / "blobs" / f"{number:040d}"
            path.rename(blob)
            (snapshot / path.name).symlink_to(Path("../..") / "blobs" / blob.name)
        (repo / "refs").mkdir()
        for ref in ("main", "v1"):
            (repo / "refs" / ref).write_text(COMMIT)
        return snapshot

    return _make


@pytest.mark.parametrize("source", ["m-a-p/MERT-tiny", "m-a-p/MERT-tiny@v1"])
@pytest.mark.parametrize(
    "options", [{}, {"shard_bytes": 300_000}, {"file_format": "bin"}], ids=["one", "shards", "bin"]
)
def test_a_cached_revision_loads(
    cached_repo: Callable[..., Path], tmp_path: Path, source: str, options: dict[str, object]
) -> None:
    snapshot = cached_repo(**options)
    checkpoint = Checkpoint.open(source, root=tmp_path)
    assert checkpoint.folder == snapshot
    assert checkpoint.source == source
    expected = Checkpoint.open(str(make_mert_checkpoint(tmp_path / "again")))
    assert checkpoint.digest() == expected.digest()
    assert all(path.parent == snapshot for path in checkpoint.files())


def test_a_commit_is_a_revision(cached_repo: Callable[..., Path], tmp_path: Path) -> None:
    snapshot = cached_repo()
    assert resolve(f"m-a-p/MERT-tiny@{COMMIT}", tmp_path) == snapshot


def test_a_folder_comes_before_a_repo(cached_repo: Callable[..., Path], tmp_path: Path) -> None:
    cached_repo()
    local = tmp_path / "m-a-p" / "MERT-tiny"
    local.mkdir(parents=True)
    assert resolve("m-a-p/MERT-tiny", tmp_path) == local


@pytest.mark.parametrize("source", ["m-a-p/MERT-v1-95M", "m-a-p/MERT-v1-95M@main"])
@pytest.mark.usefixtures("cache")
def test_a_missing_repo_offline(tmp_path: Path, source: str) -> None:
    with pytest.raises(InputError) as refused:
        resolve(source, tmp_path)
    assert refused.value.message.startswith(f"{source}: not in the hub's cache, and the hub can't")
    assert str(tmp_path / source) in refused.value.message
    assert "hf download m-a-p/MERT-v1-95M" in refused.value.hint
    assert refused.value.exit_code == 4


def test_a_missing_revision_offline(cached_repo: Callable[..., Path], tmp_path: Path) -> None:
    cached_repo()
    with pytest.raises(InputError, match=r"m-a-p/MERT-tiny@v2: not in the hub's cache"):
        resolve("m-a-p/MERT-tiny@v2", tmp_path)


@pytest.mark.usefixtures("cache")
def test_the_hint_downloads_the_revision_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        resolve("m-a-p/MERT-tiny@v2", tmp_path)
    assert "'hf download m-a-p/MERT-tiny --revision v2'" in refused.value.hint


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("", "empty checkpoint name"),
        ("runs", "runs: no such folder or file"),
        ("runs/a/b", "runs/a/b: no such folder or file"),
        ("/nowhere/at/all", "/nowhere/at/all: no such folder"),
        ("../runs", "no such folder or file"),
        ("org/name@", "nothing after the '@'"),
        ("org/na..me", "not a hub repo id"),
    ],
)
@pytest.mark.usefixtures("cache")
def test_names_that_are_neither(tmp_path: Path, source: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        resolve(source, tmp_path)


def test_what_the_hub_answers_is_explained(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import errors

    class Answer:
        headers: dict[str, str] = {}  # noqa: RUF012
        request = None

    def fails(error: Exception) -> Callable[..., str]:
        def _download(*_: object, **__: object) -> str:
            raise error

        return _download

    for kind, problem in [
        (errors.RevisionNotFoundError, "has no such revision"),
        (errors.GatedRepoError, "asks for its terms to be accepted"),
        (errors.RepositoryNotFoundError, "no such hub repo, or it is private"),
        (errors.HfHubHTTPError, "the hub could not deliver it"),
    ]:
        error = kind("the server's words", response=Answer())
        monkeypatch.setattr(huggingface_hub, "snapshot_download", fails(error))
        with pytest.raises(InputError, match=problem):
            resolve("org/name", tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fails(TimeoutError("too slow")))
    with pytest.raises(InputError, match=r"could not deliver it \(too slow\)"):
        resolve("org/name", tmp_path)
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", fails(PermissionError(13, "Permission denied"))
    )
    with pytest.raises(InputError, match="can't write here"):
        resolve("org/name", tmp_path)


def test_pytorch_files_are_fetched_only_where_there_are_no_safetensors(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    asked: list[tuple[str | None, list[str]]] = []

    def download(_: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((revision, allow_patterns))
        if "pytorch_model*.bin" in allow_patterns:
            (snapshot / "pytorch_model.bin").touch()
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve("org/name@v1", tmp_path) == snapshot
    assert [revision for revision, _ in asked] == ["v1", COMMIT]
    assert "config.json" in asked[0][1]
    assert "*.py" in asked[0][1]  # the model's own code; nothing of it is run


def test_the_environment_variable_keeps_the_hub_away(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from mergekit_audio.errors import InputError\n"
        "from mergekit_audio.weights.hub import resolve\n"
        "try:\n    resolve('m-a-p/MERT-v1-95M@main', Path())\n"
        "except InputError as error:\n    print(error.exit_code, error.message)\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert run.stdout.startswith("4 m-a-p/MERT-v1-95M@main: not in the hub's cache")
