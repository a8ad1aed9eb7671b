"""A lazy view of a checkpoint: tensors by canonical name, read one at a time from mapped files."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from mergekit_audio.errors import InputError, LayoutError
from mergekit_audio.registry import did_you_mean
from mergekit_audio.weights.hub import resolve
from mergekit_audio.weights.keys import canonical_name
from mergekit_audio.weights.locate import WeightFiles, find_weights
from mergekit_audio.weights.shards import Shard, open_shard
from mergekit_audio.weights.strict_json import parse_object

SIDE_FILES = ("config.json", "preprocessor_config.json")
"""What a model folder holds beside its weights and what a merge carries over from the base."""

# So few that torch checks them in the calling thread: waking others costs more than the check.
_CHECKED_AT_ONCE = 1 << 15


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
    ) -> None:
        self.source = source
        self.folder = files.folder
        self.index = MappingProxyType(dict(index))
        self.config = config
        self.allow_nonfinite = allow_nonfinite
        self._files = files
        self._shards = shards
        self._finite: set[str] = set()

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
        shards = {path: open_shard(path, files.file_format) for path in files.weights}
        _check_weight_map(files, shards)
        index = _index(shards)
        config = _read_config(files.folder / "config.json")
        return cls(source, files, shards, index, config, allow_nonfinite=allow_nonfinite)

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor by canonical name, in its own dtype.

        Its memory is the mapped file, given back when the tensor is dropped; writing to it changes
        neither the file nor what a later call returns.

        Raises
        ------
        InputError
            There is no such tensor, or it holds a value that is not finite.
        """
        info = self._info(name)
        tensor = self._shards[info.shard].tensor(info.stored_name)
        if not self.allow_nonfinite and name not in self._finite:
            _require_finite(info, tensor)
            self._finite.add(name)
        return tensor

    def digest(self) -> str:
        """Return the sha256 of the content: (canonical name, dtype, shape, bytes) in name order.

        Sharding, file format and spelling of names do not change it. Values are checked to be
        finite on the way (unless allowed), and not checked again by :meth:`tensor`.

        Raises
        ------
        InputError
            A tensor holds a value that is not finite.
        """
        return self._digest

    def files(self) -> list[Path]:
        """Return every file that belongs to the checkpoint: weights, index, configs; sorted."""
        side = [self.folder / name for name in SIDE_FILES]
        index_file = [self._files.index_file] if self._files.index_file else []
        present = [path for path in side if path.is_file()]
        return sorted([*self._files.weights, *index_file, *present])

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

    @functools.cached_property
    def _digest(self) -> str:
        total = hashlib.sha256()
        for name, info in self.index.items():
            line = json.dumps([name, info.dtype, list(info.shape)], ensure_ascii=True)
            total.update(line.encode("ascii") + b"\n")
            total.update(self.tensor(name).reshape(-1).view(torch.uint8).numpy().data)
        return total.hexdigest()

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


def _require_finite(info: TensorInfo, tensor: torch.Tensor) -> None:
    """Raise unless all values are finite; slices keep the temporaries of rare dtypes small."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    flat = real.reshape(-1)
    for start in range(0, flat.numel(), _CHECKED_AT_ONCE):
        part = flat[start : start + _CHECKED_AT_ONCE]
        if part.element_size() == 1:
            part = part.to(torch.float32)
        low, high = torch.aminmax(part)  # both are NaN where a value is
        if not (torch.isfinite(low) and torch.isfinite(high)):
            raise _nonfinite(info, tensor)


def _nonfinite(info: TensorInfo, tensor: torch.Tensor) -> InputError:
    values = tensor if tensor.element_size() > 1 else tensor.to(torch.float32)
    nans = int(torch.isnan(values).sum())
    infinite = int(values.numel() - torch.isfinite(values).sum()) - nans
    return InputError(
        f"{info.shard}: tensor {info.stored_name!r} holds {nans} NaN and {infinite} "
        f"infinite values of {tensor.numel()}",
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
