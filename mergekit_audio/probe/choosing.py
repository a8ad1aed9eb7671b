"""Choose a probe's layer and learning rate for one model and task, on validation, and say how."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mergekit_audio.probe.features import Features
from mergekit_audio.probe.ledger import Ledger
from mergekit_audio.probe.parallel import ordered_map
from mergekit_audio.probe.scoring import probe
from mergekit_audio.probe.splits import load_splits, require_layer
from mergekit_audio.probe.tasks import PreparedTask
from mergekit_audio.recipe.protocols import Choice, Layer, Protocol

CHOICE_FIELDS = ("model_key", "task_digest", "seed", "candidate")
CHOSEN = "chosen"


@dataclass(frozen=True)
class Chooser:
    """Tries the candidates of one model and task; every score is kept as soon as it is known.

    Parameters
    ----------
    task, features
        What is probed; ``features`` is called when something has to be computed.
    key
        The row's name, the model's key, the task's digest and the seed that the candidates get.
    ledger
        Where scores are kept, with ``CHOICE_FIELDS``.
    workers
        Threads that probe.
    tell
        Called with candidates done and candidates in all.
    """

    task: PreparedTask
    features: Callable[[], Features]
    key: tuple[str, str, str, int]
    ledger: Ledger
    workers: int
    tell: Callable[[int, int], None]

    def choose(self) -> dict[str, Any]:
        """Return ``layer``, ``learning_rate``, how they were chosen, and all candidates' scores.

        The highest score wins, of equal ones the earliest candidate: hidden states from 0 up, then
        the weighted sum; learning rates in the recipe's order.
        """
        known = self.ledger.find_content((*self.key[1:], CHOSEN))
        if known is None:
            known = self._line(CHOSEN) | {"choice": self._choice()}
            self.ledger.append(known)
        choice: dict[str, Any] = known["choice"]
        return choice

    def _choice(self) -> dict[str, Any]:
        protocol, select = self.task.task.protocol, self.task.task.protocol.select
        assert select is not None
        layers = self._layers(protocol, select)
        rates = select.learning_rates or [protocol.learning_rate]
        count = len(layers) * len(rates)
        if select.by == "screen":
            count = len(layers) * (len(layers) > 1) + len(rates) * (len(rates) > 1) or 1
        tried: list[dict[str, Any]] = []
        if select.by == "screen" and len(layers) > 1:
            ridge = {"estimator": "ridge", "standardize": True, "select": None}
            screened = [protocol.model_copy(update={**ridge, "layer": each}) for each in layers]
            tried += self._scores(screened, "screen", select.split, 0, count)
            layers = [_best(tried)["layer"]]
        if select.by == "probe" or len(rates) > 1 or not tried:
            probed = [
                protocol.model_copy(update={"layer": layer, "learning_rate": rate, "select": None})
                for layer in layers
                for rate in rates
            ]
            tried += self._scores(probed, "probe", select.split, len(tried), count)
        best = _best([each for each in tried if each["by"] == tried[-1]["by"]])
        return {
            "layer": best["layer"],
            "learning_rate": best.get("learning_rate", rates[0]),
            "by": select.by,
            "split": select.split,
            "metric": self.task.monitor(),
            "seed": self.key[3],
            "candidates": tried,
        }

    def _layers(self, protocol: Protocol, select: Choice) -> list[Layer]:
        count = self.features().state_count
        if select.layers == "all":
            return [*range(count), "weighted"]
        layers = [protocol.layer] if select.layers is None else list(select.layers)
        for layer in layers:
            require_layer(self.task, protocol.model_copy(update={"layer": layer}), count)
        return layers

    def _scores(
        self, protocols: Sequence[Protocol], by: str, split: str, done: int, count: int
    ) -> list[dict[str, Any]]:
        """Return the candidates with their scores; those that are known are not tried again."""
        entries = [_entry(protocol, by) for protocol in protocols]
        names = [_name(entry, split) for entry in entries]
        known = [self.ledger.find_content((*self.key[1:], name)) for name in names]
        missing = [each for each, line in zip(protocols, known, strict=True) if line is None]

        def score(protocol: Protocol) -> float:
            data = load_splits(self.features(), self.task, protocol)
            result = probe(data, self.task, self.key[3], protocol, (split,))
            return result.scores[split].macro(self.task.monitor())

        scored = ordered_map(score, missing, self.workers)
        found = []
        for number, (entry, name, line) in enumerate(zip(entries, names, known, strict=True), 1):
            if line is None:
                line = self._line(name) | {"score": next(scored)}
                self.ledger.append(line)
            found.append({**entry, "score": line["score"]})
            self.tell(done + number, count)
        return found

    def _line(self, candidate: str) -> dict[str, Any]:
        fields = ("model", *CHOICE_FIELDS)
        return dict(zip(fields, (*self.key, candidate), strict=True))


def _entry(protocol: Protocol, by: str) -> dict[str, Any]:
    rate = {} if protocol.estimator == "ridge" else {"learning_rate": protocol.learning_rate}
    return {"layer": protocol.layer, **rate, "by": by}


def _name(entry: Mapping[str, Any], split: str) -> str:
    rate = f" rate {entry['learning_rate']!r}" if "learning_rate" in entry else ""
    return f"{entry['by']} layer {entry['layer']}{rate} {split}"


def _best(candidates: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return max(candidates, key=lambda each: each["score"])
