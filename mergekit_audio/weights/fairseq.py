"""Read a checkpoint of fairseq's MERT pre-training: weights by HF name, config and heads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mergekit_audio.errors import InputError
from mergekit_audio.files import staged_folder, write_json
from mergekit_audio.weights._fairseq_config import PREPROCESSOR, config_of
from mergekit_audio.weights._fairseq_names import (
    CODEBOOK_TEACHER,
    DROPPED,
    EMBEDDINGS,
    HEADS,
    dimensions,
    hf_name,
    missing_names,
)
from mergekit_audio.weights._pickled_tensor import PickledTensor
from mergekit_audio.weights._placeholder import plain, shown
from mergekit_audio.weights._restricted_pickle import pickle_bytes, read_pickled
from mergekit_audio.weights.dtypes import STORED, is_floating, to_values
from mergekit_audio.weights.shards import Entries
from mergekit_audio.weights.writer import TensorSpec, write_tensors

SPECIAL_ROWS = 4
"""fairseq's dictionaries put <s>, <pad>, </s> and <unk> before the codes: code c is row c + 4."""

_LISTED = 50
_MARK = b"pos_conv.0.weight_"
_SUFFIXES = (".pt", ".pth", ".bin")
_FILE_PATTERN = "*_fairseq.pt"


