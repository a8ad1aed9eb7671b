"""NSynth: the family or the pitch of single notes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from mergekit_audio.datasets._files import Faults
from mergekit_audio.datasets.base import Item, Listing, PublicDataset, Source, TaskKind

_FAMILIES = (
    "bass",
    "brass",
    "flute",
    "guitar",
    "keyboard",
    "mallet",
    "organ",
    "reed",
    "string",
    "synth_lead",
    "vocal",
)
_PITCHES = 128
_SPLITS = ("train", "valid", "test")
_HINT = "expected nsynth-train/examples.json, nsynth-valid/… and nsynth-test/… as published"


class Nsynth(PublicDataset):
    """The instrument family (11 classes) or the MIDI pitch (128 classes) of notes of 4 s.

    The form of ``examples.json`` and its splits are as their page and MARBLE's loader say; the
    published files, 305,979 notes, were not at hand.
    """

    license: ClassVar[str] = "CC-BY-4.0"
    citation: ClassVar[str] = (
        "Engel, Resnick, Roberts, Dieleman, Eck, Simonyan, Norouzi, Neural Audio Synthesis of "
        "Musical Notes with WaveNet Autoencoders, ICML 2017 (arXiv:1704.01279)"
    )
    terms_url: ClassVar[str] = "https://magenta.tensorflow.org/datasets/nsynth"
    title: ClassVar[str] = "NSynth"
    kind: ClassVar[TaskKind] = "multiclass"
    western: ClassVar[bool] = True
    splits: ClassVar[Mapping[str, int]] = {"train": 289_205, "valid": 12_678, "test": 4_096}
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            "notes and labels",
            "http://download.magenta.tensorflow.org/datasets/nsynth/nsynth-train.jsonwav.tar.gz "
            "(and nsynth-valid, nsynth-test)",
            "nsynth-train/examples.json, nsynth-train/audio/<note>.wav, …",
            "4 s, mono, 16 kHz: nothing above 8 kHz",
        ),
    )
    notes: ClassVar[str] = (
        "Instruments of the training split are in no other split, and the test split has no "
        "synth_lead. Notes were rendered over a piano's range (21 to 108): other pitches have few "
        "notes or none."
    )

    name: Literal["nsynth"] = "nsynth"
    """The dataset's name, its module's."""
    culture: Literal["western"] = "western"
    """The tradition."""
    label: Literal["instrument", "pitch"] = "instrument"
    """What is predicted: the instrument's family, or the pitch as a MIDI number."""

    def labels(self) -> tuple[str, ...]:
        """Return ``instrument--<family>`` or ``pitch--<000 to 127>``, sorted."""
        if self.label == "instrument":
            return tuple(f"instrument--{family}" for family in _FAMILIES)
        return tuple(f"pitch--{pitch:03d}" for pitch in range(_PITCHES))

    def read(self, raw: Path) -> Listing:
        """Read the three ``examples.json``; see `PublicDataset.read`."""
        faults = Faults(raw)
        items: dict[str, Item] = {}
        for split in _SPLITS:
            place = f"nsynth-{split}/examples.json"
            notes = faults.json(place)
            if notes is None:
                continue
            if not isinstance(notes, dict):
                faults.add(place, "expected an object with a key for each note")
                continue
            for name, note in notes.items():
                if name in items:
                    faults.add(place, f"{name!r} is in {items[name].split} already")
                else:
                    items[name] = self._item(name, note, split)
        faults.raise_if_any(_HINT)
        return Listing(tuple(items.values()), files=tuple(faults.read))

    def _item(self, name: str, note: Any, split: str) -> Item:
        label, problem = "", ("", "")
        facts = note if isinstance(note, dict) else {}
        if self.label == "instrument":
            family = facts.get("instrument_family_str")
            if family in _FAMILIES:
                label = f"instrument--{family}"
            else:
                problem = ("broken_metadata", f"instrument_family_str: found {family!r}")
        else:
            pitch = facts.get("pitch")
            if type(pitch) is int and 0 <= pitch < _PITCHES:
                label = f"pitch--{pitch:03d}"
            else:
                problem = ("broken_metadata", f"pitch: expected 0 to 127, found {pitch!r}")
        return Item(
            id=name,
            split=split,
            labels=(label,) if label else (),
            audio=(f"nsynth-{split}/audio/{name}.wav", f"nsynth-{split}/{name}.wav"),
            problem=problem,
        )
