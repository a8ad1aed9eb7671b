"""Turn a recipe's ``folder`` or ``org/name@revision`` into files on this machine."""

from __future__ import annotations

import re
from pathlib import Path

from mergekit_audio.errors import InputError
from mergekit_audio.files import explain_os_errors
from mergekit_audio.weights.side_files import CODE_PATTERN, SIDE_PATTERNS

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# The card says under which licence the weights may be used; what is made of them inherits it.
_BESIDE_THE_WEIGHTS = (*SIDE_PATTERNS, CODE_PATTERN, "README.md", "adapter_config.json")
# Tried in this order, the next only when the repo has nothing of the one before: a repo often holds
# the same weights in several formats, and each is gigabytes.
_WEIGHT_PATTERNS = (
    ("*.safetensors", "*.safetensors.index.json"),
    ("pytorch_model*.bin", "pytorch_model.bin.index.json", "adapter_model.bin"),
    ("*.pt",),
)


def resolve(source: str, root: Path) -> Path:
    """Return the folder or file that a source names, fetching it from the hub if need be.

    Parameters
    ----------
    source
        A folder or a weight file, relative to ``root`` (``~`` is expanded), or else a hub repo id
        with an optional revision, ``m-a-p/MERT-v1-95M@main``. With ``HF_HUB_OFFLINE=1`` only the
        hub's cache (``HF_HOME``) is looked at.
    root
        The folder that relative paths start from: the recipe's.

    Raises
    ------
    InputError
        There is no such folder or repo, the hub can't be reached, or the name is neither.
    """
    if not source:
        raise InputError(
            "empty checkpoint name", "give a folder, or a hub repo id org/name@revision"
        )
    local = Path(root) / Path(source).expanduser()
    if local.exists():
        return local
    repo_id, at, revision = source.partition("@")
    if not _REPO.fullmatch(repo_id):
        raise InputError(
            f"{local}: no such folder or file",
            "relative paths start at the recipe's folder; a hub repo is written org/name@revision",
        )
    if at and not revision:
        raise InputError(
            f"{source}: nothing after the '@'", "name a branch, tag or commit, as in org/name@main"
        )
    return _snapshot(repo_id, revision or None, local)


def _snapshot(repo_id: str, revision: str | None, local: Path) -> Path:
    from huggingface_hub import constants

    with explain_os_errors(Path(constants.HF_HUB_CACHE)):
        folder = _download(repo_id, revision, list(_WEIGHT_PATTERNS[0]), local)
        for patterns in _WEIGHT_PATTERNS[1:]:
            if any(folder.glob("*.safetensors")) or any(folder.glob("*_model*.bin")):
                break
            # The commit that the first call found: a push in between can't mix two versions.
            _download(repo_id, folder.name, list(patterns), local)
    return folder


def _download(repo_id: str, revision: str | None, patterns: list[str], local: Path) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    shown = f"{repo_id}@{revision}" if revision else repo_id
    wanted = f"{repo_id} --revision {revision}" if revision else repo_id
    try:
        return Path(
            huggingface_hub.snapshot_download(
                repo_id, revision=revision, allow_patterns=[*patterns, *_BESIDE_THE_WEIGHTS]
            )
        )
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise InputError(
            f"{shown}: not in the hub's cache, and the hub can't be reached "
            f"(nor is there a folder {local})",
            f"on a machine with internet run 'hf download {wanted}', then set HF_HOME to that "
            "cache; unset HF_HUB_OFFLINE to download here",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(
            f"{shown}: the hub repo has no such revision",
            f"check the branch, tag or commit at https://huggingface.co/{repo_id}/commits/main",
        ) from error
    except errors.GatedRepoError as error:
        raise InputError(
            f"{shown}: the hub repo asks for its terms to be accepted",
            f"accept them at https://huggingface.co/{repo_id}, then run 'hf auth login'",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"{shown}: no such hub repo, or it is private (nor is there a folder {local})",
            "check the spelling; for a private repo run 'hf auth login' first",
        ) from error
    except errors.HFValidationError as error:
        raise InputError(
            f"{shown}: not a hub repo id, nor is there a folder {local}",
            "a hub repo is written org/name@revision",
        ) from error
    except (errors.HfHubHTTPError, ConnectionError, TimeoutError) as error:
        raise _undelivered(shown, error) from error
    except Exception as error:
        # The hub's HTTP library (its name has changed before) when the line breaks in mid-download.
        if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "requests"):
            raise _undelivered(shown, error) from error
        raise


def _undelivered(shown: str, error: Exception) -> InputError:
    first_line = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(
        f"{shown}: the hub could not deliver it ({first_line})",
        "try again later, or set HF_HUB_OFFLINE=1 to use what the cache holds",
    )
