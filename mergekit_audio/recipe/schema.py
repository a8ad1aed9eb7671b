"""The JSON Schema of a recipe kind, for editors and for ``did you mean``."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from mergekit_audio.recipe.base import Strict
from mergekit_audio.recipe.kinds import model_of


@functools.cache
def json_schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a kind; plug-ins are ``oneOf`` over the registry.

    Parameters
    ----------
    kind
        ``merge``, ``train``, ``evaluate``, ``sweep`` or ``measure``; of other tools ``mergekit``.
    """
    schema = _model(kind).model_json_schema()
    for union in _tagged_unions(schema):
        tag = union["discriminator"]["propertyName"]
        for reference in union["discriminator"]["mapping"].values():
            choice = _resolve(schema, {"$ref": reference})
            choice["required"] = [tag, *(key for key in choice.get("required", []) if key != tag)]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def keys_at(kind: str, value: Any, path: tuple[str | int, ...]) -> list[str]:
    """Return the keys that the mapping at ``path`` of a recipe may have, sorted; [] if any.

    ``value`` is the recipe as plain values: it tells which plug-in of a union is meant.
    """
    schema = json_schema(kind)
    nodes = [schema]
    for step in path:
        nodes = [below for node in nodes for below in _below(schema, node, value, step)]
        value = value[step]
    found = {
        key
        for node in nodes
        for choice in _choices(schema, node, value)
        for key in choice.get("properties", {})
    }
    return sorted(found)


def _model(kind: str) -> type[Strict]:
    if kind == "mergekit":
        from mergekit_audio.recipe._mergekit_schema import MergekitRecipe

        return MergekitRecipe
    return model_of(kind)


def _below(
    schema: dict[str, Any], node: dict[str, Any], value: Any, step: str | int
) -> Iterator[dict[str, Any]]:
    for choice in _choices(schema, node, value):
        if isinstance(step, int):
            if isinstance(items := choice.get("items"), dict):
                yield items
        elif step in choice.get("properties", {}):
            yield choice["properties"][step]
        elif isinstance(items := choice.get("additionalProperties"), dict):
            yield items


def _choices(schema: dict[str, Any], node: dict[str, Any], value: Any) -> Iterator[dict[str, Any]]:
    """Yield the plain schemas that a node may be; of a tagged union the one that is meant."""
    node = _resolve(schema, node)
    if "discriminator" in node and isinstance(value, dict):
        tag = value.get(node["discriminator"]["propertyName"])
        reference = node["discriminator"]["mapping"].get(tag) if isinstance(tag, str) else None
        if reference:
            yield from _choices(schema, {"$ref": reference}, value)
        return
    alternatives = node.get("anyOf", node.get("oneOf", node.get("allOf")))
    if alternatives is None:
        yield node
        return
    for alternative in alternatives:
        yield from _choices(schema, alternative, value)


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return node


def _tagged_unions(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "mapping" in node.get("discriminator", {}):
            yield node
        for value in node.values():
            yield from _tagged_unions(value)
    elif isinstance(node, list):
        for value in node:
            yield from _tagged_unions(value)
