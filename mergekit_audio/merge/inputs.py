"""Open the models of a merge: checkpoints, adapters on them, and what was measured of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mergekit_audio.errors import InputError
from mergekit_audio.files import sha256_of_text
from mergekit_audio.merge.operands import Operand, Stored, whole, with_change
from mergekit_audio.recipe.merge import ModelEntry
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.hub import resolve
from mergekit_audio.weights.lora import Adapter, is_adapter, open_adapter
from mergekit_audio.weights.statistics import Statistics, open_statistics


@dataclass(frozen=True)
class MergeModel:
    """One model of a merge, open.

    Parameters
    ----------
    source
        As the recipe writes it.
    label
        What reports and the method's parameters call it.
    checkpoint
        Its tensors, or those that its adapter changes.
    adapter
        The LoRA adapter that is added to them.
    statistics
        What was measured of it.
    """

    source: str
    label: str
    checkpoint: Checkpoint
    adapter: Adapter | None = None
    statistics: Statistics | None = None

    @property
    def is_adapter_of_base(self) -> bool:
        """The recipe names an adapter where a model could stand: its tensors are the base's."""
        return self.adapter is not None and self.checkpoint.source != self.source

    @property
    def digest(self) -> str:
        """The digest of its content: of the checkpoint's and the adapter's together."""
        if self.adapter is None:
            return self.checkpoint.digest()
        return sha256_of_text(f"{self.checkpoint.digest()} {self.adapter.digest()}")

    def operand(self, name: str) -> Operand:
        """Return the model's values of one tensor, by canonical name."""
        stored = Stored(self.checkpoint, name)
        if self.adapter is None or name not in self.adapter.deltas:
            return stored
        return with_change(stored, self.adapter.delta(name))


def open_model(
    entry: ModelEntry, base: Checkpoint, root: Path, opened: Callable[[str], Checkpoint]
) -> MergeModel:
    """Open what one entry of ``models`` names.

    A folder with an ``adapter_config.json`` is an adapter of the base; ``adapter`` is one of the
    model itself.

    Raises
    ------
    InputError
        Something of it can't be read, or does not belong together.
    """
    adapter_source = entry.adapter
    folder = resolve(entry.model, root)
    if folder.is_dir() and is_adapter(folder):
        if adapter_source is not None:
            raise InputError(
                f"{entry.model}: is an adapter itself, and has an adapter ({adapter_source})",
                "name the model that the adapter belongs to as `model`",
            )
        checkpoint, adapter_source = base, entry.model
    else:
        checkpoint = opened(entry.model)
    adapter = None
    if adapter_source is not None:
        shapes = {name: info.shape for name, info in checkpoint.index.items()}
        adapter = open_adapter(resolve(adapter_source, root)).on(
            shapes, checkpoint.source, lambda name: _values(checkpoint, name)
        )
    model = MergeModel(entry.model, entry.label, checkpoint, adapter)
    if entry.statistics is None:
        return model
    statistics = open_statistics(root / Path(entry.statistics).expanduser())
    return MergeModel(entry.model, entry.label, checkpoint, adapter, statistics)


def _values(checkpoint: Checkpoint, name: str) -> np.ndarray:
    return whole(Stored(checkpoint, name))
