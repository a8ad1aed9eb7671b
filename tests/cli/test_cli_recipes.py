import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from commands import Done

from mergekit_audio.recipe.kinds import KINDS
from mergekit_audio.recipe.load import load
from mergekit_audio.recipe.schema import json_schema
from mergekit_audio.recipe.shipped import shipped_recipe, shipped_recipes


def test_ls_lists_names_and_titles(cmerge: Callable[..., Done]) -> None:
    done = cmerge("recipe", "ls")
    assert (done.code, done.err) == (0, "")
    assert [line.split()[0] for line in done.out.splitlines()] == [
        each.name for each in shipped_recipes()
    ]
    value = json.loads(cmerge("recipe", "ls", "--json").out)
    assert [each["title"] for each in value] == [each.title for each in shipped_recipes()]


def test_cp_copies_here_or_there_and_never_over_a_file(
    cmerge: Callable[..., Done], tmp_path: Path
) -> None:
    text = shipped_recipe("culturemert_ta").read_text()
    dry = cmerge("recipe", "cp", "culturemert_ta", "--dry-run")
    assert (dry.code, dry.out, list(tmp_path.iterdir())) == (0, "culturemert_ta.yaml\n", [])
    done = cmerge("recipe", "cp", "culturemert_ta")
    assert done.code == 0
    assert done.err.endswith("; next: cmerge recipe check culturemert_ta.yaml\n")
    assert (tmp_path / "culturemert_ta.yaml").read_text() == text
    assert cmerge("recipe", "cp", "culturemert_ta").code == 4
    assert cmerge("recipe", "cp", "negation", "culturemert_ta.yaml", "--force", "-q").code == 0
    assert (tmp_path / "culturemert_ta.yaml").read_text() != text
    assert cmerge("recipe", "cp", "merge/negation", "new/mine.yaml", "-q").code == 0
    assert (tmp_path / "new/mine.yaml").is_file()
    (tmp_path / "folder").mkdir()
    value = json.loads(cmerge("recipe", "cp", "demo/makam", "folder", "--json", "-q").out)
    assert value == {"recipe": "demo/makam", "path": "folder/makam.yaml", "written": True}


def test_cp_of_an_unknown_name_offers_the_nearest(cmerge: Callable[..., Done]) -> None:
    done = cmerge("recipe", "cp", "merge/negatoin")
    assert done.code == 4
    assert "hint: did you mean 'merge/negation'?" in done.err


def test_show_prints_the_file_or_the_validated_recipe(
    cmerge: Callable[..., Done], merge_recipe: Path
) -> None:
    path = shipped_recipe("negation")
    assert cmerge("recipe", "show", "negation").out == path.read_text()
    value = json.loads(cmerge("recipe", "show", "negation", "--json").out)
    assert value == load(path).recipe.model_dump(mode="json")
    changed = yaml.safe_load(cmerge("recipe", "show", "merge.yaml", "--set", "scale=3").out)
    assert changed["scale"] == 3.0
    assert changed["max_shard_size_mb"] == 5000.0


def test_check_validates_several_and_lists_all_faults(
    cmerge: Callable[..., Done], merge_recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.yaml").write_text("kind: merge\nbasis: x\n")
    (tmp_path / "worse.yaml").write_text("kind: [\n")
    done = cmerge("recipe", "check", "merge.yaml", "bad.yaml", "worse.yaml")
    assert done.code == 3
    assert done.out == "merge.yaml: a valid merge recipe\n"
    assert "bad.yaml:2:1: basis: unknown key; did you mean 'base'?\n" in done.err
    assert "worse.yaml:2:1: " in done.err
    good = cmerge("recipe", "check", "merge.yaml", "--json")
    assert good.code == 0
    assert json.loads(good.out) == {
        "valid": True,
        "recipes": [{"path": "merge.yaml", "kind": "merge", "digest": load(merge_recipe).digest}],
        "faults": [],
    }


@pytest.mark.parametrize("kind", KINDS)
def test_schema_prints_the_json_schema(cmerge: Callable[..., Done], kind: str) -> None:
    done = cmerge("recipe", "schema", kind)
    assert done.code == 0
    assert json.loads(done.out) == json_schema(kind)
