import json
import subprocess
import sys
from pathlib import Path

import pytest

from mergekit_audio.errors import Fault, RecipeError
from mergekit_audio.recipe.load import LoadedRecipe, digest_of, from_dict, load
from mergekit_audio.recipe.merge import MergeRecipe, Scale
from mergekit_audio.registry import names

MERGE = """\
kind: merge
base: base
models:
  - {model: a}
  - {model: b, weight: 0.5}
method: {name: task_arithmetic}
output: out
"""


def write(folder: Path, text: str | bytes, name: str = "r.yaml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def faults(folder: Path, text: str | bytes, *overrides: str, kind: str | None = None) -> list[str]:
    """Return the faults of a recipe as `line:column: key: problem`, without the file's name."""
    path = write(folder, text)
    with pytest.raises(RecipeError) as caught:
        load(path, overrides, kind=kind)
    assert caught.value.exit_code == 3
    return [str(fault).removeprefix(f"{path}:") for fault in caught.value.faults]


def merge_recipe(loaded: LoadedRecipe) -> MergeRecipe:
    assert isinstance(loaded.recipe, MergeRecipe)
    return loaded.recipe


def test_a_recipe_is_loaded_with_its_defaults(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, MERGE))
    recipe = merge_recipe(loaded)
    assert [(entry.model, entry.weight) for entry in recipe.models] == [("a", 1.0), ("b", 0.5)]
    assert (recipe.scale, recipe.seed, recipe.exclude) == (1.0, 0, [])
    assert loaded.root == tmp_path.resolve()


def test_every_fault_is_listed_with_line_column_and_the_nearest_key(tmp_path: Path) -> None:
    text = (
        "kind: merge\n"
        "base: base\n"
        "modls: []\n"
        "models:\n"
        "  - {model: a, wieght: 1}\n"
        "  - {model: 3}\n"
        "method: {name: task_arithmatic}\n"
        "scale: abc\n"
        "dtype: float23\n"
    )
    assert faults(tmp_path, text) == [
        "1:1: output: missing required key",
        "3:1: modls: unknown key; expected one of: allow_nonfinite, device, exclude, groups, "
        "max_shard_size_mb, mismatched, missing, output, seed, stack, unrelated, weight_norm",
        "5:16: models[0].wieght: unknown key; did you mean 'weight'?",
        "6:13: models[1].model: expected text, found 3",
        f"7:16: method.name: expected one of {len(names('methods'))} methods; "
        "found 'task_arithmatic'; did you mean 'task_arithmetic'?",
        "8:8: scale: expected a number or a mapping, found 'abc'",
        "9:8: dtype: expected 'float64', 'float32', 'float16' or 'bfloat16', found 'float23'; "
        "did you mean 'float32'?",
    ]


