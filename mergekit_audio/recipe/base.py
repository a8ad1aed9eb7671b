"""What every recipe shares: strict pydantic models and the field type of a plug-in."""

from __future__ import annotations

import json
import os
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from mergekit_audio import registry

FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]


def _output_path(text: str) -> str:
    if not text.strip() or "\0" in text:
        raise ValueError(f"expected the path of a folder, found {text!r}")
    return os.path.expanduser(text)


def _row_name(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError(f"expected a name that can be printed in one line, found {text!r}")
    return text


RowName = Annotated[str, AfterValidator(_row_name)]
"""What a row or column is called in tables."""

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
    that a new plug-in file is at once a valid value and part of the JSON Schema. Only the plug-in
    that a recipe names is imported.
    """

    def __init__(self, family: str) -> None:
        self.family = family

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Validate by the class that the value names; a plug-in may be its name alone."""
        return core_schema.with_info_plain_validator_function(self._validated)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the tagged union of all of the family's classes."""
        choices = {
            name: cls.__pydantic_core_schema__
            for name, cls in registry.discover(self.family).items()
        }
        return handler(core_schema.tagged_union_schema(choices, discriminator="name"))

    def _validated(self, value: Any, info: ValidationInfo) -> Any:
        names = registry.names(self.family)
        if isinstance(value, BaseModel) and getattr(value, "name", None) in names:
            return value
        values = {"name": value} if isinstance(value, str) else value
        if not isinstance(values, dict):
            raise PydanticKnownError("dict_type")
        if "name" not in values:
            raise PydanticKnownError("union_tag_not_found", {"discriminator": "'name'"})
        if values["name"] not in names:
            expected = ", ".join(repr(name) for name in names)
            tag = {"discriminator": "'name'", "tag": str(values["name"]), "expected_tags": expected}
            raise PydanticKnownError("union_tag_invalid", tag)
        plugin = registry.lookup(self.family, values["name"])
        if info.mode == "json":  # a recipe's file: text is no number there either
            return plugin.model_validate_json(json.dumps(values), strict=True)
        return plugin.model_validate(values)


def default_plugin(family: str, name: str) -> Any:
    """Return a plug-in with all its defaults, for a field that may be left out."""
    return registry.lookup(family, name)(name=name)


RecipeModel = TypeVar("RecipeModel", bound=Strict)
