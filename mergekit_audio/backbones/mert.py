"""The MERT family: HuBERT encoders of music, 24 kHz in and 75 frames a second out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from mergekit_audio.backbones._family import HubertLayout
from mergekit_audio.backbones._presets import MERT
from mergekit_audio.errors import InputError


class Mert(HubertLayout):
    """MERT (arXiv 2306.00107) on `transformers.HubertModel`, which computes what MERT's does."""

    name: Literal["mert"] = "mert"
    layer_norm: Literal["pre", "post"] | None = None
    """What the checkpoint must be: layer norms before attention (MERT-v1-330M) or after it
    (MERT-v1-95M). Null takes what its config says; another value that contradicts it is an error,
    since the weights would load all the same and be destroyed."""

    sample_rate_hz: ClassVar[int] = 24_000
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MERT

    def check(self, config: Mapping[str, Any]) -> None:
        """Check that the layer norms of a ``config.json`` are where ``layer_norm`` says.

        Raises
        ------
        InputError
            They are not.
        """
        found = "pre" if config.get("do_stable_layer_norm", False) else "post"
        if self.layer_norm not in (None, found):
            raise InputError(
                f"backbone.layer_norm is {self.layer_norm!r}, and the checkpoint's config.json "
                f"(do_stable_layer_norm) says {found!r}",
                "leave layer_norm out: its weights mean nothing with layer norms elsewhere",
            )