def test_a_misspelt_key_names_the_one_that_is_meant(tmp_path: Path) -> None:
    text = MERGE.replace("models:", "modles:")
    assert faults(tmp_path, text) == [
        "1:1: models: missing required key",
        "3:1: modles: unknown key; did you mean 'models'?",
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('scale: "0.2"', "scale: expected a number or a mapping, found '0.2' (write it without"),
        ("scale: .nan", "scale: expected a finite number"),
        ("scale: yes", "scale: expected a number or a mapping, found true"),
        ("seed: 1.5", "seed: expected a whole number"),
        ("seed: -1", "seed: expected greater than or equal to 0, found -1"),
        ("exclude: encoder", "exclude: expected a list, found 'encoder'"),
        ("max_shard_size_mb: 1.0e-9", "max_shard_size_mb: expected greater than or equal to 0.001"),
        ("max_shard_size_mb: .inf", "max_shard_size_mb: expected a finite number"),
        ("allow_nonfinite: 1", "allow_nonfinite: expected true or false, found 1"),
        ("scale: {default: 1, overrides: [{match: x}]}", "scale.overrides[0].scale: missing"),
        ("scale: {default: 1, overide: []}", "scale.overide: unknown key; did you mean 'overrid"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(tmp_path: Path, line: str, problem: str) -> None:
    found = faults(tmp_path, f"{MERGE}{line}\n")
    assert len(found) == 1
    assert found[0].startswith("8:")
    assert problem in found[0]


def test_numbers_may_have_an_exponent_without_a_point(tmp_path: Path) -> None:
    assert merge_recipe(load(write(tmp_path, f"{MERGE}scale: 2e-1\n"))).scale == 0.2


def test_a_key_that_stands_twice_is_a_fault(tmp_path: Path) -> None:
    assert faults(tmp_path, f"{MERGE}base: other\n") == [
        "8:1: base: the key is here twice; first on line 2"
    ]


def test_anchors_and_merge_keys_are_followed_and_faults_point_to_the_anchor(
    tmp_path: Path,
) -> None:
    text = (
        "kind: merge\nbase: base\n"
        "models:\n  - &first {model: a, weight: 2.0}\n  - {<<: *first, model: b}\n"
        "method: {name: task_arithmetic}\noutput: out\n"
    )
    recipe = merge_recipe(load(write(tmp_path, text)))
    assert [(entry.model, entry.weight) for entry in recipe.models] == [("a", 2.0), ("b", 2.0)]
    assert faults(tmp_path, text.replace("2.0", "heavy")) == [
        "4:31: models[0].weight: expected a number, found 'heavy'",
        "4:31: models[1].weight: expected a number, found 'heavy'",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "1:1: the file is empty"),
        ("# only a comment\n", "1:1: the file is empty"),
        ("- a\n- b\n", "1:1: a recipe is a mapping of keys to values, found a list"),
        ("just words\n", "1:1: a recipe is a mapping of keys to values, found 'just words'"),
        ("base: x\n", "1:1: kind: missing required key; one of: merge, train, evaluate, sweep"),
        ("kind: merg\n", "1:7: kind: expected one of: merge, train, evaluate, sweep, "
         "measure, ablation, similarity; found 'merg'; did you mean 'merge'?"),
        ("kind: merge\nmodels:\n\t- a\n", "3:1: a tab can't indent YAML; use spaces"),
        ("kind: merge\n---\nkind: merge\n", "2:1: expected a single document"),
        ("kind: [merge\n", "2:1: "),
        ("kind: !!python/object:os.system x\n", "1:7: kind: the tag"),
        ("&a kind: &b [*b]\n", "holds itself through an alias"),
        ("kind: merge\n1: x\n", "2:1: a key must be text, found '1'"),
        ("kind: merge\nbase: x\x07\n", "2:8: the character U+0007 is not allowed in YAML"),
        (b"kind: merge\nbase: \xff\n", "2:7: not UTF-8: byte 0xFF"),
    ],
)  # fmt: skip
def test_a_text_that_is_no_recipe_is_refused(tmp_path: Path, text: str | bytes, fault: str) -> None:
    found = faults(tmp_path, text)
    assert len(found) == 1
    assert fault in found[0]


def test_numbers_that_yaml_reads_differently_than_people_are_refused(tmp_path: Path) -> None:
    assert faults(tmp_path, f"{MERGE}seed: 010\n") == [
        "8:7: seed: leading zero: YAML 1.1 reads 010 as octal, 8; write it without the zero, "
        "or in quotes if it is text"
    ]
    assert "in base 60" in faults(tmp_path, f"{MERGE}seed: 1:30\n")[0]


def test_a_billion_laughs_are_refused_quickly(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert any("aliases of aliases" in fault for fault in faults(tmp_path, "\n".join(lines)))


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    write(tmp_path, MERGE, "merge.yaml")
    with pytest.raises(RecipeError, match="no such recipe file") as caught:
        load(tmp_path / "merg.yaml")
    assert "did you mean 'merge.yaml'?" in caught.value.hint


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="can't be read"):
        load(tmp_path)


def test_a_recipe_of_another_kind_names_its_command(tmp_path: Path) -> None:
    path = write(tmp_path, MERGE)
    with pytest.raises(RecipeError, match="this is a merge recipe; `cmerge evaluate`") as caught:
        load(path, kind="evaluate")
    assert caught.value.hint == f"run: cmerge merge {path}"


def test_faults_that_only_the_engine_sees_get_their_lines(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, MERGE), ["exclude=[x.*]"])
    error = RecipeError(
        [Fault("", 0, 0, "models[1]", "no"), Fault("", 0, 0, "exclude[0]", "matches nothing")], "h"
    )
    placed = loaded.place(error)
    assert [str(fault) for fault in placed.faults] == [
        "--set exclude=[x.*]: exclude[0]: matches nothing",
        f"{loaded.path}:5:5: models[1]: no",
    ]
    assert placed.hint == "h"


