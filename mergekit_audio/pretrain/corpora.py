"""The sound of a training: corpora prepared once, and the sources that each stage draws from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from mergekit_audio.audio.prepared import PreparedCorpus, Segment
from mergekit_audio.audio.report import LEFT_OUT
from mergekit_audio.audio.store import Store
from mergekit_audio.cores import core_count
from mergekit_audio.pretrain.data import Source
from mergekit_audio.pretrain.forgetting import PREFIX, probe_sources
from mergekit_audio.pretrain.planner import TrainPlan
from mergekit_audio.pretrain.sampling import SUBSET, stream
from mergekit_audio.pretrain.segments import require_segments
from mergekit_audio.progress import Progress, ProgressEvent
from mergekit_audio.recipe.train import Stage

REPLAY = "replay"


@dataclass(frozen=True)
class TrainingAudio:
    """The prepared corpora by key of the recipe (``corpus.makam``, ``replay``) and their segments.

    Parameters
    ----------
    corpora
        Prepared corpora.
    sources
        Their training segments: of the split ``train`` where tracks have splits, else all.
    probed
        The corpora of the recipe's ``forgetting`` by name.
    """

    corpora: Mapping[str, PreparedCorpus]
    sources: Mapping[str, Source]
    probed: Mapping[str, PreparedCorpus] = field(default_factory=dict)

    def digests(self) -> dict[str, str]:
        """Return the content digests of all corpora by key."""
        return {key: corpus.digest for key, corpus in self.everything().items()}

    def everything(self) -> dict[str, PreparedCorpus]:
        """Return the corpora that train, and ``forgetting.<name>`` where those are others."""
        own = list(self.corpora.values())
        others = {
            f"{PREFIX}{name}": corpus
            for name, corpus in self.probed.items()
            if not any(corpus is each for each in own)
        }
        return {**self.corpora, **others}

    def hours(self) -> dict[str, float]:
        """Return the hours of the training segments by key."""
        return {
            key: _samples(source.segments) / source.corpus.sample_rate_hz / 3600
            for key, source in self.sources.items()
        }


def prepare_audio(plan: TrainPlan, progress: Progress) -> TrainingAudio:
    """Decode what the store lacks and cut training segments of at most 30 s.

    Raises
    ------
    InputError
        A corpus can't be read, or none of its training tracks is as long as a crop.
    """
    store = Store(plan.store)
    rate = plan.recipe.backbone.sample_rate_hz
    workers = plan.recipe.arguments.num_threads or core_count()
    corpora: dict[str, PreparedCorpus] = {}
    sources: dict[str, Source] = {}
    for key, place in corpus_places(plan).items():
        corpus = store.prepare(place, sample_rate_hz=rate, workers=workers, progress=progress)
        segments = _training_segments(corpus, plan.recipe.arguments.crop_s)
        if counts := left_out(corpus, segments):
            hint = f"; cmerge data prepare {place} lists them" if corpus.report.left_out else ""
            note = f"{key}: left out {', '.join(counts)}{hint}"
            progress(ProgressEvent("prepare", len(corpora), None, note))
        corpora[key] = corpus
        sources[key] = Source(key.removeprefix("corpus."), corpus, segments)
    probed: dict[str, PreparedCorpus] = {}
    for name, text in probe_sources(plan.recipe).items():
        place = plan.root / text
        known = [each for key, each in corpora.items() if corpus_places(plan)[key] == place]
        probed[name] = (
            known[0]
            if known
            else store.prepare(place, sample_rate_hz=rate, workers=workers, progress=progress)
        )
    return TrainingAudio(corpora, sources, probed)


def left_out(corpus: PreparedCorpus, segments: Sequence[Segment]) -> list[str]:
    """Return how many tracks train nothing, and why; those of ``valid`` and ``test`` don't count.

    Parameters
    ----------
    segments
        The corpus's training segments.
    """
    counts = corpus.report.counts()
    phrases = [f"{counts[kind]} {kind.replace('_', ' ')}" for kind in LEFT_OUT if counts[kind]]
    used = {segment.track_index for segment in segments}
    unused = [each.track for index, each in enumerate(corpus.tracks) if index not in used]
    has_splits = any(prepared.track.split for prepared in corpus.tracks)
    no_split = sum(has_splits and track.split is None for track in unused)
    short = sum(track.split in (None, "train") for track in unused) - no_split
    phrases += [f"{short} shorter than a crop"] if short else []
    phrases += [f"{no_split} without a split"] if no_split else []
    return phrases


def corpus_places(plan: TrainPlan) -> dict[str, Path]:
    """Return the folder or manifest of each corpus by key of the recipe, sorted."""
    places = {f"corpus.{name}": plan.root / each for name, each in plan.recipe.corpora().items()}
    if plan.recipe.replay is not None:
        places[REPLAY] = plan.root / plan.recipe.replay
    return places


def stage_sources(
    stage: Stage, audio: TrainingAudio, *, seed: int, index: int
) -> tuple[list[Source], list[Fraction]]:
    """Return what a stage draws from and the exact share of the clips of each.

    A culture's share is by its hours in the stage (capped by ``hours``), or the same for each with
    ``balance: equal``; all cultures together get what the replay leaves.

    Parameters
    ----------
    seed, index
        The recipe's seed and the stage's place, which choose the segments under a cap of hours.
    """
    caps = {f"corpus.{entry.dataset}": entry.hours for entry in stage.mixture}
    keys = sorted(caps) if caps else sorted(key for key in audio.sources if key != REPLAY)
    sources = [
        _capped(audio.sources[key], caps.get(key), seed=seed, words=(index, place))
        for place, key in enumerate(keys)
    ]
    lengths = [_samples(source.segments) for source in sources]
    weights = lengths if stage.balance == "hours" else [1] * len(lengths)
    replay = Fraction(str(stage.replay_share))
    shares = [(1 - replay) * Fraction(weight, sum(weights)) for weight in weights]
    if replay:
        sources.append(audio.sources[REPLAY])
        shares.append(replay)
    return sources, shares


def _training_segments(corpus: PreparedCorpus, crop_s: float) -> tuple[Segment, ...]:
    splits = {prepared.track.split for prepared in corpus.tracks} - {None}
    return require_segments(corpus, crop_s, "train" if splits else None)


def _capped(source: Source, hours: float | None, *, seed: int, words: tuple[int, int]) -> Source:
    """Return whole segments of at most ``hours``, at least one, chosen by the seed."""
    limit = None if hours is None else round(hours * 3600 * source.corpus.sample_rate_hz)
    if limit is None or _samples(source.segments) <= limit:
        return source
    kept: list[Segment] = []
    held = 0
    for place in stream(SUBSET, seed, *words).permutation(len(source.segments)):
        segment = source.segments[int(place)]
        length = segment.stop - segment.start
        if kept and held + length > limit:
            break
        kept.append(segment)
        held += length
    return Source(source.name, source.corpus, tuple(sorted(kept)))


def _samples(segments: Sequence[Segment]) -> int:
    return sum(segment.stop - segment.start for segment in segments)
