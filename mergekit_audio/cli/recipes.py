"""Commands of the group `recipe`: ls, cp, show, check, schema."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from mergekit_audio.cli import convert
from mergekit_audio.cli.options import DryRun, Force, Json, Quiet, Set
from mergekit_audio.cli.output import Output, shown
from mergekit_audio.errors import InputError, RecipeError

app = typer.Typer(no_args_is_help=True, help="List, copy, show, check and convert recipes.")
app.command("convert")(convert.convert)


def _complete_name(incomplete: str) -> list[str]:
    from mergekit_audio.recipe.shipped import shipped_recipes

    return [each.name for each in shipped_recipes() if each.name.startswith(incomplete)]


def _complete_kind(incomplete: str) -> list[str]:
    from mergekit_audio.recipe.kinds import KINDS

    return [kind for kind in KINDS if kind.startswith(incomplete)]


Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A shipped recipe: merge/culturemert_ta, or culturemert_ta where that is unique.",
        autocompletion=_complete_name,
        show_default=False,
    ),
]


@app.command("ls")
def list_recipes(as_json: Json = False) -> None:
    """List the shipped recipes.

    Example: cmerge recipe ls
    """
    from mergekit_audio.recipe.shipped import shipped_recipes

    recipes = shipped_recipes()
    width = max((len(each.name) for each in recipes), default=0)
    text = "\n".join(f"{each.name:<{width}}  {each.title}" for each in recipes)
    value = [{"name": each.name, "title": each.title, "path": str(each.path)} for each in recipes]
    Output(as_json).data(text, value)


@app.command("cp")
def copy(
    name: Name,
    destination: Annotated[
        Path,
        typer.Argument(metavar="[DEST]", help="A file or a folder.", show_default="this folder"),
    ] = Path(),
    dry_run: DryRun = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Copy a shipped recipe here, to change it.

    Example: cmerge recipe cp merge/culturemert_ta my_merge.yaml
    """
    from mergekit_audio.files import write_text
    from mergekit_audio.recipe.shipped import shipped_recipe

    started = time.monotonic()
    output = Output(as_json, quiet)
    source = shipped_recipe(name)
    target = destination / source.name if destination.is_dir() else destination
    if target.exists() and not force:
        raise InputError(
            f"{target}: the file already exists", "add --force to replace it, or give another name"
        )
    value = {"recipe": name, "path": str(target), "written": not dry_run}
    if dry_run:
        output.data(str(target), value)
        output.talk("dry run: nothing was written")
        return
    write_text(target, source.read_text(encoding="utf-8"))
    output.data("", value)
    output.closing(
        f"copied {name}", target, time.monotonic() - started, f"cmerge recipe check {shown(target)}"
    )


@app.command()
def show(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="NAME_OR_FILE",
            help="A shipped recipe or a file.",
            autocompletion=_complete_name,
            show_default=False,
        ),
    ],
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Print a recipe; with --json or --set as it is after validation, all defaults written out.

    Example: cmerge recipe show merge/culturemert_ta
    """
    path = Path(recipe)
    if not path.is_file():
        from mergekit_audio.recipe.shipped import shipped_recipe

        path = shipped_recipe(recipe)
    if not as_json and not overrides:
        Output().data(path.read_text(encoding="utf-8"), None)
        return
    import yaml

    from mergekit_audio.recipe.load import load

    value = load(path, overrides or []).recipe.model_dump(mode="json")
    Output(as_json).data(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), value)


@app.command()
def check(
    files: Annotated[
        list[Path], typer.Argument(metavar="RECIPE...", help="Recipes.", show_default=False)
    ],
    overrides: Set = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Validate recipes without opening what they name; lists every fault with line and column.

    Example: cmerge recipe check my_merge.yaml
    """
    from mergekit_audio.recipe.load import check_file

    output = Output(as_json, quiet)
    valid: list[dict[str, Any]] = []
    errors: list[RecipeError] = []
    for path in files:
        try:
            kind, digest = check_file(path, overrides or [])
        except RecipeError as error:
            errors.append(error)
            continue
        valid.append({"path": str(path), "kind": kind, "digest": digest})
    faults = [fault for error in errors for fault in error.faults]
    value = {
        "valid": not errors,
        "recipes": valid,
        "faults": [
            {
                "file": fault.file,
                "line": fault.line,
                "column": fault.column,
                "key": fault.key,
                "problem": fault.problem,
            }
            for fault in faults
        ],
    }
    output.data(
        "\n".join(f"{each['path']}: a valid {each['kind']} recipe" for each in valid), value
    )
    if errors:
        raise RecipeError(faults, errors[0].hint)


@app.command()
def schema(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="merge, train, evaluate, sweep, measure, ablation or similarity.",
            autocompletion=_complete_kind,
            show_default=False,
        ),
    ],
) -> None:
    """Print the JSON Schema of a recipe kind, for editors that complete and check YAML.

    Example: cmerge recipe schema merge > merge.schema.json
    """
    from mergekit_audio.errors import UsageError
    from mergekit_audio.recipe.kinds import KINDS
    from mergekit_audio.registry import did_you_mean

    if kind not in KINDS:
        raise UsageError(
            f"{kind!r} is no recipe kind; one of: {', '.join(KINDS)}", did_you_mean(kind, KINDS)
        )
    from mergekit_audio.recipe.schema import json_schema

    Output(as_json=True).data("", json_schema(kind))
