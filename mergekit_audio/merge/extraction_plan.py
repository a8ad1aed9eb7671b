"""Plan the extraction of an adapter: open both checkpoints and choose the tensors to factor."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from mergekit_audio.errors import InputError, LayoutError
from mergekit_audio.recipe.base import FiniteFloat, OutputPath, Strict
from mergekit_audio.registry import did_you_mean
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.dtypes import is_floating
from mergekit_audio.weights.globs import matches, validate_glob

DEFAULT_RANK = 16

_EMBEDDING = re.compile(r"(?!embed_out$)(.*embed.*|wte|wpe|shared|relative_attention_bias)")
# Their layers (transformers' Conv1D) hold linear weights as [in, out].
_FAN_IN_FAN_OUT = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")


def plan_extraction(settings: ExtractSettings, root: Path) -> ExtractPlan:
    """Open both checkpoints and choose the tensors; nothing is written.

    Raises
    ------
    InputError
        A checkpoint can't be read, a glob is wrong or matches no 2-D weight, or nothing is left.
    LayoutError
        The two do not hold the same tensors; every difference is listed.
    """
    for pattern in settings.match:
        validate_glob(pattern)
    base = Checkpoint.open(settings.base, root=root)
    model = Checkpoint.open(settings.model, root=root)
    _require_same_shapes(base, model)
    reasons = {name: _reason(settings, base, name) for name in base.index}
    factored = tuple(name for name, reason in reasons.items() if not reason)
    _require_matches(settings, base, factored)
    return ExtractPlan(
        settings,
        Path(root),
        base,
        model,
        factored,
        {name: reason for name, reason in reasons.items() if reason},
    )


class ExtractSettings(Strict):
    """What to extract; exactly one of `rank` and `energy`, or neither for rank 16."""

    kind: Literal["extract-lora"] = "extract-lora"
    """Always `extract-lora`."""
    model: str
    """The tuned model: a folder, a weight file or a hub repo id."""
    base: str
    """The model that it was tuned from."""
    rank: int | None = Field(default=None, ge=1)
    """Rank of every tensor (cut to the tensor's shorter side)."""
    energy: FiniteFloat | None = Field(default=None, gt=0, le=1)
    """Instead of a rank: the share of ‖τ‖² that each tensor keeps."""
    match: list[str] = Field(default=[])
    """Globs of the 2-D weights to extract; empty: all that are linear layers'."""
    output: OutputPath
    """The folder to write."""

    @model_validator(mode="after")
    def _one_of_two(self) -> ExtractSettings:
        if self.rank is not None and self.energy is not None:
            raise ValueError("rank and energy exclude each other")
        return self


@dataclass(frozen=True)
class ExtractPlan:
    """Open checkpoints, the tensors to factor, and why the others are not (sorted by name)."""

    settings: ExtractSettings
    root: Path
    base: Checkpoint
    model: Checkpoint
    factored: tuple[str, ...]
    left_out: Mapping[str, str]

    @property
    def fan_in_fan_out(self) -> bool:
        """Whether linear weights are ``[in, out]``."""
        return (self.base.config or {}).get("model_type") in _FAN_IN_FAN_OUT

    @property
    def output(self) -> Path:
        """The folder to write."""
        return self.root / self.settings.output

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON values, for ``--dry-run --json``."""
        return {
            **self.settings.model_dump(mode="json"),
            "output_exists": self.output.is_dir() and any(self.output.iterdir()),
            "factored": [
                {"name": name, "shape": list(self.base.index[name].shape)} for name in self.factored
            ],
            "left_out": [
                {"name": name, "because": reason} for name, reason in self.left_out.items()
            ],
        }


def _reason(settings: ExtractSettings, base: Checkpoint, name: str) -> str:
    """Return why a tensor has no factors, or an empty text."""
    info = base.index[name]
    if not is_floating(info.dtype):
        return f"{info.dtype}, not floating point"
    if len(info.shape) != 2:
        return f"{len(info.shape)}-D, not a matrix"
    if not name.endswith(".weight"):
        return "not a module's weight"
    if settings.match and not any(matches(pattern, name) for pattern in settings.match):
        return "not matched"
    if not settings.match and is_embedding(name):
        return "an embedding"
    return ""


def is_embedding(name: str) -> bool:
    """Say whether a weight is an embedding's, by the last word of its module's name."""
    return _EMBEDDING.fullmatch(name.split(".")[-2]) is not None


def _require_same_shapes(base: Checkpoint, model: Checkpoint) -> None:
    faults = []
    for name in sorted({*base.index, *model.index}):
        here, there = base.index.get(name), model.index.get(name)
        if here is None or there is None:
            faults.append(f"{name}: only in {(model if here is None else base).source}")
        elif here.shape != there.shape or is_floating(here.dtype) != is_floating(there.dtype):
            faults.append(
                f"{name}: {list(there.shape)} {there.dtype}, expected {list(here.shape)} "
                f"{here.dtype}"
            )
    if faults:
        raise LayoutError(
            f"{model.source} does not hold the tensors of {base.source}:\n"
            + "\n".join(f"  {fault}" for fault in faults),
            "an adapter changes tensors, it can't add or resize them: give the base that the model "
            "was tuned from",
        )


def _require_matches(settings: ExtractSettings, base: Checkpoint, factored: Sequence[str]) -> None:
    for pattern in settings.match:
        if not any(matches(pattern, name) for name in factored):
            raise InputError(
                f"match {pattern!r}: no 2-D weight of {base.source} is named so",
                did_you_mean(pattern, base.index) or "cmerge inspect MODEL --tensors lists names",
            )
    if not factored:
        raise InputError(
            f"{base.source}: no linear weights (2-D tensors named ….weight)",
            "name the tensors with --match",
        )
