"""What a merge reads, file by file, and the hashes of it that its lock tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mergekit_audio.files import sha256_of_file
from mergekit_audio.lock import LockedInput
from mergekit_audio.merge.planner import MergePlan
from mergekit_audio.report.card import CARD_NAME
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.digest_cache import DigestCache


@dataclass(frozen=True)
class Input:
    """Something that the merge reads: as the lock tells it, and its files."""

    name: str
    source: str
    digest: str
    files: Mapping[str, Path]


def inputs_of(plan: MergePlan) -> Iterator[Input]:
    """Yield the base, the models, their adapters and statistics, in the recipe's order."""
    yield Input("base", plan.base_source, plan.base.digest(), _files(plan.base))
    for i, (entry, model) in enumerate(zip(plan.recipe.models, plan.models, strict=True)):
        adapter, statistics = model.adapter, model.statistics
        name = f"models[{i}]"
        if adapter is not None and model.is_adapter_of_base:
            yield Input(name, entry.model, model.digest, _relative(adapter.folder, adapter.files()))
        else:
            yield Input(name, entry.model, model.checkpoint.digest(), _files(model.checkpoint))
        if adapter is not None and entry.adapter is not None:
            files = _relative(adapter.folder, adapter.files())
            yield Input(f"{name}.adapter", entry.adapter, adapter.digest(), files)
        if statistics is not None and entry.statistics is not None:
            files = _relative(statistics.path.parent, statistics.files())
            yield Input(f"{name}.statistics", entry.statistics, statistics.model_digest, files)


def _files(checkpoint: Checkpoint) -> dict[str, Path]:
    """Return the files that were read, the input's card with its licence among them."""
    card = checkpoint.folder / CARD_NAME
    return _relative(checkpoint.folder, [*checkpoint.files(), *([card] if card.is_file() else [])])


def _relative(folder: Path, paths: Sequence[Path]) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(paths)}


def start_hashing(
    inputs: Sequence[Input], executor: ThreadPoolExecutor, cache: DigestCache
) -> list[dict[str, Future[str]]]:
    """Hash the files of the inputs, in this order, while the merge reads the same files."""
    return [
        {name: executor.submit(_known_sha256, cache, path) for name, path in each.files.items()}
        for each in inputs
    ]


def _known_sha256(cache: DigestCache, path: Path) -> str:
    """Return a file's sha256: as remembered of this very file, or read."""
    known = cache.known(path).get("sha256")
    if isinstance(known, str):
        return known
    digest = sha256_of_file(path)
    cache.remember(path, sha256=digest)
    return digest


def locked_inputs(
    inputs: Sequence[Input], hashing: Sequence[Mapping[str, Future[str]]]
) -> list[LockedInput]:
    """Return the inputs as the lock tells them; waits for their hashes."""
    return [
        LockedInput(
            name=each.name,
            source=each.source,
            content_digest=each.digest,
            files={file: digest.result() for file, digest in files.items()},
        )
        for each, files in zip(inputs, hashing, strict=True)
    ]
