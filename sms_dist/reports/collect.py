"""What a report takes from a run: its configuration and the results that its journal tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from sms_dist.config import Config
from sms_dist.config_file import one_line
from sms_dist.reports.identity import Identity, identity, key_of
from sms_dist.reports.method_facts import facts

Document = Mapping[str, Any]


class Told(BaseModel):
    """A part of the journal; what a report does not need is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Measured(Told):
    test_accuracy: float | None = None


class CandidateResult(Measured):
    index: int


class RetrainedFor(Told):
    epochs: int


class CandidateEvent(Told):
    phase: int
    index: int
    retrain: RetrainedFor


class PairResult(Measured):
    """The soup of two candidates."""

    candidates: tuple[int, int]


class PhaseResult(Told):
    """A phase; sparsity as realised, accuracies as fractions, None where nothing was measured."""

    phase: int
    sparsity: float
    soup: Measured
    candidates: tuple[CandidateResult, ...]
    best_candidate: float | None = None
    mean_candidate: float | None = None
    surviving_weights: int | None = None
    theoretical_speedup: float | None = None
    pairs: tuple[PairResult, ...] | None = None

    @property
    def num_weights(self) -> int | None:
        """Prunable weights, exactly: the sparsity is a ratio of whole numbers."""
        if not self.surviving_weights:
            return None
        return round(self.surviving_weights / (1 - self.sparsity))


@dataclass(frozen=True)
class Run:
    folder: str
    config: Config
    dense: float | None
    dense_epochs: int
    phases: tuple[PhaseResult, ...]
    retrain_epochs: dict[int, tuple[int, ...]]  # by phase: of each candidate that is known
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

    @cached_property
    def identity(self) -> Identity:
        return identity(self.config)

    @property
    def final(self) -> PhaseResult | None:
        """The last phase of a run that is done."""
        return self.phases[-1] if self.is_done and self.phases else None


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
    try:
        parsed = [PhaseResult.model_validate(document) for document in documents]
        measured = Measured.model_validate(dense)
        retrained = [CandidateEvent.model_validate(e) for e in _named(lines, "candidate")]
    except ValidationError as error:
        raise ValueError(f"{folder}: its results have {one_line(error, PhaseResult)}") from None
    phases = {phase.phase: phase for phase in parsed}  # told again after a resume: the same
    return Run(
        folder=folder,
        config=config,
        dense=measured.test_accuracy,
        dense_epochs=_dense_epochs(config, dense),
        phases=tuple(phases[number] for number in sorted(phases)),
        retrain_epochs=_retrain_epochs(retrained),
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


def _progress(run: Run) -> tuple[bool, int]:
    return run.is_done, len(run.phases)


def _named(events: Iterable[Document], name: str) -> list[Document]:
    return [event for event in events if event.get("event") == name]


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
