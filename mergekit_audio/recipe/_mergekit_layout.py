"""Modules and layers of a checkpoint by its tensor names, as mergekit sees them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_NUMBER = re.compile(r"\.(\d+)\.")
_INPUT_SIDE = ("embed", "wte.", "wpe.", "embd", "inv_freq", "relative_pe", "position_ids")
_OUTPUT_SIDE = ("embed_out", "lm_head")

# Module: (what its tensors' names begin with, the prefix of its layers' numbers).
_Modules = Mapping[str, tuple[tuple[str, ...], str | None]]
_WHISPER: _Modules = {
    "decoder": (("model.decoder.",), "model.decoder.layers"),
    "encoder": (("model.encoder.",), "model.encoder.layers"),
}
_T5: _Modules = {
    "decoder": (("decoder.",), "decoder.block"),
    "encoder": (("encoder.",), "encoder.block"),
    "shared": (("shared.", "lm_head."), None),
}
_QWEN2_VL: _Modules = {
    "text_decoder": (("model.", "lm_head."), "model.layers"),
    "multi_modal_projector": (("visual.merger.",), None),
    "vision_tower": (("visual.",), "visual.blocks"),
}
_QWEN3_VL: _Modules = {
    "text_decoder": (("model.language_model.", "lm_head."), "model.language_model.layers"),
    "multi_modal_projector": (
        ("model.visual.merger.", "model.visual.deepstack_merger_list."),
        None,
    ),
    "vision_tower": (("model.visual.",), "model.visual.blocks"),
}


def _with_projector(vision: str, prefix: str, layers: str) -> _Modules:
    return {
        "text_decoder": (("language_model.",), "language_model.model.layers"),
        "multi_modal_projector": (("multi_modal_projector.",), None),
        vision: ((prefix,), layers),
    }


_SEVERAL: Mapping[str, _Modules] = {
    "WhisperForConditionalGeneration": _WHISPER,
    "T5ForConditionalGeneration": _T5,
    "Gemma3ForConditionalGeneration": _with_projector(
        "vision_tower", "vision_tower.vision_model.", "vision_tower.vision_model.encoder.layers"
    ),
    "Llama4ForConditionalGeneration": _with_projector(
        "vision_model", "vision_model.", "vision_model.model.layers"
    ),
    "Mistral3ForConditionalGeneration": _with_projector(
        "vision_tower", "vision_tower.", "vision_tower.transformer.layers"
    ),
    "Qwen2VLForConditionalGeneration": _QWEN2_VL,
    "Qwen2_5_VLForConditionalGeneration": _QWEN2_VL,
    "Qwen3VLForConditionalGeneration": _QWEN3_VL,
    "Qwen3VLMoeForConditionalGeneration": _QWEN3_VL,
}
"""Architectures that mergekit 0.1.5 defines as several modules."""

_SINGLE = re.compile(
    r"(_AfmoePartial|Apertus|Arcee|Baichuan|Cohere2?|Exaone|Falcon|Gemma[23]?|Glm4(Moe)?|GPTNeoX"
    r"|GPTBigCode|Granite(MoeHybrid)?|InternLM2|Lfm2|L[Ll]a[Mm]a|Mamba|Mistral|Mixtral|Olmo2"
    r"|MixFormerSequential|Phi|Phi3|Phi3Small|Qwen[23]|Qwen3Moe|Solar|StableLMEpoch|StableLm"
    r"|Starcoder2)ForCausalLM|(GPT2|JAIS|QWen)LMHeadModel|ChatGLMModel|LlamaForSequenceClassification"
    r"|GPT2ForSequenceClassification|(Bert|DistilBert|Roberta)(Model|For(MaskedLM"
    r"|SequenceClassification|MultipleChoice|TokenClassification))"
)
"""Architectures that mergekit 0.1.5 defines as one module with one stack of layers."""


@dataclass
class Module:
    """A part of a model that has layers of its own.

    Parameters
    ----------
    name
        What a recipe's ``modules`` calls it.
    prefix
        What stands before the layers' numbers; None: it has no layers.
    layers
        The layers' tensors: number -> what follows the number.
    before, after
        Names of tensors outside the layers, on the input's and on the output's side.
    """

    name: str
    prefix: str | None
    layers: dict[int, list[str]] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """The number of layers."""
        return max(self.layers, default=-1) + 1

    def names_of(self, layer: int) -> list[str]:
        """Return the names of a layer's tensors."""
        return [self.name_of(layer, suffix) for suffix in self.layers.get(layer, [])]

    def name_of(self, layer: int, suffix: str) -> str:
        """Return the name of a layer's tensor."""
        return f"{self.prefix}.{layer}.{suffix}"

    def add(self, name: str, *, by_side: bool) -> None:
        """Put a tensor where it belongs; without ``by_side`` all loose ones are on the input's."""
        if self.prefix is not None and name.startswith(self.prefix + "."):
            number, dot, suffix = name[len(self.prefix) + 1 :].partition(".")
            if dot and number.isdigit():
                self.layers.setdefault(int(number), []).append(suffix)
                return
        (self.after if by_side and _is_output_side(name) else self.before).append(name)


def modules(names: Iterable[str], architecture: str | None) -> list[Module]:
    """Return a model's modules: as mergekit defines its architecture, else as it infers them.

    Inferred: the text before a name's first ``.N.`` is a module with layers N (one alone takes all
    tensors, as ``default``); what has no number is the module ``default``.

    Parameters
    ----------
    names
        All tensor names.
    architecture
        The config's, such as ``LlamaForCausalLM``; None: unknown.
    """
    names = sorted(names)
    if architecture is not None and architecture in _SEVERAL:
        return _defined(names, _SEVERAL[architecture])
    prefixes: dict[str, list[str]] = {}
    for name in names:
        if found := _NUMBER.search(name):
            prefixes.setdefault(name[: found.start()], []).append(name)
    is_single = architecture is not None and _SINGLE.fullmatch(architecture) is not None
    if len(prefixes) == 1 or (prefixes and is_single):
        longest = max(prefixes, key=lambda prefix: len(prefixes[prefix]))
        return [_filled(Module("default", longest), names, by_side=is_single)]
    inferred = [_filled(Module(prefix, prefix), prefixes[prefix]) for prefix in prefixes]
    loose = [name for name in names if not _NUMBER.search(name)]
    return [*inferred, _filled(Module("default", None), loose)] if loose else inferred


def architecture_of(config: Mapping[str, Any] | None) -> str | None:
    """Return the one architecture that a config names, or None."""
    found = (config or {}).get("architectures")
    return found[0] if isinstance(found, list) and len(found) == 1 else None


def _defined(names: list[str], definition: _Modules) -> list[Module]:
    found = {name: Module(name, layers) for name, (_, layers) in definition.items()}
    first = next(iter(found))
    for tensor in names:
        # The longest prefix decides: `visual.merger.` is not the tower `visual.`.
        lengths = {
            name: max((len(start) for start in starts if tensor.startswith(start)), default=0)
            for name, (starts, _) in definition.items()
        }
        owner = max(lengths, key=lambda name: lengths[name])
        found[owner if lengths[owner] else first].add(tensor, by_side=True)
    return list(found.values())


def _filled(module: Module, names: list[str], *, by_side: bool = False) -> Module:
    for name in names:
        module.add(name, by_side=by_side)
    return module


def _is_output_side(name: str) -> bool:
    return any(part in name for part in _OUTPUT_SIDE) or not any(
        part in name for part in _INPUT_SIDE
    )
