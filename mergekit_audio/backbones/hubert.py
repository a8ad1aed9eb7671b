"""The HuBERT family: encoders of speech, 16 kHz in and 50 frames a second out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from mergekit_audio.backbones._family import HubertLayout
from mergekit_audio.backbones._presets import HUBERT
from mergekit_audio.errors import InputError


class Hubert(HubertLayout):
    """HuBERT (arXiv 2106.07447) as released: facebook/hubert-base-ls960, -large-ll60k, -xlarge."""

    name: Literal["hubert"] = "hubert"
    sample_rate_hz: ClassVar[int] = 16_000
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = HUBERT

    def check(self, config: Mapping[str, Any]) -> None:
        """Check that a ``config.json`` is HuBERT's and not MERT's, which has the same tensors.

        Raises
        ------
        InputError
            Its model type is another.
        """
        found = config.get("model_type", self.name)
        if found != self.name:
            raise InputError(
                f"config.json: model_type is {found!r}, and the backbone is 'hubert' "
                f"({self.sample_rate_hz} Hz)",
                "choose the backbone that belongs to this checkpoint, such as `name: mert`",
            )
