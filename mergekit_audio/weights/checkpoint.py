"""A lazy view of a checkpoint: tensors by canonical name, read one at a time from mapped files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from mergekit_audio.errors import InputError, LayoutError
from mergekit_audio.registry import did_you_mean
from mergekit_audio.weights.digest import content_digest, tensor_digest
from mergekit_audio.weights.digest_cache import DigestCache
from mergekit_audio.weights.dtypes import as_torch, is_floating, to_values
from mergekit_audio.weights.fairseq import FairseqShard, is_fairseq_file
from mergekit_audio.weights.hub import resolve
from mergekit_audio.weights.keys import canonical_name
from mergekit_audio.weights.locate import WeightFiles, find_weights
from mergekit_audio.weights.shards import Shard, changed_meanwhile, file_stamp, open_shard
from mergekit_audio.weights.side_files import side_files
from mergekit_audio.weights.strict_json import parse_object

if TYPE_CHECKING:
    import torch

_CHECKED_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class TensorInfo:
    """A tensor as its file holds it: the name there, shape, torch's name of the dtype, the file."""

    stored_name: str
    shape: tuple[int, ...]
    dtype: str
    shard: Path


class Checkpoint:
    """The tensors of a model folder, weight file or hub repo, without holding them in memory.

    Made by :meth:`open`. ``index`` maps canonical names to :class:`TensorInfo`, sorted by name;
    ``config`` is ``config.json`` or None; ``source`` is what was asked for, ``folder`` where it is.
    ``fairseq`` is the reader of a checkpoint of fairseq's pre-training, whose config and heads are
    in the file itself, and None for every other.
    """

    def __init__(
        self,
        source: str,
        files: WeightFiles,
        shards: Mapping[Path, Shard],
        index: Mapping[str, TensorInfo],
        config: dict[str, Any] | None,
        *,
        allow_nonfinite: bool,
        fairseq: FairseqShard | None = None,
    ) -> None:
        self.source = source
        self.fairseq = fairseq
        self.folder = files.folder
        self.index = MappingProxyType(dict(index))
        self.config = config
        self.allow_nonfinite = allow_nonfinite
        self._files = files
        self._shards = shards
        self._stamps = {path: file_stamp(path.stat()) for path in shards}
        self._finite: set[str] = set()
        self._tensor_digests: dict[str, str] = {}

    @classmethod
    def open(cls, source: str, *, root: Path = Path(), allow_nonfinite: bool = False) -> Checkpoint:
        """Read the headers of a checkpoint; the tensors are read when they are asked for.

        Parameters
        ----------
        source
            A folder or a weight file, relative to ``root``, or a hub repo ``org/name@revision``.
        root
            The folder that relative paths start from: the recipe's.
        allow_nonfinite
            Accept NaN and infinite values, which are refused otherwise when a tensor is read.

        Raises
        ------
        InputError
            There is no such checkpoint, or a file of it is damaged, or two files contradict.
        """
        files = find_weights(resolve(source, root))
        if len(files.weights) == 1 and is_fairseq_file(files.weights[0]):
            own = FairseqShard(files.weights[0])
            lone: dict[Path, Shard] = {own.path: own}
            return cls(
                source,
                files,
                lone,
                _index(lone),
                own.config,
                allow_nonfinite=allow_nonfinite,
                fairseq=own,
            )
        shards = {path: open_shard(path, files.file_format) for path in files.weights}
        _check_weight_map(files, shards)
        index = _index(shards)
        config = _read_config(files.folder / "config.json")
        return cls(source, files, shards, index, config, allow_nonfinite=allow_nonfinite)

    def bits(self, name: str) -> np.ndarray:
        """Return a tensor's stored bits by canonical name, unchecked, in their holder's dtype.

        bfloat16 comes as uint16, 8-bit floats as uint8 (see ``weights.dtypes``). The memory is the
        mapped file, given back when the array is dropped; writing to it changes neither the file
        nor what a later call returns.

        Raises
        ------
        InputError
            There is no such tensor.
        """
        info = self._info(name)
        return self._shards[info.shard].bits(info.stored_name)

    def array(self, name: str) -> np.ndarray:
        """Return a tensor by canonical name as NumPy: 16 and 8 bits that it lacks as float32.

        Raises
        ------
        InputError
            There is no such tensor, or it holds a value that is not finite.
        """
        return to_values(self._checked_bits(name), self.index[name].dtype)

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor by canonical name as torch's, in its own dtype.

        Its memory is the mapped file, given back when the tensor is dropped; writing to it changes
        neither the file nor what a later call returns.

        Raises
        ------
        InputError
            There is no such tensor, or it holds a value that is not finite.
        """
        return as_torch(self._checked_bits(name), self.index[name].dtype)

    def digest(self) -> str:
        """Return the BLAKE3 of the content: (canonical name, dtype, shape, bytes) of each tensor.

        Sharding, file format and spelling of names do not change it.
        """
        return content_digest({name: self.tensor_digest(name) for name in self.index})

    def tensor_digest(self, name: str) -> str:
        """Return the BLAKE3 of one tensor's canonical name, dtype, shape and bytes; computed once.

        Raises
        ------
        InputError
            There is no such tensor.
        """
        if name not in self._tensor_digests:
            info = self._info(name)
            self._tensor_digests[name] = tensor_digest(name, info.dtype, self.bits(name))
        return self._tensor_digests[name]

    def remember_digests(self, cache: DigestCache) -> None:
        """Take over the digests that the cache knows of this checkpoint's files."""
        for path, shard in self._shards.items():
            known = cache.known(path).get("tensors", {})
            if sorted(known) == sorted(canonical_name(name) for name in shard.entries):
                self._tensor_digests.update(known)

    def save_digests(self, cache: DigestCache) -> None:
        """Let the cache know the digests that were computed."""
        for path, shard in self._shards.items():
            names = sorted(canonical_name(name) for name in shard.entries)
            if all(name in self._tensor_digests for name in names):
                known = {name: self._tensor_digests[name] for name in names}
                if cache.known(path).get("tensors") != known:
                    cache.remember(path, tensors=known)

    def require_unchanged(self) -> None:
        """Raise ``InputError`` when a weight file is not the one that was opened.

        What was computed of the checkpoint before may then be of two models.
        """
        for path, stamp in self._stamps.items():
            try:
                is_same = file_stamp(path.stat()) == stamp
            except OSError:
                is_same = False
            if not is_same:
                raise changed_meanwhile(path)

    def require_finite(self, name: str) -> None:
        """Raise ``InputError`` when a tensor holds NaN or infinity and that is not allowed."""
        info = self._info(name)
        if self.allow_nonfinite or name in self._finite or not _is_inexact(info.dtype):
            return
        _require_finite(info, self.bits(name))
        self._finite.add(name)

    def files(self) -> list[Path]:
        """Return every file that belongs to the checkpoint, sorted: weights, index, side files.

        Side files are what a merge carries over from a base: configs, tokenizer, custom code.
        """
        index_file = [self._files.index_file] if self._files.index_file else []
        side = [] if self.fairseq is not None else side_files(self.folder, complete=False)
        return sorted({*self._files.weights, *index_file, *side})

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return all tensors by canonical name, each mapped from its file."""
        return {name: self.tensor(name) for name in self.index}

    def require_same_layout(self, other: Checkpoint) -> None:
        """Check that another checkpoint has this one's tensors, by name, shape and dtype.

        Raises
        ------
        LayoutError
            It has not; every difference is listed.
        """
        faults = _differences(self.index, other.index)
        if not faults:
            return
        count = f"{len(faults)} difference" + ("s" if len(faults) > 1 else "")
        advice = "merge models that were trained from the same base"
        if all(": dtype " in fault for fault in faults):
            advice = "save one of the two again in the other's dtype"
        raise LayoutError(
            "\n".join(
                [
                    f"{other.source} does not hold the tensors of {self.source} ({count}):",
                    *(f"  {fault}" for fault in faults),
                ]
            ),
            f"{advice}; cmerge inspect {other.source} lists its tensors",
        )

    def _checked_bits(self, name: str) -> np.ndarray:
        self.require_finite(name)
        return self.bits(name)

    def _info(self, name: str) -> TensorInfo:
        info = self.index.get(name)
        if info is None:
            raise InputError(
                f"{self.source}: there is no tensor {name!r}", did_you_mean(name, self.index)
            )
        return info


def _index(shards: Mapping[Path, Shard]) -> dict[str, TensorInfo]:
    index: dict[str, TensorInfo] = {}
    for path, shard in shards.items():
        for stored_name, (dtype, shape) in shard.entries.items():
            name = canonical_name(stored_name)
            if name in index:
                raise InputError(
                    f"{path}: tensor {stored_name!r} is already there, as "
                    f"{index[name].stored_name!r} in {index[name].shard}",
                    "keep one of the two: a tensor may have one file and one spelling",
                )
            index[name] = TensorInfo(stored_name, shape, dtype, path)
    return dict(sorted(index.items()))


def _check_weight_map(files: WeightFiles, shards: Mapping[Path, Shard]) -> None:
    if files.weight_map is None:
        return
    found = {(name, path) for path, shard in shards.items() for name in shard.entries}
    listed = set(files.weight_map.items())
    faults = [f"{path.name} lacks tensor {name!r}" for name, path in sorted(listed - found)]
    faults += [
        f"{path.name} holds tensor {name!r}, which the index does not place there"
        for name, path in sorted(found - listed)
    ]
    if faults:
        raise InputError(
            f"{files.index_file}: the shards are not what the index says:\n"
            + "\n".join(f"  {fault}" for fault in faults),
            "the folder mixes files of two versions: download or copy all of it again",
        )


def _read_config(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        return parse_object(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path}: {error}", "download or copy config.json again") from None


def _is_inexact(dtype: str) -> bool:
    return is_floating(dtype) or dtype.startswith("complex")


def _require_finite(info: TensorInfo, bits: np.ndarray) -> None:
    """Raise unless all values are finite; slices keep the temporaries small."""
    flat = bits.reshape(-1)
    for start in range(0, flat.size, _CHECKED_AT_ONCE):
        if not np.isfinite(to_values(flat[start : start + _CHECKED_AT_ONCE], info.dtype)).all():
            raise _nonfinite(info, flat)


def _nonfinite(info: TensorInfo, flat: np.ndarray) -> InputError:
    values = to_values(flat, info.dtype)
    nans = int(np.isnan(values).sum())
    infinite = int(values.size - np.isfinite(values).sum()) - nans
    return InputError(
        f"{info.shard}: tensor {info.stored_name!r} holds {nans} NaN and {infinite} "
        f"infinite values of {values.size}",
        "the training run diverged or the file is damaged; to use it all the same set "
        "allow_nonfinite: true",
    )


def _differences(base: Mapping[str, TensorInfo], other: Mapping[str, TensorInfo]) -> list[str]:
    faults = []
    for name in sorted({*base, *other}):
        here, there = base.get(name), other.get(name)
        if there is None and here is not None:
            faults.append(f"missing tensor {name} {list(here.shape)} {here.dtype}")
        elif here is None and there is not None:
            faults.append(f"unexpected tensor {name} {list(there.shape)} {there.dtype}")
        elif here is not None and there is not None:
            if here.shape != there.shape:
                faults.append(f"{name}: shape {list(there.shape)}, expected {list(here.shape)}")
            if here.dtype != there.dtype:
                faults.append(f"{name}: dtype {there.dtype}, expected {here.dtype}")
    return faults
