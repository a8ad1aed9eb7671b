"""Greedy soup: probe the models, accept those that make the mean better, merge the accepted."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mergekit_audio import merge
from mergekit_audio.audio.store import Store
from mergekit_audio.errors import Fault, RecipeError
from mergekit_audio.files import require_free, write_json
from mergekit_audio.lock import Lock
from mergekit_audio.methods.greedy_soup import GreedySoup
from mergekit_audio.probe.encoders import FrozenEncoder
from mergekit_audio.probe.ledger import Ledger
from mergekit_audio.probe.model_row import ModelRow, model_key, require_config
from mergekit_audio.probe.points import PointRunner
from mergekit_audio.probe.run import RESULTS_NAME, store_folder, work_folder
from mergekit_audio.probe.summary import average
from mergekit_audio.probe.tasks import prepare_task
from mergekit_audio.progress import Progress, silent
from mergekit_audio.recipe.evaluate import EvaluateRecipe
from mergekit_audio.recipe.merge import MergeRecipe
from mergekit_audio.sweep.merges import state_digest
from mergekit_audio.weights.keys import canonical_name

SOUP_NAME = "logs/soup.json"
"""Where the choice is told: beside the locked files, since a rebuild does not probe again."""


@dataclass(frozen=True)
class Choice:
    """How a greedy soup came about.

    Parameters
    ----------
    alone
        Each model and its score alone, best first.
    steps
        Each further model, the mean's score with it, and whether it was accepted.
    accepted
        The accepted models, in the order of their acceptance.
    score
        The soup's score.
    """

    alone: tuple[tuple[str, float], ...]
    steps: tuple[tuple[str, float, bool], ...]
    accepted: tuple[str, ...]
    score: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "alone": [{"model": name, "score": score} for name, score in self.alone],
            "steps": [
                {"model": name, "score": score, "accepted": accepted}
                for name, score, accepted in self.steps
            ],
            "accepted": list(self.accepted),
            "score": self.score,
        }


def greedy_soup(
    recipe: MergeRecipe,
    root: Path,
    *,
    force: bool = False,
    progress: Progress = silent,
    command: str = "",
    overrides: Sequence[str] = (),
    output: Path | None = None,
    workers: int | None = None,
) -> Lock:
    """Choose the models of a soup by their validation scores, then merge the accepted ones.

    Every soup that is scored is the merge that this recipe would write with these models accepted
    (its λ, groups and dtype included); a model alone is the soup of one. Finished points are kept
    in ``<output>.work`` until the output is there, so that the same call goes on where an earlier
    one stopped. The lock's recipe names the accepted models; ``logs/soup.json`` tells the scores.

    Parameters
    ----------
    recipe
        A merge recipe whose method is ``greedy_soup`` without ``accepted``.
    root
        The folder that the recipe's paths are relative to.
    force
        Replace an existing output.
    progress
        Called with every step.
    command, overrides
        Recorded in the lock.
    output
        Another folder than the recipe's.
    workers
        Threads that embed and probe, each on one core; ``None`` means torch's number. The results
        do not depend on it.

    Raises
    ------
    RecipeError
        The method's tasks, seeds, backbone or objective have faults.
    InputError
        The output exists, a model can't be opened, or a corpus can't be probed.

    References
    ----------
    arXiv 2203.05482, recipe 1.
    """
    root = Path(root)
    method = recipe.method
    assert isinstance(method, GreedySoup)
    probing = _probing(recipe, method)
    target = root / recipe.output if output is None else Path(output)
    require_free(target, force=force)
    merge.plan(recipe, root)  # its faults are told before hours of probing
    store = Store(store_folder(probing.store, root))
    tasks = [
        prepare_task(task, probing.backbone, root, store, progress, workers)
        for task in probing.tasks
    ]
    names = [entry.label for entry in recipe.models]
    runner = PointRunner(
        tasks=tasks,
        seeds=probing.seeds,
        backbone=probing.backbone,
        ledger=Ledger(work_folder(target) / RESULTS_NAME),
        cache=store.root / "features",
        total=(2 * len(names) - 1) * len(tasks) * len(probing.seeds),
        progress=progress,
        workers=workers,
    )
    counted = [task.name for task in probing.tasks if method.objective in ("mean", task.name)]

    def score(accepted: Sequence[str]) -> float:
        row = runner.run(_row(_decided(recipe, accepted), root, probing, progress))
        found = average(row["scores"], counted, [method.metric], "valid")
        return float(found["mean"])

    choice = choose(names, score)
    lock = merge.run(
        merge.plan(_decided(recipe, choice.accepted), root),
        force=force,
        progress=progress,
        output=target,
        command=command,
        overrides=overrides,
    )
    told = {
        "objective": method.objective,
        "metric": method.metric,
        "split": "valid",
        "seeds": list(probing.seeds),
        **choice.as_dict(),
        "tasks": [task.facts() for task in tasks],
    }
    write_json(target / SOUP_NAME, told)
    shutil.rmtree(work_folder(target), ignore_errors=True)
    return lock


def choose(names: Sequence[str], score: Callable[[Sequence[str]], float]) -> Choice:
    """Return the greedy soup: by falling score alone, each is kept if the mean with it is better.

    Parameters
    ----------
    names
        The models; of equal scores the earlier name in the alphabet comes first.
    score
        The validation score of the mean of some models; called with the names in their order of
        acceptance.
    """
    scored = [(name, score([name])) for name in names]
    alone = sorted(scored, key=lambda each: (-each[1], each[0]))
    accepted, best = [alone[0][0]], alone[0][1]
    steps: list[tuple[str, float, bool]] = []
    for name, _ in alone[1:]:
        found = score([*accepted, name])
        is_better = found > best
        steps.append((name, found, is_better))
        if is_better:
            accepted.append(name)
            best = found
    return Choice(tuple(alone), tuple(steps), tuple(accepted), best)


def _decided(recipe: MergeRecipe, accepted: Sequence[str]) -> MergeRecipe:
    """Return the recipe with the accepted models named, in the order of ``models``."""
    names = [entry.label for entry in recipe.models if entry.label in accepted]
    method = recipe.method.model_copy(update={"accepted": names})
    return recipe.model_copy(update={"method": method})


def _probing(recipe: MergeRecipe, method: GreedySoup) -> EvaluateRecipe:
    """Return the method's probing as an evaluation, which checks it; faults get the recipe's keys.

    The evaluation's own models stay unused: soups are probed, not checkpoints.
    """
    if not method.tasks:
        problem = "a greedy soup is chosen by validation scores, so it needs probing tasks"
        raise RecipeError(
            [Fault("", 0, 0, "method.tasks", problem)],
            "give tasks as in a recipe of kind: evaluate, or name the accepted models",
        )
    value = {
        "kind": "evaluate",
        "backbone": method.backbone,
        "models": [{"name": "soup", "model": recipe.models[0].model}],
        "tasks": method.tasks,
        "seeds": method.seeds,
        "store": method.store,
        "output": recipe.output,
    }
    try:
        probing = EvaluateRecipe.model_validate(value)
    except ValidationError as error:
        faults = [Fault("", 0, 0, _key(each["loc"]), each["msg"]) for each in error.errors()]
        raise RecipeError(
            faults, "`cmerge recipe schema evaluate` prints what a task takes"
        ) from None
    names = [task.name for task in probing.tasks]
    if method.objective not in ("mean", *names):
        problem = f"{method.objective!r} is no task; expected mean or one of: {', '.join(names)}"
        raise RecipeError([Fault("", 0, 0, "method.objective", problem)])
    return probing


def _key(location: Sequence[str | int]) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return "method" + "".join(parts)


def _row(recipe: MergeRecipe, root: Path, probing: EvaluateRecipe, progress: Progress) -> ModelRow:
    """Return the row of one soup, merged in memory."""
    plan = merge.plan(recipe, root)
    config = require_config(plan.base)
    merged = merge.merged_tensors(plan, progress)
    state = {canonical_name(name): tensor for name, tensor in merged}
    digest = state_digest(state)
    assert isinstance(recipe.method, GreedySoup)
    return ModelRow(
        name=" + ".join(recipe.method.accepted or []),
        kind="merge",
        digest=digest,
        key=model_key(digest, config),
        encoder=FrozenEncoder.of_state(state, config, probing.backbone),
    )