def test_the_digest_does_not_depend_on_how_the_file_is_written(tmp_path: Path) -> None:
    first = load(write(tmp_path, MERGE))
    lines = MERGE.splitlines(keepends=True)
    turned = "".join(["# other\n", lines[-1], *lines[:-1], "seed: 0\nscale: 1.0\n"])
    assert load(write(tmp_path, turned)).digest == first.digest
    assert load(write(tmp_path, MERGE), ["scale=0.5"]).digest != first.digest


def test_a_recipe_survives_the_lock(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, MERGE))
    value = json.loads(json.dumps(loaded.recipe.model_dump(mode="json")))
    again = from_dict(value, tmp_path)
    assert again == loaded.recipe
    assert digest_of(again) == loaded.digest
    with pytest.raises(RecipeError, match="basis: unknown key"):
        from_dict({**value, "basis": 1}, tmp_path)


def test_recipes_are_checked_without_heavy_packages(tmp_path: Path) -> None:
    path = write(tmp_path, MERGE)
    code = (
        "import sys; from pathlib import Path; from mergekit_audio.recipe.load import load;"
        f"load(Path({str(path)!r}));"
        "print([m for m in ('torch', 'numpy', 'scipy', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class TestSet:
    """``--set key=value``."""

    def test_values_are_typed_and_nested(self, tmp_path: Path) -> None:
        loaded = load(
            write(tmp_path, MERGE),
            [
                "scale={default: 0.3, overrides: [{match: 'encoder.*', scale: 0}]}",
                "models[0].weight=-1",
                "models.1.model=c",
                "models[2]={model: d}",
                "exclude=[a.*, b.*]",
                "method.name=weighted_average",
            ],
        )
        recipe = merge_recipe(loaded)
        assert isinstance(recipe.scale, Scale)
        assert recipe.scale.overrides[0].scale == 0.0
        assert [(entry.model, entry.weight) for entry in recipe.models] == [
            ("a", -1.0),
            ("c", 0.5),
            ("d", 1.0),
        ]
        assert recipe.exclude == ["a.*", "b.*"]
        assert recipe.method.name == "weighted_average"
        assert len(loaded.overrides) == 6

    def test_a_later_one_wins_and_may_go_into_an_earlier_one(self, tmp_path: Path) -> None:
        loaded = load(write(tmp_path, MERGE), ["scale={default: 1}", "scale.default=2", "seed=3"])
        scale = merge_recipe(loaded).scale
        assert isinstance(scale, Scale)
        assert scale.default == 2.0

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("scale", "expected key=value"),
            ("=3", "expected key=value"),
            ("models[x].weight=1", "expected key=value"),
            ("scale=[1", "scale: while parsing a flow sequence"),
            ("scal=1", "scal: unknown key; did you mean 'scale'?"),
            ("scale=abc", "scale: expected a number or a mapping, found 'abc'"),
            ("scale=", "scale: expected a number or a mapping, found nothing"),
            ("models[7].weight=1", "models has 2 items: the index is from 0 to 1"),
            ("models.first.weight=1", "models is a list: name an item by its index"),
            ("base.x=1", "base is 'base', not a mapping: set it as a whole"),
            ("models[0].weight=heavy", "models[0].weight: expected a number, found 'heavy'"),
        ],
    )
    def test_what_does_not_fit_names_the_option(
        self, tmp_path: Path, text: str, problem: str
    ) -> None:
        found = faults(tmp_path, MERGE, text)
        assert len(found) == 1
        assert found[0].startswith(f"--set {text}")
        assert problem in found[0]

    def test_the_kind_can_be_set(self, tmp_path: Path) -> None:
        found = faults(tmp_path, "kind: x\nbasee: 1\n", "kind=merge")
        assert "2:1: basee: unknown key; did you mean 'base'?" in found


@pytest.mark.parametrize("output", ['""', '" "', r'"a\0b"'])
def test_an_output_that_is_no_path_is_refused(tmp_path: Path, output: str) -> None:
    (found,) = faults(tmp_path, MERGE.replace("output: out", f"output: {output}"))
    assert found.startswith("7:9: output: expected the path of a folder, found '")


def test_the_output_may_lie_in_the_user_s_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/of/me")
    loaded = load(write(tmp_path, MERGE), ["output=~/out"])
    assert loaded.recipe.output == "/home/of/me/out"


def test_text_is_no_number_in_a_plug_in_either(tmp_path: Path) -> None:
    text = "kind: merge\nbase: b\nmodels: [{model: a}]\noutput: o\n"
    found = faults(tmp_path, text + "method: {name: ties, density: '1'}\n")
    assert found == ["5:31: method.density: expected a number, found '1' (write it without quotes)"]
