"""The names that peft gives to LoRA factors, and those that a base gives to its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from mergekit_audio.errors import InputError
from mergekit_audio.registry import did_you_mean
from mergekit_audio.weights._lora_config import MERGE_WITH_PEFT

PREFIX = "base_model.model."
SAVED = ".base_layer.weight"
_KINDS = {
    "lora_A": ("linear", 0),
    "lora_B": ("linear", 1),
    "lora_embedding_A": ("embedding", 0),
    "lora_embedding_B": ("embedding", 1),
}


def parse_key(path: Path, stored: str) -> tuple[str, str, int]:
    """Return (module, kind, 0 for A and 1 for B) of a key, with or without an adapter's name."""
    words = stored.removeprefix(PREFIX).split(".")
    places = [i for i, word in enumerate(words) if word in _KINDS]
    if stored.startswith(PREFIX) and len(places) == 1 and places[0] > 0:
        kind, half = _KINDS[words[places[0]]]
        tail = words[places[0] + 1 :]
        ends_well = tail[-1:] == ["weight"] if kind == "linear" else True
        if ends_well and len(tail) <= (2 if kind == "linear" else 1):
            return ".".join(words[: places[0]]), kind, half
    raise not_a_factor(path, stored)


def not_a_factor(path: Path, stored: str) -> InputError:
    """Return the error of a tensor that is neither A nor B."""
    return InputError(
        f"{path}: tensor {stored!r} is no LoRA factor; expected "
        f"{PREFIX}<module>.lora_A.weight or lora_B.weight",
        MERGE_WITH_PEFT,
    )


def missing_hint(name: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Say what to do about a tensor that the base lacks."""
    if f"{name.removesuffix('.weight')}.weight_v" in shapes:
        return "factors of a weight-normalised kernel: " + MERGE_WITH_PEFT
    return did_you_mean(name, shapes)


def renamed(names: Iterable[str], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Return the base's names by the adapter's: with one prefix more or less where that fits."""
    names = list(names)
    first = names[0]
    words = first.split(".")
    shorter = [".".join(words[:i]) + "." for i in range(1, len(words))]
    longer = sorted(name.removesuffix(first) for name in shapes if name.endswith("." + first))
    if not all(name in shapes for name in names):
        for prefix in shorter:
            found = {name: name.removeprefix(prefix) for name in names}
            if all(old != new and new in shapes for old, new in found.items()):
                return found
        for prefix in longer:
            found = {name: prefix + name for name in names}
            if all(new in shapes for new in found.values()):
                return found
    return {name: name for name in names}
