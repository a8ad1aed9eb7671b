"""What every recipe shares: strict pydantic models and the field type of a plug-in."""

from __future__ import annotations

import os
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from mergekit_audio import registry

FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]


def _output_path(text: str) -> str:
    if not text.strip() or "\0" in text:
        raise ValueError(f"expected the path of a folder, found {text!r}")
    return os.path.expanduser(text)


OutputPath = Annotated[str, AfterValidator(_output_path)]
"""A folder to write, relative to the recipe file; `~` is the user's home."""


class Strict(BaseModel):
    """A frozen model that refuses unknown keys and keeps field docstrings in its JSON Schema."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )


class Plugin:
    """Annotation of a field that holds a plug-in of one family, told apart by its ``name``.

    ``method: Annotated[MergeMethod, Plugin("methods")]`` validates as a union over the registry, so
    that a new plug-in file is at once a valid value and part of the JSON Schema.
    """

    def __init__(self, family: str) -> None:
        self.family = family

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Build the tagged union of the family's classes, each written with all its fields."""
        choices = {
            name: handler.generate_schema(cls)
            for name, cls in registry.discover(self.family).items()
        }
        union = core_schema.tagged_union_schema(choices, discriminator="name")
        return core_schema.no_info_before_validator_function(_named, union)


def default_plugin(family: str, name: str) -> Any:
    """Return a plug-in with all its defaults, for a field that may be left out."""
    return registry.discover(family)[name](name=name)


def _named(value: Any) -> Any:
    """Let a plug-in with all its defaults be written as its name alone."""
    return {"name": value} if isinstance(value, str) else value


RecipeModel = TypeVar("RecipeModel", bound=Strict)
