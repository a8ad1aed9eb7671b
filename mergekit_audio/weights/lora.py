"""Read a LoRA adapter (a peft folder) as the change Δ that it makes to each tensor of a base."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np

from mergekit_audio.errors import InputError, LayoutError
from mergekit_audio.registry import did_you_mean
from mergekit_audio.weights._lora_config import (
    CONFIG_NAME,
    LoraSettings,
    read_settings,
)
from mergekit_audio.weights._lora_names import (
    PREFIX,
    SAVED,
    missing_hint,
    not_a_factor,
    parse_key,
    renamed,
)
from mergekit_audio.weights.digest import content_digest, tensor_digest
from mergekit_audio.weights.dtypes import from_float64, is_floating, to_float64
from mergekit_audio.weights.shards import FileFormat, Shard, open_shard

WEIGHT_FILES: tuple[tuple[str, FileFormat], ...] = (
    ("adapter_model.safetensors", "safetensors"),
    ("adapter_model.bin", "torch"),
)
"""What peft calls an adapter's weights; the first that exists counts."""


def is_adapter(folder: Path) -> bool:
    """Say whether a folder is an adapter's: it has an ``adapter_config.json``."""
    return (folder / CONFIG_NAME).is_file()


def open_adapter(folder: Path) -> Adapter:
    """Read an adapter's config and the headers of its weights; values are read when asked for.

    Δ = scaling · B·A with scaling = α / r, or α / √r with rsLoRA (LoRA: arXiv 2106.09685, section
    4.1; rsLoRA: arXiv 2312.03732). What peft can add beside this (DoRA, whole modules, biases,
    initialisations that change the base) is refused.

    Raises
    ------
    InputError
        The folder is no adapter, its files are damaged or contradict each other, or it asks for
        more than this.
    """
    folder = Path(folder)
    settings = read_settings(folder)
    shard = _open_weights(folder)
    halves: dict[tuple[str, str], dict[int, str]] = {}
    saved: dict[str, str] = {}
    for stored in shard.entries:
        if stored.startswith(PREFIX) and stored.endswith(SAVED):
            saved[stored[len(PREFIX) : -len(SAVED)] + ".weight"] = stored
            continue
        module, kind, half = parse_key(shard.path, stored)
        names = halves.setdefault((module, kind), {})
        if half in names:
            raise InputError(
                f"{shard.path}: {stored!r} and {names[half]!r} are of two adapters, expected one",
                "save one adapter to a folder",
            )
        names[half] = stored
    deltas = {
        f"{module}.weight": _factors(settings, shard, module, kind, names)
        for (module, kind), names in sorted(halves.items())
    }
    for name, stored in saved.items():
        if name not in deltas:
            raise not_a_factor(shard.path, stored)
    return Adapter(folder, settings.path, shard, MappingProxyType(deltas), MappingProxyType(saved))


@dataclass(frozen=True)
class Factors:
    """The two factors of one tensor's change, read from the file when asked for.

    Parameters
    ----------
    kind
        ``linear``: A ``[r, in]``, B ``[out, r]``; ``embedding``: A ``[r, tokens]``, B ``[dim, r]``;
        ``conv``: A ``[r, in, *kernel]``, B ``[out, r, 1 …]``.
    shape
        The shape of the base's tensor.
    rank, scaling
        r, and α / r or α / √r.
    transposed
        The base's weight is ``[in, out]``: Δ is the transpose of B·A.
    """

    kind: Literal["linear", "embedding", "conv"]
    shape: tuple[int, ...]
    rank: int
    scaling: float
    transposed: bool
    shard: Shard
    stored_names: tuple[str, str]

    @property
    def a(self) -> np.ndarray:
        """A, float64."""
        return self._read(self.stored_names[0])

    @property
    def b(self) -> np.ndarray:
        """B, float64."""
        return self._read(self.stored_names[1])

    def delta(self) -> np.ndarray:
        """Return Δ = scaling · B·A, float64, in the base's shape."""
        down, up = self.a, self.b
        product = up.reshape(up.shape[0], self.rank) @ down.reshape(self.rank, -1)
        product *= self.scaling
        if self.transposed:
            product = np.ascontiguousarray(product.T)
        delta: np.ndarray = product.reshape(self.shape)
        return delta

    def _read(self, stored: str) -> np.ndarray:
        dtype = self.shard.entries[stored][0]
        values = to_float64(self.shard.bits(stored), dtype)
        if not np.isfinite(values).all():
            raise InputError(
                f"{self.shard.path}: tensor {stored!r} holds values that are not finite",
                "the training run diverged or the file is damaged",
            )
        return values


