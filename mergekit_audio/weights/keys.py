"""One name for a tensor that files spell in two ways."""

from __future__ import annotations

_SPELLINGS = (
    ("parametrizations.weight.original0", "weight_g"),
    ("parametrizations.weight.original1", "weight_v"),
)


def canonical_name(name: str) -> str:
    """Return the tensor's canonical name: weight norm is spelt ``weight_g`` and ``weight_v``.

    Released MERT files say ``….conv.weight_g``; files saved by a current transformers say
    ``….conv.parametrizations.weight.original0``. Both hold the same magnitude g and direction v of
    w = g · v / ‖v‖. Every other name is returned as it is.
    """
    for spelt, canonical in _SPELLINGS:
        if name == spelt or name.endswith("." + spelt):
            return name.removesuffix(spelt) + canonical
    return name
