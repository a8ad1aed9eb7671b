"""Decide what happens to tensors that the checkpoints of a merge do not share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mergekit_audio.errors import LayoutError
from mergekit_audio.recipe.merge import MergeRecipe
from mergekit_audio.weights.checkpoint import Checkpoint, TensorInfo
from mergekit_audio.weights.dtypes import is_floating

_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "shared.weight")


@dataclass
class Layout:
    """How the tensors of base and models correspond.

    Parameters
    ----------
    sources
        For each model: the base's canonical name -> the model's, where it is another.
    kept
        Tensors that are copied from the base, and why.
    dropped
        Tensors of the base that are not written, and why.
    notes
        What the user should know.
    """

    sources: list[dict[str, str]] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def compare_layouts(recipe: MergeRecipe, base: Checkpoint, models: Sequence[Checkpoint]) -> Layout:
    """Return what each difference between the checkpoints means under the recipe's policies.

    Raises
    ------
    LayoutError
        Tensors are missing, surplus or of another shape and the recipe says that this is an error,
        or numbers meet integers; every difference of every model is listed.
    """
    layout = Layout()
    messages: list[str] = []
    hint = ""
    for model in models:
        tied = _tied(base, model)
        layout.sources.append(tied)
        faults = [
            fault
            for name, fault in _differences(base.index, model.index, tied)
            if not _settled(recipe, layout, base, model, name, fault)
        ]
        if faults:
            error = _error(base, model, faults)
            messages.append(error.message)
            hint = hint or error.hint
        layout.notes += _tied_notes(model, tied)
        layout.notes += _dtype_notes(base, model, tied)
    if messages:
        raise LayoutError("\n".join(dict.fromkeys(messages)), hint)
    return layout


@dataclass(frozen=True)
class _Fault:
    kind: str
    text: str


def _differences(
    base: Mapping[str, TensorInfo], other: Mapping[str, TensorInfo], tied: Mapping[str, str]
) -> Iterator[tuple[str, _Fault]]:
    for name in sorted({*base, *other}):
        here, there = base.get(name), other.get(tied.get(name, name))
        if there is None and here is not None:
            text = f"missing tensor {name} {list(here.shape)} {here.dtype}"
            yield name, _Fault("missing", text)
        elif here is None and there is not None:
            if name not in tied:
                text = f"unexpected tensor {name} {list(there.shape)} {there.dtype}"
                yield name, _Fault("surplus", text)
        elif here is not None and there is not None:
            if here.shape != there.shape:
                text = f"{name}: shape {list(there.shape)}, expected {list(here.shape)}"
                yield name, _Fault("shape", text)
            if is_floating(here.dtype) != is_floating(there.dtype):
                yield (
                    name,
                    _Fault("kind", f"{name}: dtype {there.dtype}, expected {here.dtype}"),
                )


def _settled(
    recipe: MergeRecipe,
    layout: Layout,
    base: Checkpoint,
    model: Checkpoint,
    name: str,
    fault: _Fault,
) -> bool:
    """Let a policy of the recipe take care of one difference; false: it is an error."""
    if fault.kind == "missing" and recipe.missing == "base":
        layout.kept.setdefault(name, f"missing in {model.source}")
    elif fault.kind == "missing" and recipe.missing == "intersect":
        layout.dropped.setdefault(name, f"missing in {model.source}")
    elif fault.kind == "surplus" and recipe.missing != "error":
        layout.notes.append(f"{model.source}: {name} is left out, since {base.source} lacks it")
    elif fault.kind == "shape" and recipe.mismatched == "base":
        layout.kept.setdefault(name, f"another shape in {model.source}")
    else:
        return False
    return True


def _error(base: Checkpoint, model: Checkpoint, faults: Sequence[_Fault]) -> LayoutError:
    count = f"{len(faults)} difference" + ("s" if len(faults) > 1 else "")
    kinds = {fault.kind for fault in faults}
    ways = ["merge models that were trained from the same base"]
    if kinds & {"missing", "surplus"}:
        ways.append("`missing: base` keeps the base's own, `missing: intersect` leaves them out")
    if "shape" in kinds:
        ways.append("`mismatched: base` keeps the base's")
    ways.append(f"cmerge inspect {model.source} lists its tensors")
    lines = [f"{model.source} does not hold the tensors of {base.source} ({count}):"]
    return LayoutError("\n".join([*lines, *(f"  {each.text}" for each in faults)]), "; ".join(ways))


def _tied(base: Checkpoint, model: Checkpoint) -> dict[str, str]:
    """Return the tensors that only one of the two stores because the model ties them.

    The base's name -> the model's that stands for it; a name that the base lacks maps to itself.
    """
    if not _ties_embeddings(model):
        return {}
    found: dict[str, str] = {}
    for name in sorted({*base.index} ^ {*model.index}):
        info = base.index.get(name) or model.index[name]
        twin = next(
            (
                other
                for other in model.index
                if other.endswith(_EMBEDDINGS)
                and other != name
                and model.index[other].shape == info.shape
                and other in base.index
            ),
            None,
        )
        if twin is None or not is_floating(info.dtype):
            continue
        if name in base.index:
            found[name] = twin
        elif (model.bits(name) == model.bits(twin)).all():
            found[name] = name
    return found


def _ties_embeddings(checkpoint: Checkpoint) -> bool:
    config = checkpoint.config or {}
    return bool(config.get("tie_word_embeddings"))


def _tied_notes(model: Checkpoint, tied: Mapping[str, str]) -> Iterator[str]:
    for name, twin in sorted(tied.items()):
        if name == twin:
            yield f"{model.source}: {name} is its tied embedding over again, and is left out"
        else:
            yield f"{model.source}: {name} is tied to {twin}, which stands for it"


def _dtype_notes(base: Checkpoint, model: Checkpoint, tied: Mapping[str, str]) -> Iterator[str]:
    """Say which dtypes differ; all is computed in float64, so that this loses nothing."""
    counts: dict[tuple[str, str], int] = {}
    for name, info in base.index.items():
        other = model.index.get(tied.get(name, name))
        if other is not None and other.dtype != info.dtype:
            pair = (other.dtype, info.dtype)
            counts[pair] = counts.get(pair, 0) + 1
    for (found, expected), count in sorted(counts.items()):
        plural = "s" if count > 1 else ""
        yield f"{model.source}: {count} tensor{plural} {found} where the base has {expected}"