@dataclass(frozen=True)
class Adapter:
    """An open adapter: for each tensor of the base that it changes, the factors of the change.

    ``saved`` names the copies of the base's embeddings that peft leaves beside their factors.
    """

    folder: Path
    config_file: Path
    shard: Shard
    deltas: Mapping[str, Factors]
    saved: Mapping[str, str]

    def delta(self, name: str) -> np.ndarray:
        """Return Δ of a tensor of the base, float64, shape ``[*S]``.

        Raises
        ------
        InputError
            The adapter does not change this tensor, or a factor holds a value that is not finite.
        """
        if name not in self.deltas:
            raise InputError(
                f"{self.folder}: the adapter has no factors for {name!r}",
                did_you_mean(name, self.deltas),
            )
        return self.deltas[name].delta()

    def files(self) -> list[Path]:
        """Return the files that decide Δ, sorted."""
        return sorted([self.config_file, self.shard.path])

    def digest(self) -> str:
        """Return the digest of what the adapter adds: names, scalings, factors."""
        lines = {}
        for name, factors in self.deltas.items():
            halves = [
                tensor_digest(stored, shard.entries[stored][0], shard.bits(stored))
                for shard, stored in ((factors.shard, each) for each in factors.stored_names)
            ]
            lines[name] = f"{name} {factors.kind} {factors.transposed} {factors.scaling} {halves}"
        return content_digest(lines)

    def on(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        source: str,
        values: Callable[[str], np.ndarray],
    ) -> Adapter:
        """Return this adapter with its tensors named as a base names them.

        An adapter of a model with a head says ``hubert.encoder…`` where the base alone says
        ``encoder…``, or the other way round: one such prefix is put on or taken off where that
        gives every name. Shapes are compared.

        Parameters
        ----------
        shapes
            The base's shapes by canonical name.
        source
            What the base is called in the error.
        values
            Returns a tensor of the base, float64; asked for ``saved`` alone, which must equal it.

        Raises
        ------
        LayoutError
            The base lacks a tensor that the adapter changes, or has it in another shape; all are
            listed.
        """
        names = renamed(self.deltas, shapes)
        faults, hint = [], ""
        for old, factors in self.deltas.items():
            new = names[old]
            if new not in shapes:
                hint = hint or missing_hint(new, shapes)
                faults.append(f"{new}: the base has no such tensor")
            elif tuple(shapes[new]) != factors.shape:
                faults.append(
                    f"{new}: Δ is {list(factors.shape)}, the base's tensor {list(shapes[new])}"
                )
            elif old in self.saved and not self._is_saved(old, values(new)):
                faults.append(f"{new}: the adapter was trained on other values of this tensor")
        if faults:
            raise LayoutError(
                f"{self.folder}: the adapter does not fit {source}:\n"
                + "\n".join(f"  {fault}" for fault in faults),
                hint or "use the base that the adapter was trained on",
            )
        deltas = {names[old]: factors for old, factors in self.deltas.items()}
        return replace(
            self,
            deltas=MappingProxyType(dict(sorted(deltas.items()))),
            saved=MappingProxyType({names[old]: stored for old, stored in self.saved.items()}),
        )

    def _is_saved(self, name: str, values: np.ndarray) -> bool:
        """Say whether the copy in the file is the base's tensor, rounded to the copy's dtype."""
        stored = self.saved[name]
        dtype = self.shard.entries[stored][0]
        return bool(np.array_equal(from_float64(values, dtype), self.shard.bits(stored)))


def _open_weights(folder: Path) -> Shard:
    for name, file_format in WEIGHT_FILES:
        if (folder / name).is_file():
            return open_shard(folder / name, file_format)
    raise InputError(
        f"{folder}: an adapter without weights; expected {WEIGHT_FILES[0][0]} beside {CONFIG_NAME}",
        "download or copy the adapter again",
    )


def _factors(
    settings: LoraSettings, shard: Shard, module: str, kind: str, names: Mapping[int, str]
) -> Factors:
    if len(names) != 2:
        only = next(iter(names.values()))
        raise InputError(
            f"{shard.path}: {only!r} is there without its other factor",
            "download or copy the adapter again",
        )
    if not settings.is_target(module):
        raise InputError(
            f"{shard.path}: factors of {module!r}, which target_modules of {CONFIG_NAME} does not "
            "name",
            "config and weights are of two adapters: download or copy the folder again",
        )
    (dtype_a, a), (dtype_b, b) = shard.entries[names[0]], shard.entries[names[1]]
    rank = settings.rank_of(module)
    plain = is_floating(dtype_a) and is_floating(dtype_b) and len(a) == len(b) >= 2
    if not plain or a[0] != rank or b[1] != rank or any(length != 1 for length in b[2:]):
        grouped = plain and a[0] == rank and len(b) > 2 and rank % b[1] == 0
        raise InputError(
            f"{shard.path}: {module}: A is {dtype_a} {list(a)} and B {dtype_b} {list(b)}; expected "
            f"A [{rank}, in …] and B [out, {rank} …] of floating point, for {CONFIG_NAME} gives "
            f"r = {rank}",
            "factors of a grouped convolution are no change of its kernel"
            if grouped
            else "config and weights are of two adapters: download or copy the folder again",
        )
    shape: tuple[int, ...] = (b[0], *a[1:])
    transposed = len(a) == 2 and (kind == "embedding" or settings.fan_in_fan_out)
    exact: Literal["linear", "embedding", "conv"] = "conv" if len(a) > 2 else "linear"
    return Factors(
        kind="embedding" if kind == "embedding" else exact,
        shape=shape[::-1] if transposed else shape,
        rank=rank,
        scaling=settings.scaling_of(module),
        transposed=transposed,
        shard=shard,
        stored_names=(names[0], names[1]),
    )
