"""The keys of mergekit's own recipes, as strict models: what mergekit 0.1.5 ignores is a fault."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from mergekit_audio.recipe.base import Strict

METHODS = (
    "linear",
    "slerp",
    "nuslerp",
    "multislerp",
    "karcher",
    "task_arithmetic",
    "ties",
    "dare_linear",
    "dare_ties",
    "breadcrumbs",
    "breadcrumbs_ties",
    "della",
    "della_linear",
    "sce",
    "model_stock",
    "ram",
    "ramplus_tl",
    "nearswap",
    "arcee_fusion",
    "passthrough",
)
"""The merge methods of mergekit 0.1.5."""

Dtype = Literal[
    "float32",
    "float16",
    "bfloat16",
    "float64",
    "torch.float32",
    "torch.float16",
    "torch.bfloat16",
    "torch.float64",
]
Scalar = bool | int | float | str


class PathReference(Strict):
    """A folder, weight file or hub repo, and the revision of the latter."""

    path: str = Field(min_length=1)
    """A local path or a hub repo id."""
    revision: str | None = None
    """A branch, tag or commit of the repo."""

    def __str__(self) -> str:
        return f"{self.path}@{self.revision}" if self.revision else self.path


def _split_path(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.count("@") > 1:
        raise ValueError(f"expected path or path@revision, found {value!r} with more than one @")
    path, _, revision = value.partition("@")
    if not path:
        raise ValueError(f"expected path or path@revision, found {value!r}")
    return PathReference(path=path, revision=revision or None)


def _split_model(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.count("+") > 1:
        raise ValueError(f"expected model or model+lora, found {value!r} with more than one +")
    model, plus, adapter = value.partition("+")
    lora = _split_path(adapter) if plus else None
    return ModelReference(model=_split_path(model), lora=lora)


PathText = Annotated[PathReference, BeforeValidator(_split_path)]


class ModelReference(Strict):
    """A model: where it is, and the LoRA adapter that is merged into it first."""

    model: PathText
    """The model itself."""
    lora: PathText | None = None
    """A LoRA adapter."""
    override_architecture: str | None = None
    """The architecture whose modules and layers are assumed instead of the config's."""

    def __str__(self) -> str:
        return f"{self.model}+{self.lora}" if self.lora else str(self.model)


Model = Annotated[ModelReference, BeforeValidator(_split_model)]


class Conditional(Strict):
    """A parameter's value for the tensors whose name holds a text."""

    value: Scalar | list[Scalar]
    """A number, a switch, or a gradient over the layers."""
    filter: str | None = None
    """A part of the tensor's name (no glob); absent or `*`: every tensor."""


Setting = Scalar | list[Scalar] | Conditional | list[Conditional]
Parameters = dict[str, Setting]


class ModelInput(Strict):
    """A model of the merge."""

    model: Model
    """A path, `path@revision`, `path+lora`, or a mapping."""
    parameters: Parameters | None = None
    """The method's parameters for this model."""


class SliceSource(Strict):
    """Layers of a model."""

    model: Model
    """A path, `path@revision`, `path+lora`, or a mapping."""
    layer_range: tuple[int, int]
    """The first layer, and the one after the last."""
    parameters: Parameters | None = None
    """The method's parameters for this model in this slice."""


class OutputSlice(Strict):
    """Layers of the output: the merge of as many layers of each source."""

    sources: list[SliceSource] = Field(min_length=1)
    """The models that take part and their layers."""
    base_model: Model | None = None
    """The base of this slice alone."""
    parameters: Parameters | None = None
    """The method's parameters in this slice."""


class OutputModule(Strict):
    """A part of the model that has layers of its own, such as an encoder."""

    models: list[ModelInput] | None = Field(default=None, min_length=1)
    """The models of this module."""
    slices: list[OutputSlice] | None = Field(default=None, min_length=1)
    """The module's layers by origin."""
    parameters: Parameters | None = None
    """The method's parameters in this module."""


class Tokenizer(Strict):
    """mergekit's tokenizer surgery; only a source of `base` is known here."""

    source: Model = Field(default=ModelReference(model=PathReference(path="union")))
    """Whose vocabulary the output has."""
    tokens: dict[str, Any] | None = None
    """Embeddings of single tokens."""
    pad_to_multiple_of: int | None = None
    """Rows that are added to the embeddings."""


class MergekitRecipe(Strict):
    """A recipe of `mergekit-yaml` or `mergekit-pytorch`, version 0.1.5."""

    merge_method: Literal[METHODS]  # type: ignore[valid-type]
    """The merge method."""
    base_model: Model | None = None
    """The base."""
    models: list[ModelInput] | None = Field(default=None, min_length=1)
    """The models, layer by layer."""
    slices: list[OutputSlice] | None = Field(default=None, min_length=1)
    """The output's layers by origin."""
    modules: dict[str, OutputModule] | None = Field(default=None, min_length=1)
    """The output's modules, each with `models` or `slices`."""
    parameters: Parameters | None = None
    """The method's parameters."""
    dtype: Dtype | None = None
    """The dtype of arithmetic, and of the output where `out_dtype` is absent."""
    out_dtype: Dtype | None = None
    """The dtype of the output."""
    tokenizer_source: Model | None = None
    """Whose tokenizer the output has."""
    tokenizer: Tokenizer | None = None
    """Tokenizer surgery."""
    chat_template: str | None = None
    """The chat template of the output's tokenizer."""
