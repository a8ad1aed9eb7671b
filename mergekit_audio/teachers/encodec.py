"""EnCodec's codes: MERT's acoustic teacher, a frozen neural codec of 24-kHz audio."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from mergekit_audio.teachers.base import OpenTeacher, Teacher


class Encodec(Teacher):
    """The first K residual codebooks of a frozen `transformers.EncodecModel` (arXiv 2210.13438).

    MERT (arXiv 2306.00107) predicts the 8 codebooks of `facebook/encodec_24khz` at 6 kbps.
    """

    name: Literal["encodec"] = "encodec"
    """Always `encodec`."""
    model: str = Field(default="facebook/encodec_24khz", min_length=1)
    """A folder saved by `EncodecModel.save_pretrained`, or a hub repo id `org/name[@revision]`."""
    codebooks: int = Field(default=8, ge=1, le=32)
    """K: 8 at 6 kbps."""
    final_size: int = Field(default=64, ge=1)
    """Width in which frames and codes are compared: 64 in MERT-95M, 128 in MERT-330M."""
    logit_temperature: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    """Cosine similarities are divided by it (fairseq's `logit_temp`)."""
    special_rows: int = Field(default=0, ge=0, le=4)
    """Rows of `label_embs` before code 0: fairseq's dictionaries have 4 (1,028 rows a codebook)."""

    targets_are_cached: ClassVar[bool] = True

    def open(self, fitted: Path | None, *, root: Path, device: str = "cpu") -> OpenTeacher:
        """Return the teacher with its codec loaded; it needs no fitted file.

        Raises
        ------
        InputError
            The codec is missing, does not load cleanly, is not one of 24-kHz mono audio at 75
            frames a second, or has fewer codebooks.
        """
        from mergekit_audio.teachers._encodec import OpenEncodec

        return OpenEncodec(
            self.model,
            root,
            codebooks=self.codebooks,
            final_size=self.final_size,
            temperature=self.logit_temperature,
            special_rows=self.special_rows,
            device=device,
        )
