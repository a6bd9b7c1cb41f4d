"""What a report takes from a run: its configuration and the results that its journal tells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sms_dist.base import plain
from sms_dist.config import Config
from sms_dist.config import file as config_file
from sms_dist.reports.identity import Identity, data_name, identity, key_of
from sms_dist.reports.method_facts import facts
from sms_dist.reports.scores import OOD
from sms_dist.run import journal
from sms_dist.run.journal import (
    CandidateEvent,
    DenseEvent,
    DoneEvent,
    Event,
    OodEvent,
    SoupEvent,
    StartEvent,
)
from sms_dist.run.paths import RunPaths, find_runs
from sms_dist.run.schema import DenseMetrics, OodMetrics, PhaseMetrics, Summary, parsed


@dataclass(frozen=True)
class Run:
    folder: str
    config: Config
    score: str  # the metric that counts; "": nothing is recorded yet
    dense: DenseMetrics
    dense_epochs: int
    phases: tuple[PhaseMetrics, ...]
    retrain_epochs: dict[int, tuple[int, ...]]  # by phase: of each candidate that is known
    ood: dict[str, OodMetrics]  # by the model's folder
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
    def final(self) -> PhaseMetrics | None:
        """The last phase of a run that is done."""
        return self.phases[-1] if self.is_done and self.phases else None

    @property
    def corruptions(self) -> str:
        """With which corruptions OOD accuracy was measured; "" where it was not."""
        return next((found.corruptions for found in self.ood.values()), "")

    def dense_metric(self, name: str) -> float | None:
        """Of the dense model, on test samples."""
        return self._ood("dense") if name == OOD else self.dense.test(name)

    def soup_metric(self, phase: PhaseMetrics, name: str) -> float | None:
        """Of the soup of a phase, on test samples."""
        return self._ood(f"phase_{phase.phase}/soup") if name == OOD else phase.soup.test(name)

    def candidate_metrics(self, phase: PhaseMetrics, name: str) -> dict[int, float]:
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
    folder: str, config: Config, events: Iterable[Event], summary: Summary | None = None
) -> Run:
    """Return a run out of its journal.

    A start that was killed between storing a phase and writing of it left no line: that phase is
    taken from the summary.
    """
    lines = list(events)
    soups = [event.metrics for event in lines if isinstance(event, SoupEvent)]
    phases = [*(summary.phases if summary else ()), *soups]  # again after a resume: the same
    dense = [event.metrics for event in lines if isinstance(event, DenseEvent)]
    starts = [event for event in lines if isinstance(event, StartEvent)]
    scores = [each.score for each in (*([summary] if summary else ()), *phases, *starts)]
    known = [score for score in scores if score]
    ood = [(event.where, event.metrics) for event in lines if isinstance(event, OodEvent)]
    if not ood and summary and summary.ood:
        ood = list(summary.ood.items())
    first = (dense or [summary.dense if summary else DenseMetrics(metrics={})])[0]
    by_number = {phase.phase: phase for phase in phases}
    return Run(
        folder=folder,
        config=config,
        score=known[0] if known else "",
        dense=first,
        dense_epochs=_dense_epochs(config, first),
        phases=tuple(by_number[number] for number in sorted(by_number)),
        retrain_epochs=_retrain_epochs(e for e in lines if isinstance(e, CandidateEvent)),
        # Other corruptions may have been asked for later: those count.
        ood={where: found for where, found in ood if found.corruptions == ood[-1][1].corruptions},
        is_done=summary is not None or any(isinstance(event, DoneEvent) for event in lines),
    )


def read_runs(folders: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Return the runs below some folders, each experiment once, and what to say of the others.

    ValueError if a folder is not there, or there is no run that can be read.
    """
    runs, notes = [], []
    for folder in dict.fromkeys(run for each in folders for run in find_runs(each)):
        try:
            run = read_run(folder)
        except ValueError as error:
            notes.append(f"left out, damaged: {error}")
            continue
        if run.score:
            runs.append(run)
        else:
            notes.append(f"left out, nothing is recorded yet: {folder}")
    if not runs:
        raise ValueError("; ".join(notes))
    kept, repeated = distinct(runs)
    return kept, [*notes, *repeated]


def read_run(folder: Path) -> Run:
    """Return the run in a folder; ValueError in one line where it is damaged."""
    paths = RunPaths(folder)
    if not paths.journal.is_file():
        raise ValueError(f"{folder} has no journal.jsonl")
    try:
        config = config_file.load(paths.config)
        summary = None
        if paths.summary.is_file():
            summary = parsed(Summary, plain.read_json(paths.summary), "summary.json")
        return collect(str(folder), config, journal.read(paths.journal), summary)
    except OSError as error:
        raise ValueError(f"{error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{folder}: {str(error).removeprefix(f'{folder}: ')}") from None


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
    metrics = len(run.dense.tested) + sum(len(phase.soup.tested) for phase in run.phases)
    return run.is_done, len(run.phases), len(run.ood), metrics


def _dense_epochs(config: Config, dense: DenseMetrics) -> int:
    """Epochs of dense training; weights from a file are taken to have had what is configured."""
    if config.pretrain.from_ is not None or not dense.metrics:
        return config.pretrain.epochs
    return len(dense.epochs or ()) if dense.epochs_trained is None else dense.epochs_trained


def _retrain_epochs(events: Iterable[CandidateEvent]) -> dict[int, tuple[int, ...]]:
    found: dict[int, dict[int, int]] = {}
    for event in events:
        if event.metrics.retrain is not None:
            epochs = event.metrics.retrain.epochs
            found.setdefault(event.phase, {})[event.metrics.index] = epochs
    return {phase: tuple(epochs.values()) for phase, epochs in found.items()}
