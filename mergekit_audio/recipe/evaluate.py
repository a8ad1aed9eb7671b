"""The ``kind: evaluate`` recipe: models, probing tasks and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mergekit_audio.backbones.base import Backbone
from mergekit_audio.recipe.base import OutputPath, Plugin, RowName, Strict, default_plugin
from mergekit_audio.recipe.presets import PRESETS
from mergekit_audio.recipe.protocols import Protocol as Protocol  # part of this module's recipe
from mergekit_audio.recipe.tuning import Tuning, transfer_label, transfer_name
from mergekit_audio.transfers.base import Transfer

TaskKind = Literal["tagging", "multiclass", "key", "tempo", "regression"]
TONICS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
KEYS = tuple(f"key--{tonic} {mode}" for mode in ("major", "minor") for tonic in TONICS)
TEMPO_VALUE = "tempo_bpm"
DEFAULT_SEEDS = (0, 1, 2, 3, 4)


class Task(Strict):
    """One probing task: a corpus with splits, and what to tell of its tracks."""

    name: RowName
    """The column's name in tables."""
    corpus: str
    """A manifest, a folder or a prepared corpus with `split` and `tags` or `values`."""
    kind: TaskKind = "tagging"
    """`tagging`: any number of tags; `multiclass` and `key`: exactly one; `tempo` and `regression`:
    numbers from the corpus's `values`."""
    western: bool = False
    """Counts to the Western average (the others to the non-Western one)."""
    top_tags: int | None = Field(default=None, gt=0)
    """Keep the most frequent tags of the training split (ties alphabetical); null keeps all."""
    tags: list[str] | None = Field(default=None, min_length=1)
    """A pinned tag list instead."""
    category: str | None = Field(default=None, min_length=1)
    """Only tags of one category: what stands before `--`."""
    values: list[str] | None = Field(default=None, min_length=1)
    """Regression: the values to predict; null takes all that a training track has."""
    protocol: Protocol = Protocol()
    """How this task is probed: a preset's name, or a mapping of `preset` and settings."""

    @model_validator(mode="after")
    def _one_tag_rule(self) -> Self:
        if self.tags is not None:
            if self.top_tags is not None:
                raise ValueError("give either `tags` or `top_tags`")
            require_distinct("tags", self.tags)
        if self.values is not None:
            require_distinct("values", self.values)
        return self

    @model_validator(mode="after")
    def _keys_of_its_kind(self) -> Self:
        fitting = {
            "tagging": ("tags", "top_tags", "category"),
            "multiclass": ("tags", "category"),
            "regression": ("values",),
        }.get(self.kind, ())
        given = [key for key in ("tags", "top_tags", "category", "values") if getattr(self, key)]
        if wrong := [key for key in given if key not in fitting]:
            takes = " and ".join(fitting) or "none of these keys"
            raise ValueError(f"kind: {self.kind} takes {takes}, found {', '.join(wrong)}")
        return self


