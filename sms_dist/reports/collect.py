"""What a report takes from a run: its configuration and the results that its journal tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sms_dist.config import Config
from sms_dist.config_file import one_line
from sms_dist.reports.identity import Identity, data_name, identity, key_of
from sms_dist.reports.method_facts import facts
from sms_dist.reports.scores import BEFORE, OOD
from sms_dist.reports.summary import is_trained
from sms_dist.reports.told import CandidateEvent, Measured, OodResult, PhaseResult

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    folder: str
    config: Config
    score: str  # the metric that counts
    dense: Measured
    is_dense_trained: bool  # False where the method pruned before dense training had ended
    dense_epochs: int
    phases: tuple[PhaseResult, ...]
    retrain_epochs: dict[int, tuple[int, ...]]  # by phase: of each candidate that is known
    ood: dict[str, OodResult]  # by the model's folder
    is_done: bool

    @property
    def method(self) -> str:
        return self.config.method.name

    @property
    def rule(self) -> str:
        """The soup rule, "" where the method has no choice."""
        return self.config.soup.rule if facts(self.method).has_rule else ""

    @property
    def num_candidates(self) -> tuple[int, ...]:
        """m, or m of each phase where they differ; () where the method has none."""
        candidates = self.config.candidates
        if not facts(self.method).has_m:
            return ()
        return candidates.count_per_phase or (candidates.count,)

    @property
    def data(self) -> str:
        return data_name(self.config.data)

    @cached_property
    def identity(self) -> Identity:
        return identity(self.config) | {"score": self.score}

    @property
    def final(self) -> PhaseResult | None:
        """The last phase of a run that is done."""
        return self.phases[-1] if self.is_done and self.phases else None

    @property
    def corruptions(self) -> str:
        """With which corruptions OOD accuracy was measured; "" where it was not."""
        return next((found.corruptions for found in self.ood.values()), "")

    def dense_metric(self, name: str) -> float | None:
        """Of the dense model, on test samples."""
        return self._ood("dense") if name == OOD else self.dense.test(name)

    def soup_metric(self, phase: PhaseResult, name: str) -> float | None:
        """Of the soup of a phase, on test samples."""
        return self._ood(f"phase_{phase.phase}/soup") if name == OOD else phase.soup.test(name)

    def candidate_metrics(self, phase: PhaseResult, name: str) -> dict[int, float]:
        """Of the candidates of a phase that did not diverge, by index, as far as known."""
        found = {
            c.index: self._ood(f"phase_{phase.phase}/candidate_{c.index}")
            if name == OOD
            else c.test(name)
            for c in phase.candidates
            if not c.diverged
        }
        return {index: value for index, value in found.items() if value is not None}

    def _ood(self, where: str) -> float | None:
        found = self.ood.get(where)
        return None if found is None else found.ood_accuracy


def collect(
    folder: str, config: Config, events: Iterable[Document], summary: Document | None = None
) -> Run:
    """A run out of its journal.

    A start that was killed between storing a phase and writing of it left no line: that phase is
    taken from the summary. ValueError where the journal does not have the shape of one.
    """
    lines = list(events)
    documents = [*(summary or {}).get("phases", []), *_named(lines, "soup")]
    dense = [*_named(lines, "dense"), (summary or {}).get("dense") or {}][0]
    start = _named(lines, "start")
    try:
        found = [t["score"] for t in (summary or {}, *documents, *start) if "score" in t]
        scores = TypeAdapter(list[str]).validate_python(found)
        parsed = [PhaseResult.model_validate(document) for document in documents]
        measured = Measured.model_validate(dense)
        retrained = [CandidateEvent.model_validate(e) for e in _named(lines, "candidate")]
        ood = [OodResult.model_validate(told) for told in _ood(lines, summary or {})]
    except ValidationError as error:
        raise ValueError(f"{folder}: its results have {one_line(error, PhaseResult)}") from None
    phases = {phase.phase: phase for phase in parsed}  # told again after a resume: the same
    return Run(
        folder=folder,
        config=config,
        score=scores[0] if scores else BEFORE,
        dense=measured,
        is_dense_trained=is_trained(dense),
        dense_epochs=_dense_epochs(config, dense),
        phases=tuple(phases[number] for number in sorted(phases)),
        retrain_epochs=_retrain_epochs(retrained),
        # Other corruptions may have been asked for later: those count.
        ood={found.where: found for found in ood if found.corruptions == ood[-1].corruptions},
        is_done=summary is not None or bool(_named(lines, "done")),
    )


def distinct(runs: Iterable[Run]) -> tuple[list[Run], list[str]]:
    """Each experiment with each seed once, the more advanced one; and what that leaves out."""
    kept: dict[tuple[str, int], Run] = {}
    notes = []
    for run in runs:
        key = (key_of(run.identity), run.config.seed)
        other = kept.get(key)
        if other is None:
            kept[key] = run
            continue
        better, worse = (run, other) if _progress(run) > _progress(other) else (other, run)
        kept[key] = better
        notes.append(f"{worse.folder} is the same experiment as {better.folder}: counted once")
    return list(kept.values()), notes


def _progress(run: Run) -> tuple[int, ...]:
    """Further, or else with more that was measured."""
    metrics = run.dense.num_metrics + sum(phase.soup.num_metrics for phase in run.phases)
    return run.is_done, len(run.phases), len(run.ood), metrics


def _named(events: Iterable[Document], name: str) -> list[Document]:
    return [event for event in events if event.get("event") == name]


def _ood(events: Iterable[Document], summary: Document) -> list[Document]:
    """As the journal tells it, the summary where a crash kept the lines from the journal."""
    in_summary: list[Document] = [
        {"where": where, **found} for where, found in (summary.get("ood") or {}).items()
    ]
    return _named(events, "ood") or in_summary


def _dense_epochs(config: Config, dense: Document) -> int:
    """Epochs of dense training; weights from a file are taken to have had what is configured."""
    if config.pretrain.from_ is not None or not dense:
        return config.pretrain.epochs
    trained = dense.get("epochs_trained")
    return len(dense.get("epochs") or ()) if trained is None else int(trained)


def _retrain_epochs(events: Iterable[CandidateEvent]) -> dict[int, tuple[int, ...]]:
    found: dict[int, dict[int, int]] = {}
    for event in events:
        found.setdefault(event.phase, {})[event.index] = event.retrain.epochs
    return {phase: tuple(epochs.values()) for phase, epochs in found.items()}
