"""The 40 instruments of MTG-Jamendo that all of its splits have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from mergekit_audio.datasets._mtg_jamendo import NOTES, MtgJamendo, checksums, sources
from mergekit_audio.datasets.base import Source

# All tags of the three files; MTG/mtg-jamendo-dataset 1b4fa8c, data/splits/split-0.
_TAGS = {
    "instrument": (
        "accordion acousticbassguitar acousticguitar bass beat bell bongo brass cello "
        "clarinet classicalguitar computer doublebass drummachine drums electricguitar "
        "electricpiano flute guitar harmonica harp horn keyboard oboe orchestra organ pad "
        "percussion piano pipeorgan rhodes sampler saxophone strings synthesizer trombone "
        "trumpet viola violin voice"
    ),
}


class MtgInstrument(MtgJamendo):
    """The 40 instruments of MTG-Jamendo that all of its splits have, split 0.

    Read with the published files of commit 1b4fa8c; no recording was at hand.
    """

    title: ClassVar[str] = "MTG-Jamendo, instrument"
    subset: ClassVar[str] = "instrument"
    tags: ClassVar[Mapping[str, str]] = _TAGS
    splits: ClassVar[Mapping[str, int]] = {
        "train": 14_395,
        "valid": 5_466,
        "test": 5_115,
    }
    checksums: ClassVar[Mapping[str, str]] = checksums(
        "instrument",
        train="f844a85f0b40bb31a5d5b448ddfc10a68d7b38ecc760673d23df2bd6e7ca0f4c",
        validation="a5060020013ac5ba65c6470ee83fc2a9785db1fe554b55065de08aa9b0cca70d",
        test="8c1ab86f3212b6484106baf2e78f70dd5520b917607487ac98999adbd5d7ab1a",
    )
    sources: ClassVar[tuple[Source, ...]] = sources("instrument")
    top_tags: ClassVar[int | None] = 40
    notes: ClassVar[str] = (
        f"{NOTES} "
        "Before it was split, the subset has 41 tags; those that a split lacks are left out."
    )

    name: Literal["mtg_instrument"] = "mtg_instrument"
    """The dataset's name, its module's."""