class EvaluateModel(Strict):
    """One row of the table."""

    name: RowName = "model"
    """The row's name; left out, the last part of `model`."""
    model: str
    """A checkpoint folder or a hub repo id."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, dict) and "name" not in value and isinstance(value.get("model"), str):
            return {"name": PurePosixPath(value["model"]).name or value["model"], **value}
        return value


class EvaluateRecipe(Strict):
    """Probe frozen encoders: every model on every task with every seed."""

    kind: Literal["evaluate"]
    """Always `evaluate`."""
    backbone: Annotated[Backbone, Plugin("backbones")] = Field(
        default_factory=lambda: default_plugin("backbones", "mert")
    )
    """The model family."""
    models: list[EvaluateModel] = Field(min_length=1)
    """The rows."""
    tasks: list[Task] = Field(min_length=1)
    """The columns."""
    transfer: Annotated[Transfer, Plugin("transfers")] = Field(
        default_factory=lambda: default_plugin("transfers", "probing")
    )
    """`probing` trains heads on the frozen encoder's features, by each task's `protocol`; with any
    other transfer the encoder is tuned for each task together with its head, by `tuning`."""
    transfers: list[Annotated[Transfer, Plugin("transfers")]] | None = Field(
        default=None, min_length=1
    )
    """Instead of `transfer`: several in one table, a row for each of each model. All of them,
    `probing` too, are trained by `tuning`, so that rows differ in nothing else."""
    tuning: Tuning = Tuning()
    """How encoders are tuned."""
    reference: str | None = None
    """The row that the others are compared with; null means the first."""
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=list(DEFAULT_SEEDS), min_length=1)
    """Seeds of the probes (initial weights, order, dropout); left out, those of the preset that the
    tasks share, or 0 to 4."""
    resamples: int = Field(default=10_000, ge=0)
    """Resamples of the tracks in the paired bootstrap of differences; 0 leaves differences out."""
    store: str | None = None
    """The prepared store and the feature cache; null means `.cmerge_store` beside the recipe."""
    output: OutputPath
    """The folder of results, relative to the recipe file."""

    @model_validator(mode="before")
    @classmethod
    def _seeds_of_the_preset(cls, value: Any) -> Any:
        return with_preset_seeds(value)

    @model_validator(mode="after")
    def _tunes_or_not(self) -> Self:
        if self.transfers is not None and transfer_name(self.transfer) != "probing":
            raise ValueError("give either `transfer` or `transfers`")
        tuned = self.tuned()
        names = [transfer_name(transfer) for transfer in tuned]
        if not tuned and self.tuning != Tuning():
            raise ValueError("`tuning` belongs to a `transfer` other than probing, or `transfers`")
        if unknown := sorted(self.tuning.learning_rates.keys() - set(names)):
            raise ValueError(f"tuning.learning_rates names {unknown}, but transfers are {names}")
        tasks = [task.name for task in self.tasks]
        if unknown := sorted(self.tuning.by_task.keys() - set(tasks)):
            raise ValueError(f"tuning.by_task names {unknown}, but tasks are {tasks}")
        own = [task.name for task in self.tasks if task.protocol != Protocol()]
        if tuned and own:
            raise ValueError(f"encoders are tuned by `tuning`: take `protocol` out of tasks {own}")
        require_distinct("transfers", [transfer_label(transfer) for transfer in tuned])
        return self

    def tuned(self) -> list[Transfer]:
        """Return the transfers that tune an encoder with its head; none for frozen features."""
        if self.transfers is not None:
            return list(self.transfers)
        return [] if transfer_name(self.transfer) == "probing" else [self.transfer]

    def row_names(self) -> list[str]:
        """Return the names of the table's rows, in their order."""
        models = [entry.name for entry in self.models]
        labels = [transfer_label(transfer) for transfer in self.tuned()]
        if not labels:
            return models
        return labels if len(models) == 1 else [f"{m}: {label}" for m in models for label in labels]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = self.row_names()
        if self.resamples == 1:
            raise ValueError("one resample has no spread: give 0, or more than one `resamples`")
        if self.reference is not None and self.reference not in names:
            raise ValueError(f"reference names {self.reference!r}, but the rows are {names}")
        require_distinct("model names", [entry.name for entry in self.models])
        require_distinct("task names", [task.name for task in self.tasks])
        require_distinct("seeds", self.seeds)
        return self


def with_preset_seeds(value: Any) -> Any:
    """Return a recipe's plain values with the seeds of the one preset that all its tasks name.

    Raises
    ------
    ValueError
        The tasks' presets have different seeds, and the recipe names none.
    """
    if not isinstance(value, dict) or "seeds" in value or not isinstance(value.get("tasks"), list):
        return value
    found = {}
    for task in value["tasks"]:
        protocol = task.get("protocol") if isinstance(task, dict) else None
        name = protocol.get("preset") if isinstance(protocol, dict) else protocol
        if not isinstance(name, str | None) or (name is not None and name not in PRESETS):
            return value
        found[PRESETS[name].seeds if name is not None else DEFAULT_SEEDS] = name
    if len(found) > 1:
        listed = ", ".join(
            f"{list(seeds)} ({name or 'no preset'})" for seeds, name in found.items()
        )
        raise ValueError(f"the tasks' presets have different seeds, {listed}: give `seeds`")
    return {**value, "seeds": list(next(iter(found)))} if found else value


def require_distinct(what: str, values: Sequence[object]) -> None:
    """Raise ``ValueError`` when a value comes twice."""
    if len(set(values)) != len(values):
        raise ValueError(f"{what} must differ, found {list(values)}")
