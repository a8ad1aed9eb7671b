import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mergekit_audio.errors import InputError
from mergekit_audio.recipe.kinds import COMMANDS, KINDS, model_of
from mergekit_audio.recipe.load import check_file, load
from mergekit_audio.recipe.schema import json_schema, keys_at
from mergekit_audio.recipe.shipped import shipped_recipe, shipped_recipes
from mergekit_audio.recipe.train import TrainRecipe

RECIPES = {each.name: each for each in shipped_recipes()}
# In mergekit's form; to load one is to open its models (test_shipped_merges.py).
THEIRS = ("merge/mergekit_ties",)
OURS = [name for name in RECIPES if name not in THEIRS]


@pytest.mark.parametrize("name", OURS)
def test_every_shipped_recipe_is_valid(name: str) -> None:
    kind = load(RECIPES[name].path).recipe.kind
    assert RECIPES[name].group in (kind, "demo")


@pytest.mark.parametrize("name", THEIRS)
def test_shipped_recipes_of_mergekit_are_valid(name: str) -> None:
    assert check_file(RECIPES[name].path) == ("mergekit", None)


@pytest.mark.parametrize("name", RECIPES)
def test_every_shipped_recipe_opens_with_a_title_its_command_and_a_source(name: str) -> None:
    path = RECIPES[name].path
    comments = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comments.append(line)
    command = "merge"
    if name not in THEIRS:
        recipe = load(path).recipe
        command = COMMANDS[recipe.kind]
        if isinstance(recipe, TrainRecipe) and len(recipe.corpora()) > 1:
            command = "train-multi"
    assert comments[0].endswith(".")
    assert comments[1].startswith(f"# cmerge {command} {path.name}")
    assert any(line.startswith("# source: ") for line in comments)
    if RECIPES[name].group != "demo":
        text = "\n".join(comments)
        assert all(word in text for word in ("hardware: ", "time: ", "result: "))


def test_the_families_of_recipes_are_there() -> None:
    assert {each.group for each in RECIPES.values()} == {
        "ablation",
        "demo",
        "evaluate",
        "measure",
        "merge",
        "similarity",
        "sweep",
        "train",
    }
    assert all(each.title and not each.title.startswith("#") for each in RECIPES.values())


def test_a_shipped_recipe_is_found_by_its_name_or_its_stem() -> None:
    path = RECIPES["merge/culturemert_ta"].path
    for name in ("merge/culturemert_ta", "culturemert_ta", "recipes/merge/culturemert_ta.yaml"):
        assert shipped_recipe(name) == path
    several = "several shipped recipes: ablation/culturemert, evaluate/culturemert"
    with pytest.raises(InputError, match=several):
        shipped_recipe("culturemert")
    with pytest.raises(InputError, match="no such shipped recipe") as caught:
        shipped_recipe("culturemert_tb")
    assert "did you mean 'culturemert_ta'?" in caught.value.hint


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_describes_every_key(kind: str) -> None:
    schema = json_schema(kind)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    json.dumps(schema)
    assert set(schema["properties"]) == set(model_of(kind).model_fields)
    undescribed = [
        name
        for name, value in schema["properties"].items()
        if not value.get("description") and "$ref" not in value
    ]
    assert undescribed == []


@pytest.mark.parametrize("name", OURS)
def test_the_schema_accepts_every_shipped_recipe(name: str) -> None:
    value = yaml.safe_load(RECIPES[name].path.read_text(encoding="utf-8"))
    assert list(violations(json_schema(value["kind"]), value)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"scal": 1},
        {"scale": "x"},
        {"method": {"name": "nothing"}},
        {"method": {}},
        {"models": []},
        {"models": [{"model": "a", "wieght": 1}]},
        {"kind": "train"},
        {"seed": -1},
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(change: dict[str, Any]) -> None:
    path = RECIPES["merge/culturemert_ta"].path
    value = {**yaml.safe_load(path.read_text(encoding="utf-8")), **change}
    assert list(violations(json_schema("merge"), value))


def test_the_keys_of_a_plug_in_depend_on_its_name() -> None:
    value = {"teachers": [{"name": "cqt"}, {"name": "residual_kmeans"}]}
    assert "bins" in keys_at("train", value, ("teachers", 0))
    assert "bins" not in keys_at("train", value, ("teachers", 1))
    assert "codebooks" in keys_at("train", value, ("teachers", 1))


def violations(schema: dict[str, Any], value: Any, path: str = "$") -> list[str]:
    """Check a value by the parts of JSON Schema that pydantic writes (a check of our own)."""
    return list(_violations(schema, schema, value, path))


_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}
_KNOWN = {
    "$schema", "$defs", "$ref", "additionalProperties", "anyOf", "const", "default", "description",
    "discriminator", "enum", "exclusiveMaximum", "exclusiveMinimum", "items", "maximum",
    "minItems", "minLength", "minimum", "oneOf", "pattern", "properties", "required", "title",
    "type",
}  # fmt: skip


def _violations(root: dict[str, Any], node: dict[str, Any], value: Any, path: str) -> Any:
    assert set(node) <= _KNOWN, f"{path}: {sorted(set(node) - _KNOWN)}"
    if "$ref" in node:
        yield from _violations(root, root["$defs"][node["$ref"].split("/")[-1]], value, path)
    for word, count in (("anyOf", None), ("oneOf", 1)):
        if word in node:
            fits = [not list(_violations(root, each, value, path)) for each in node[word]]
            if not any(fits) or (count and sum(fits) != count):
                yield f"{path}: {word}"
    kind = node.get("type")
    if kind and (
        not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")
    ):
        yield f"{path}: type {kind}"
        return
    if "const" in node and value != node["const"]:
        yield f"{path}: const"
    if "enum" in node and value not in node["enum"]:
        yield f"{path}: enum"
    if isinstance(value, int | float):
        yield from _bounds(node, value, path)
    if isinstance(value, dict):
        for key in node.get("required", []):
            if key not in value:
                yield f"{path}.{key}: required"
        for key, item in value.items():
            below = node.get("properties", {}).get(key, node.get("additionalProperties", {}))
            if below is False:
                yield f"{path}.{key}: unknown"
            elif isinstance(below, dict):
                yield from _violations(root, below, item, f"{path}.{key}")
    if isinstance(value, list):
        if len(value) < node.get("minItems", 0):
            yield f"{path}: minItems"
        for index, item in enumerate(value):
            yield from _violations(root, node.get("items", {}), item, f"{path}[{index}]")


def _bounds(node: dict[str, Any], value: float, path: str) -> Any:
    if value < node.get("minimum", value) or value > node.get("maximum", value):
        yield f"{path}: bounds"
    if "exclusiveMinimum" in node and value <= node["exclusiveMinimum"]:
        yield f"{path}: bounds"
    if "exclusiveMaximum" in node and value >= node["exclusiveMaximum"]:
        yield f"{path}: bounds"


def test_schemas_stand_where_the_shipped_recipes_do() -> None:
    root = Path(next(iter(RECIPES.values())).path).parents[1]
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == sorted(
        {each.group for each in RECIPES.values()}
    )
