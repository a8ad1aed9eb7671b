"""What a dataset is: a corpus that can be brought to one form, a folder with a manifest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from mergekit_audio.progress import Progress, silent


class Dataset(BaseModel, ABC):
    """A corpus: its fields are its settings, ``name`` is its module's name."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )

    license: ClassVar[str]
    """SPDX identifier of the recordings' licence."""
    citation: ClassVar[str]
    """What to cite, or what must be said wherever the corpus is shown."""
    terms_url: ClassVar[str]
    """Where the terms of use stand."""

    culture: str
    """The tradition that the recordings belong to."""

    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """Return the pinned tags ``category--value``, sorted."""

    @abstractmethod
    def write(self, folder: Path, progress: Progress = silent, workers: int = 1) -> Path:
        """Bring the corpus into ``folder`` and return its ``manifest.jsonl``.

        A second call does nothing, and an interrupted one is resumed.
        """