class FairseqShard:
    """The weights of a fairseq checkpoint by HF name, with its config and heads; no code is run.

    Half-precision weights are given as float32, which holds them exactly, as in the released HF
    folders.

    Parameters
    ----------
    path
        The ``.pt`` file.

    Raises
    ------
    InputError
        The file asks for code, is damaged, holds tensors without a place in the HF layout or lacks
        some (the first 50 are listed), or its settings can't be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = read_pickled(path)
        if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
            raise InputError(
                f"{path}: holds no `model`, which fairseq's checkpoints do",
                "download or copy the file again",
            )
        self._content = content
        model = dict(dict.items(content["model"]))
        weights, self._heads = _sorted_out(path, model)
        _require_apart(path, [*weights.values(), *self._heads.values()])
        self._tensors = dict(sorted(weights.items()))
        self.entries: Entries = {
            name: (_dtype_of(each), each.shape) for name, each in self._tensors.items()
        }
        shapes = {name: shape for name, (_, shape) in self.entries.items()}
        self.config: dict[str, Any] = config_of(path, content, shapes)

    def bits(self, name: str) -> np.ndarray:
        """Return a tensor's bits by HF name: float32, or the stored ones of wider dtypes."""
        return _values(self._tensors[name])

    def heads(self) -> dict[str, np.ndarray]:
        """Return the head tensors ``<teacher>.<parameter>``; none when the file has no heads.

        ``label_embs_concat [K·C, F]`` becomes ``label_embs [K, C, F]``, K being the rows of
        ``final_proj`` over F. With fairseq's dictionaries in the file, rows are put in the order
        of the codes.

        Raises
        ------
        InputError
            The embeddings do not divide into the codebooks of ``final_proj``, or a dictionary
            does not name the codes 0, 1, ….
        """
        named = {new: _values(self._heads[old]) for old, new in HEADS.items() if old in self._heads}
        if EMBEDDINGS in self._heads:
            named[f"{CODEBOOK_TEACHER}.label_embs"] = self._embeddings()
        return dict(sorted(named.items()))

    def _embeddings(self) -> np.ndarray:
        rows, final_size = self._heads[EMBEDDINGS].shape
        projected = self._heads["final_proj.weight"].shape[0]
        codebooks, rest = divmod(projected, final_size)
        if rest or not codebooks or rows % codebooks:
            raise InputError(
                f"{self.path}: {EMBEDDINGS} has shape {[rows, final_size]} and final_proj "
                f"{projected} rows, which are not whole codebooks",
                "the heads are not those of MERT (untie_final_proj: true)",
            )
        table = _values(self._heads[EMBEDDINGS]).reshape(codebooks, rows // codebooks, final_size)
        orders = [_code_rows(self.path, each) for each in self._dictionaries()]
        if len(orders) != codebooks or any(len(order) != table.shape[1] for order in orders):
            return table
        return np.stack([book[order] for book, order in zip(table, orders, strict=True)])

    def _dictionaries(self) -> list[list[str]]:
        """Return the symbols of each codebook's dictionary, where the file holds them."""
        state = plain(self._content.get("task_state"))
        found = state.get("dictionaries") if isinstance(state, dict) else None
        if not isinstance(found, list):
            return []
        symbols = [each.get("symbols") if isinstance(each, dict) else None for each in found]
        if not symbols or not all(isinstance(each, list) for each in symbols):
            return []
        return [[str(symbol) for symbol in each or []] for each in symbols]


def is_fairseq_file(path: Path) -> bool:
    """Say whether a file is a checkpoint of fairseq's pre-training, by names that only it has."""
    return path.suffix in _SUFFIXES and _MARK in pickle_bytes(path)


def fairseq_file_of(folder: Path) -> Path | None:
    """Return the one ``*_fairseq.pt`` of a model folder, as in the released ones, or None."""
    found = sorted(folder.glob(_FILE_PATTERN))
    return found[0] if len(found) == 1 and is_fairseq_file(found[0]) else None


def special_rows(rows: int, codes: int) -> int | None:
    """Return how many rows of a codebook come before code 0: 0, or 4 as in fairseq's dictionaries.

    None when ``rows`` is neither the number of codes nor four more.
    """
    return rows - codes if rows - codes in (0, SPECIAL_ROWS) else None


def import_fairseq(path: Path, folder: Path, *, force: bool = False) -> None:
    """Write a fairseq checkpoint as a model folder: weights, heads and configs.

    Parameters
    ----------
    path
        ``MERT-v1-95M_fairseq.pt`` or another file of this layout.
    folder
        The folder to write: ``model.safetensors``, ``heads.safetensors`` (where the file has
        heads), ``config.json`` and ``preprocessor_config.json``.
    force
        Replace a folder that is not empty.

    Raises
    ------
    InputError
        The file can't be used (see :class:`FairseqShard`), or the folder exists or can't be
        written.
    """
    shard = FairseqShard(Path(path))
    heads = shard.heads()
    with staged_folder(Path(folder), force=force) as staging:
        specs = [TensorSpec(name, shape, dtype) for name, (dtype, shape) in shard.entries.items()]
        write_tensors(staging, specs, ((name, shard.bits(name)) for name in shard.entries))
        if heads:
            head_specs = [
                TensorSpec(name, value.shape, str(value.dtype)) for name, value in heads.items()
            ]
            write_tensors(staging, head_specs, heads.items(), stem="heads")
        write_fairseq_configs(shard.config, staging)


def write_fairseq_configs(config: Mapping[str, Any], folder: Path) -> None:
    """Write the ``config.json`` of a fairseq checkpoint and its ``preprocessor_config.json``."""
    write_json(folder / "config.json", dict(config))
    write_json(folder / "preprocessor_config.json", PREPROCESSOR)


def _sorted_out(
    path: Path, model: Mapping[Any, Any]
) -> tuple[dict[str, PickledTensor], dict[str, PickledTensor]]:
    """Return the weights by HF name and the heads by fairseq's, refusing what has no place."""
    weights: dict[str, PickledTensor] = {}
    heads: dict[str, PickledTensor] = {}
    faults = []
    for name, value in model.items():
        if not isinstance(name, str) or DROPPED.fullmatch(name):
            continue
        is_head = name in HEADS or name == EMBEDDINGS
        new = name if is_head else hf_name(name)
        if not isinstance(value, PickledTensor) or not is_floating(value.dtype):
            faults.append(f"{shown(name)} is not a tensor of floating-point numbers")
        elif new is None:
            faults.append(f"unexpected tensor {shown(name)} {list(value.shape)}")
        elif len(value.shape) != dimensions(new) or not all(value.shape):
            faults.append(
                f"{name} has shape {list(value.shape)}, expected {dimensions(new)} sizes above 0"
            )
        elif is_head:
            heads[name] = value
        else:
            weights[new] = value
    faults += [f"missing tensor {name}" for name in missing_names(model)]
    if faults:
        told = [f"  {fault}" for fault in sorted(faults)[:_LISTED]]
        more = [f"  and {len(faults) - _LISTED} more"] if len(faults) > _LISTED else []
        raise InputError(
            f"{path}: not the tensors of a MERT or HuBERT pre-training ({len(faults)} faults):\n"
            + "\n".join([*told, *more]),
            "take MERT-v1-95M_fairseq.pt or MERT-v1-330M_fairseq.pt, or the model's HF folder",
        )
    return weights, heads


def _require_apart(path: Path, tensors: Sequence[PickledTensor]) -> None:
    """Refuse tensors that would together be larger than the file: they show the same numbers."""
    total = sum(math.prod(each.shape) * STORED[each.dtype].itemsize for each in tensors)
    if total > path.stat().st_size:
        raise InputError(
            f"{path}: its tensors share their numbers: together they hold {total} bytes, and the "
            f"file {path.stat().st_size}",
            "take the file as fairseq saved it",
        )


def _dtype_of(tensor: PickledTensor) -> str:
    return "float64" if tensor.dtype == "float64" else "float32"


def _values(tensor: PickledTensor) -> np.ndarray:
    values = to_values(tensor.bits(), tensor.dtype)
    wanted = np.dtype(_dtype_of(tensor))
    return values if values.dtype == wanted else values.astype(wanted)


def _code_rows(path: Path, symbols: list[str]) -> list[int]:
    """Return the row of each special symbol and then of each code, in order."""
    rows = {symbol: row for row, symbol in enumerate(symbols)}
    codes = [symbol for symbol in symbols if symbol.isdecimal()]
    wanted = [str(code) for code in range(len(codes))]
    if sorted(codes) != sorted(wanted) or len(symbols) - len(codes) not in (0, SPECIAL_ROWS):
        raise InputError(
            f"{path}: a dictionary of its labels does not name the codes 0 to {len(codes) - 1}: "
            f"{shown(', '.join(symbols[:8]))}, …",
            "set heads: random or heads: warmup",
        )
    special = [row for row, symbol in enumerate(symbols) if not symbol.isdecimal()]
    return [*special, *(rows[code] for code in wanted)]
