"""Recipes of recipes: what runs, what serves again, and circles."""

from pathlib import Path

import pytest

from mergekit_audio.errors import InputError, RecipeError
from mergekit_audio.files import sha256_of_file, staged_folder
from mergekit_audio.lock import LockedInput, make_lock, write_lock
from mergekit_audio.merge.stages import resolve_stages, stage_sources
from mergekit_audio.progress import ProgressEvent
from mergekit_audio.recipe.load import load
from mergekit_audio.recipe.merge import MergeRecipe

FILE = "weights.txt"


class Engine:
    """An engine that joins texts instead of tensors, and keeps a record of what it ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.events: list[ProgressEvent] = []

    def run(self, recipe: MergeRecipe, root: Path, force: bool) -> None:
        self.ran.append(Path(recipe.output).name)
        target = root / recipe.output
        sources = [("base", recipe.base)]
        sources += [(f"models[{i}]", each.model) for i, each in enumerate(recipe.models)]
        inputs = [
            LockedInput(
                name=name,
                source=source,
                content_digest="",
                files={FILE: sha256_of_file(root / source / FILE)},
            )
            for name, source in sources
        ]
        with staged_folder(target, force=force) as staging:
            text = "+".join((root / source / FILE).read_text() for _, source in sources)
            (staging / FILE).write_text(f"({text})")
            locked = recipe.model_copy(update={"models": list(reversed(recipe.models))})
            values = locked.model_dump(mode="json")
            lock = make_lock(staging, target=target, recipe=values, root=root, inputs=inputs)
            write_lock(staging, lock)

    def resolve(self, path: Path, *, force: bool = False) -> MergeRecipe:
        loaded = load(path)
        assert isinstance(loaded.recipe, MergeRecipe)
        return resolve_stages(
            loaded.recipe,
            loaded.root,
            self.run,
            path=path,
            force=force,
            progress=self.events.append,
        )


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in "abcd":
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE).write_text(name)
    return tmp_path


def write(path: Path, base: str, *models: str, method: str = "task_arithmetic", more="") -> Path:
    path.parent.mkdir(exist_ok=True)
    entries = "\n".join(f"  - {{model: {model}}}" for model in models)
    path.write_text(
        f"kind: merge\nbase: {base}\nmodels:\n{entries}\nmethod: {{name: {method}}}\n"
        f"output: runs/{path.stem}\n{more}"
    )
    return path


def test_a_recipe_without_stages_is_returned_as_it_is(engine: Engine, root: Path) -> None:
    path = write(root / "plain.yaml", "a", "b", "c")
    assert engine.resolve(path) == load(path).recipe
    assert engine.ran == []


def test_inner_recipes_run_first_and_their_folders_take_their_places(
    engine: Engine, root: Path
) -> None:
    write(root / "sub/inner.yml", "../a", "../b")
    write(root / "middle.yaml", "sub/inner.yml", "c")
    outer = write(root / "outer.yaml", "middle.yaml", "d", "sub/inner.yml")
    recipe = engine.resolve(outer)
    assert engine.ran == ["inner", "middle"]
    assert recipe.base == "runs/middle"
    assert [entry.model for entry in recipe.models] == ["d", "sub/runs/inner"]
    assert (root / "runs/middle" / FILE).read_text() == "((a+b)+c)"
    assert not (root / "runs/outer").exists()
    assert [key for key, _ in stage_sources(load(outer).recipe, root)] == [
        "base",
        "models[1].model",
    ]
    assert engine.events[-1].note == f"wrote {root / 'runs/middle'}"


def test_what_is_as_locked_serves_again(engine: Engine, root: Path) -> None:
    write(root / "inner.yaml", "a", "b", "c")
    middle = write(root / "middle.yaml", "inner.yaml", "c")
    outer = write(root / "outer.yaml", "a", "middle.yaml")
    first = engine.resolve(outer)
    assert engine.ran == ["inner", "middle"]
    engine.events.clear()
    assert engine.resolve(outer, force=True) == first
    assert engine.ran == ["inner", "middle"]
    assert [event.note.partition(" is ")[2] for event in engine.events] == [
        "as locked and serves again"
    ] * 2
    write(root / "inner.yaml", "a", "c", "b")  # the order of a sum
    engine.resolve(outer)
    assert engine.ran == ["inner", "middle"]
    write(middle, "inner.yaml", "d")
    engine.resolve(outer, force=True)
    assert engine.ran == ["inner", "middle", "middle"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: write(root / "inner.yaml", "a", "b", more="scale: 0.5"), "differs in scale"),
        (lambda root: write(root / "inner.yaml", "a", "c"), "differs in models"),
        (lambda root: (root / "b" / FILE).write_text("B"), r"input models\[0\] \(b\) weights.txt"),
        (lambda root: (root / "runs/inner" / FILE).write_text("x"), "output weights.txt: expected"),
        (lambda root: (root / "runs/inner/cmerge.lock.json").unlink(), "no cmerge.lock.json"),
        (lambda root: (root / "runs/inner/more.txt").write_text("x"), "output more.txt"),
    ],
)
def test_a_folder_that_is_not_the_recipes_is_replaced_only_by_force(
    engine: Engine, root: Path, change, message: str
) -> None:
    write(root / "inner.yaml", "a", "b")
    outer = write(root / "outer.yaml", "a", "inner.yaml")
    engine.resolve(outer)
    change(root)
    with pytest.raises(InputError, match=message) as caught:
        engine.resolve(outer)
    assert "add --force" in caught.value.hint
    assert engine.ran == ["inner"]
    engine.resolve(outer, force=True)
    engine.resolve(outer)
    assert engine.ran == ["inner", "inner"]


def test_a_recipe_of_another_folder_made_it(engine: Engine, root: Path) -> None:
    write(root / "inner.yaml", "a", "b")
    outer = write(root / "outer.yaml", "a", "inner.yaml")
    engine.resolve(outer)
    (root / "inner.yaml").unlink()
    write(root / "sub/inner.yaml", "../a", "../b")
    text = (root / "sub/inner.yaml").read_text().replace("runs/", "../runs/")
    (root / "sub/inner.yaml").write_text(text)
    write(outer, "a", "sub/inner.yaml")
    with pytest.raises(InputError, match="was made by a recipe in"):
        engine.resolve(outer)


def test_order_counts_without_a_base(engine: Engine, root: Path) -> None:
    write(root / "inner.yaml", "a", "b", "c")
    outer = write(root / "outer.yaml", "a", "inner.yaml")
    engine.resolve(outer)
    inner = load(root / "inner.yaml").recipe
    reordered = inner.model_copy(update={"base": None})
    from mergekit_audio.merge.stages import _is_symmetric

    assert _is_symmetric(inner)
    assert not _is_symmetric(reordered)


@pytest.mark.parametrize("names", [("one",), ("one", "two"), ("one", "two", "three")])
def test_a_circle_is_named(engine: Engine, root: Path, names: tuple[str, ...]) -> None:
    for name, following in zip(names, (*names[1:], names[0]), strict=True):
        write(root / f"{name}.yaml", "a", "b", f"{following}.yaml")
    with pytest.raises(RecipeError) as caught:
        engine.resolve(root / "one.yaml")
    chain = " -> ".join(f"{name}.yaml" for name in (*names, names[0]))
    assert f"models[1].model: circle: {chain}" in caught.value.message
    assert engine.ran == []


def test_a_circle_below_the_recipe(engine: Engine, root: Path) -> None:
    write(root / "two.yaml", "a", "three.yaml")
    write(root / "three.yaml", "two.yaml", "a")
    outer = write(root / "one.yaml", "a", "two.yaml")
    with pytest.raises(RecipeError, match=r"circle: two\.yaml -> three\.yaml -> two\.yaml"):
        engine.resolve(outer)


def test_two_recipes_can_not_write_one_folder(engine: Engine, root: Path) -> None:
    for name in ("one", "two"):
        path = write(root / f"{name}.yaml", "a", "b" if name == "one" else "c")
        path.write_text(path.read_text().replace(f"runs/{name}", "runs/same"))
    outer = write(root / "outer.yaml", "a", "one.yaml", "two.yaml")
    with pytest.raises(InputError, match=r"two\.yaml and .*one\.yaml both write"):
        engine.resolve(outer)
    outer.write_text(outer.read_text().replace("runs/outer", "runs/same"))
    with pytest.raises(InputError, match=r"one\.yaml and .*outer\.yaml both write"):
        engine.resolve(outer)


def test_faults_of_inner_recipes_have_their_files_lines(engine: Engine, root: Path) -> None:
    write(root / "inner.yaml", "a", "b", more="scales: 3\n")
    outer = write(root / "outer.yaml", "a", "inner.yaml")
    with pytest.raises(RecipeError, match=r"inner\.yaml:7:1: scales"):
        engine.resolve(outer)
    write(outer, "a", "nowhere.yaml")
    with pytest.raises(RecipeError, match=r"nowhere\.yaml: no such recipe file"):
        engine.resolve(outer)


def test_an_engines_fault_gets_the_inner_recipes_line(engine: Engine, root: Path) -> None:
    from mergekit_audio.errors import Fault

    write(root / "inner.yaml", "a", "b")
    outer = write(root / "outer.yaml", "a", "inner.yaml")

    def run(recipe: MergeRecipe, root: Path, force: bool) -> None:
        raise RecipeError([Fault("", 0, 0, "method", "is no good")])

    engine.run = run
    with pytest.raises(RecipeError, match=r"inner\.yaml:5:9: method: is no good"):
        engine.resolve(outer)


def test_the_merge_engine_runs_stages_and_knows_their_outputs_again(tmp_path: Path) -> None:
    from small_models import family

    from mergekit_audio import merge

    family(tmp_path)
    text = "kind: merge\nmethod: {name: task_arithmetic}\nscale: 0.5\nbase: base\n"
    (tmp_path / "inner.yaml").write_text(
        text + "output: runs/inner\nmodels: [{model: makam}, {model: lyra, weight: 0.5}]\n"
    )
    (tmp_path / "outer.yaml").write_text(
        text + "output: runs/outer\nmodels: [{model: inner.yaml}, {model: carnatic}]\n"
    )
    ran = []

    def run(recipe: MergeRecipe, root: Path, force: bool) -> None:
        ran.append(recipe.output)
        merge.run(merge.plan(recipe, root), force=force)

    for _ in range(2):
        loaded = load(tmp_path / "outer.yaml")
        assert isinstance(loaded.recipe, MergeRecipe)
        recipe = resolve_stages(loaded.recipe, loaded.root, run, path=loaded.path)
        assert [entry.model for entry in recipe.models] == ["runs/inner", "carnatic"]
    assert ran == ["runs/inner"]
    run(recipe, tmp_path, False)
    assert (tmp_path / "runs/outer/model.safetensors").is_file()
