"""The 87 genres of MTG-Jamendo that all of its splits have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from mergekit_audio.datasets._mtg_jamendo import NOTES, MtgJamendo, checksums, sources
from mergekit_audio.datasets.base import Source

# All tags of the three files; MTG/mtg-jamendo-dataset 1b4fa8c, data/splits/split-0.
_TAGS = {
    "genre": (
        "60s 70s 80s 90s acidjazz alternative alternativerock ambient atmospheric blues "
        "bluesrock bossanova breakbeat celtic chanson chillout choir classical classicrock "
        "club contemporary country dance darkambient darkwave deephouse disco downtempo "
        "drumnbass dub dubstep easylistening edm electronic electronica electropop ethno "
        "eurodance experimental folk funk fusion groove grunge hard hardrock hiphop house idm "
        "improvisation indie industrial instrumentalpop instrumentalrock jazz jazzfusion "
        "latin lounge medieval metal minimal newage newwave orchestral pop popfolk poprock "
        "postrock progressive psychedelic punkrock rap reggae rnb rock rocknroll "
        "singersongwriter soul soundtrack swing symphonic synthpop techno trance triphop "
        "world worldfusion"
    ),
}


class MtgGenre(MtgJamendo):
    """The 87 genres of MTG-Jamendo that all of its splits have, split 0.

    Read with the published files of commit 1b4fa8c; no recording was at hand.
    """

    title: ClassVar[str] = "MTG-Jamendo, genre"
    subset: ClassVar[str] = "genre"
    tags: ClassVar[Mapping[str, str]] = _TAGS
    splits: ClassVar[Mapping[str, int]] = {
        "train": 32_572,
        "valid": 11_043,
        "test": 11_479,
    }
    checksums: ClassVar[Mapping[str, str]] = checksums(
        "genre",
        train="c1cddb195ef94a07e67e227bf38e2a79389c1820950702b8c8894a2096f21e54",
        validation="3e203b4c573db6ec63a06c7066cf678dcf673a68ad5694c8fed22637c270dbcf",
        test="cf917388eebfa7d17d363c2fca037e2379ac027e31aa6dbe92e8dbf409ac5098",
    )
    sources: ClassVar[tuple[Source, ...]] = sources("genre")
    top_tags: ClassVar[int | None] = 87
    notes: ClassVar[str] = (
        f"{NOTES} "
        "Before it was split, the subset has 95 tags; those that a split lacks are left out."
    )

    name: Literal["mtg_genre"] = "mtg_genre"
    """The dataset's name, its module's."""
