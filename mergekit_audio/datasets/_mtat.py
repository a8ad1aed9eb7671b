"""What both versions of MagnaTagATune share: tags, broken clips, where the audio lies."""

from __future__ import annotations

from mergekit_audio.datasets.base import Source

# The 50 most frequent of the 188 tags over all clips, in the order of tags.npy of the Won split
# (pxaris/ccml 1f20c2f, data/magnatagatune/split).
TAGS = (
    "guitar",
    "classical",
    "slow",
    "techno",
    "strings",
    "drums",
    "electronic",
    "rock",
    "fast",
    "piano",
    "ambient",
    "beat",
    "violin",
    "vocal",
    "synth",
    "female",
    "indian",
    "opera",
    "male",
    "singing",
    "vocals",
    "no vocals",
    "harpsichord",
    "loud",
    "quiet",
    "flute",
    "woman",
    "male vocal",
    "no vocal",
    "pop",
    "soft",
    "sitar",
    "solo",
    "man",
    "classic",
    "choir",
    "voice",
    "new age",
    "dance",
    "male voice",
    "female vocal",
    "beats",
    "harp",
    "cello",
    "no voice",
    "weird",
    "country",
    "metal",
    "female voice",
    "choral",
)
LABELS = tuple(sorted(f"tag--{tag}" for tag in TAGS))

BROKEN = {
    "6/norine_braun-now_and_zen-08-gently-117-146.mp3": "is empty in the published archive",
    "8/jacob_heringman-josquin_des_prez_lute_settings-19-gintzler__pater_noster-204-233.mp3": (
        "is empty in the published archive"
    ),
    "9/american_baroque-dances_and_suites_of_rameau_and_couperin-25-le_petit_rien_xiveme_ordre_"
    "couperin-88-117.mp3": "is empty in the published archive",
}
LICENSE = "CC-BY-NC-SA-3.0"
TERMS_URL = "https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset"
CITATION = (
    "Law, West, Mandel, Bay, Downie, Evaluation of Algorithms Using Games: The Case of Music "
    "Tagging, ISMIR 2009"
)
AUDIO = Source(
    "recordings (3 parts of one zip)",
    "https://mirg.city.ac.uk/datasets/magnatagatune/mp3.zip.001 (.002, .003); "
    "cat mp3.zip.* > mp3.zip; unzip mp3.zip -d audios",
    "audios/<0-f>/….mp3",
    "clips of 29 s, mono, 16 kHz: nothing above 8 kHz; three are broken",
)
OTHER_VERSION = (
    "MagnaTagATune has two public versions, about 8 points of mAP apart: mtat_clean (21,108 clips) "
    "and mtat_full (25,860). Say which one a score belongs to."
)


def audio_places(path: str) -> tuple[str, ...]:
    """Return where the clip of an ``mp3_path`` may lie."""
    name = path.rpartition("/")[2]
    return (f"audios/{path}", f"audio/{path}", f"mp3/{path}", path, f"audios/{name}")


def artist_of(path: str) -> str | None:
    """Return the artist as a file name gives it, ``<folder>/<artist>-<album>-<track>-…``."""
    return path.rpartition("/")[2].partition("-")[0] or None
