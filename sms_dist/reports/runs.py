"""The runs that a report is made of: read from their folders, each experiment and seed once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, TypeVar

from sms_dist.base import plain
from sms_dist.config import Config
from sms_dist.config import file as config_file
from sms_dist.config.compare import flatten
from sms_dist.reports.scores import OOD, SEVERITY, SPARSITY, SPEEDUP
from sms_dist.run import journal
from sms_dist.run.paths import RunPaths, find_runs
from sms_dist.run.schema import DenseMetrics, Measured, OodMetrics, PhaseMetrics, Summary, parsed
from sms_dist.soups.rules import RULES

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
E = TypeVar("E", bound=journal.Event)
DENSE, SOUP, BEST, MEAN = "dense", "soup", "best candidate", "mean candidate"


@dataclass(frozen=True)
class Method:
    """The facts of a method in reports: its name in the paper and the keys that concern it."""

    label: str
    candidates: Literal["none", "count", "all"] = "none"  # keys of that section that matter
    has_rule: bool = False


# In the order in which tables show them.
METHODS = {
    "dense": Method("dense"),
    "sms": Method("SMS", "all", has_rule=True),
    "imp_m_times": Method("IMP_mx", "count"),
    "imp_m_phases": Method("IMP with m phases", "count"),
    "imp_reprune": Method("IMP-RePrune", "all"),
    "imp": Method("IMP"),
    "imp_swa": Method("IMP + SWA"),
    "swamp": Method("SWAMP", "all", has_rule=True),
    "swamp_plus": Method("SWAMP+", "all", has_rule=True),
    "bimp_sms": Method("BIMP+SMS", "all", has_rule=True),
    "bimp": Method("BIMP"),
    "gmp_sms": Method("GMP+SMS", "all", has_rule=True),
    "gmp": Method("GMP"),
    "dpf_sms": Method("DPF+SMS", "all", has_rule=True),
    "dpf": Method("DPF"),
    "gsm": Method("GSM"),
    "dnw": Method("DNW"),
    "lc": Method("LC"),
    "dst": Method("DST"),
    "str": Method("STR"),
}
# Keys that do not make another experiment: where the work was done, what was measured in addition,
# where weights were read from, what happens to a candidate that diverges.
NOT_DECIDING = {
    *("candidates.far", "candidates.on_divergence", "candidates.retries"),
    *("data.cache", "data.corrupt_candidates", "data.corruptions", "data.loader", "data.path"),
    *("data.prefetch", "data.remote", "data.subgroup", "data.subgroups", "data.workers"),
    *("pretrain.from", "pretrain.history", "pretrain.keep_epoch", "pretrain.ranks"),
    *("soup.ensemble", "soup.loss_barrier", "soup.pairs"),
}
UNNAMED_DATA = ("card", "parallel")  # names of data sets of one's own: their folder names them


@dataclass(frozen=True, eq=False)
class Run:
    """A run: its configuration and the results that are recorded so far."""

    folder: str
    config: Config
    score: str  # the metric that counts; "": nothing is recorded yet
    dense: DenseMetrics
    phases: tuple[PhaseMetrics, ...]
    retrain_epochs: dict[int, tuple[int, ...]]  # phase -> epochs of each candidate that is known
    ood: dict[str, OodMetrics]  # by the model's folder
    is_done: bool
    changes: tuple[str, ...] = ()  # of its files, with which it was told to go on

    @property
    def method(self) -> Method:
        """The facts of the method; of one that is in no table, every key may matter."""
        name = self.config.method.name
        return METHODS.get(name) or Method(name, "all", has_rule=True)

    @property
    def rule(self) -> str:
        """The soup rule, "" where the method has no choice."""
        return self.config.soup.rule if self.method.has_rule else ""

    @property
    def num_candidates(self) -> tuple[int, ...]:
        """m, or m of each phase where they differ; () where the method has none."""
        candidates = self.config.candidates
        if self.method.candidates == "none":
            return ()
        return candidates.count_per_phase or (candidates.count,)

    @property
    def m(self) -> str:
        """m as tables show it: "m = 3", or "m = 3-5" where phases differ."""
        return f"m = {'-'.join(map(str, self.num_candidates))}" if self.num_candidates else ""

    @property
    def goal(self) -> float | None:
        """The goal sparsity: 0 for dense training, None for a method that has none."""
        is_dense = self.config.method.name == "dense"
        return 0.0 if is_dense else self.config.pruning.goal_sparsity

    @property
    def is_one_shot(self) -> bool:
        return self.config.pruning.phases == 1

    @property
    def place(self) -> tuple[Any, ...]:
        """The sort key of method and soup rule: the order of the tables, unknown ones last."""
        name, rule = self.config.method.name, self.rule
        methods, rules = list(METHODS), list(RULES)
        return (
            *(methods.index(name) if name in METHODS else len(methods), name),
            *(rules.index(rule) if rule in RULES else len(rules), rule),
        )

    @property
    def by_goal(self) -> tuple[Any, ...]:
        """The sort key of goal sparsity, method and soup rule; runs without a goal come last."""
        return self.goal is None, self.goal or 0.0, *self.place

    @property
    def data(self) -> str:
        """The name of the data set, wherever it lies."""
        data = self.config.data
        return Path(data.path).name if data.name in UNNAMED_DATA and data.path else data.name

    @property
    def title(self) -> str:
        """Model and data set: "wrn20 on cifar100"."""
        return f"{self.config.model.name} on {self.data}"

    @property
    def final(self) -> PhaseMetrics | None:
        """The last phase of a run that is done."""
        return self.phases[-1] if self.is_done and self.phases else None

    @property
    def corruptions(self) -> str:
        """The corruptions on which OOD accuracy was measured; "" where it was not."""
        return next((result.corruptions for result in self.ood.values()), "")

    @property
    def dense_epochs(self) -> int:
        """Epochs of dense training; weights from a file count as trained as configured."""
        if self.config.pretrain.from_ is not None or not self.dense.metrics:
            return self.config.pretrain.epochs
        trained = self.dense.epochs_trained
        return len(self.dense.epochs or ()) if trained is None else trained

    @cached_property
    def identity(self) -> dict[str, str]:
        """The experiment that the run is: the text of every value that decides the result, by key.

        Seed, name and folders are left out, and keys that do not concern its method or soup rule.
        """
        unwanted = {"name", "seed", "records"}
        values = flatten(self.config.model_dump(mode="json", by_alias=True, exclude=unwanted))
        values |= {"data.name": self.data, "score": self.score}
        texts = {key: str(value).replace("'", "") for key, value in values.items()}
        empty = ("{}", "[]")
        return {k: text for k, text in texts.items() if text not in empty and _matters(self, k)}

    @cached_property
    def models(self) -> dict[str, Measured]:
        """The models by folder (dense, phase_1/soup), without candidates that diverged."""
        models: dict[str, Measured] = {DENSE: self.dense}
        for phase in self.phases:
            models[f"phase_{phase.phase}/soup"] = phase.soup
            for each in phase.candidates:
                if not each.diverged:
                    models[f"phase_{phase.phase}/candidate_{each.index}"] = each
        return models

    def metric(self, model: str, name: str) -> float | None:
        """Return a metric of the model in a folder on test samples, None where it is not known."""
        if name == OOD:
            return self.ood[model].ood_accuracy if model in self.ood else None
        return self.models[model].test(name)

    def candidate_metrics(self, phase: int, name: str) -> dict[int, float]:
        """Return a metric of the candidates of a phase that did not diverge, by index."""
        begin = f"phase_{phase}/candidate_"
        known = {m: self.metric(m, name) for m in self.models if m.startswith(begin)}
        return {int(m.removeprefix(begin)): v for m, v in known.items() if v is not None}

    def numbers(self) -> Iterator[tuple[int, str, str, float | None]]:
        """Yield phase (0 for the dense model), model, metric and value of all test results.

        On corrupted samples also those of each corruption and severity: ood_accuracy_fog.
        """
        yield from ((0, DENSE, *number) for number in self._model_numbers(DENSE))
        for each in self.phases:
            phase = each.phase
            yield from ((phase, SOUP, *n) for n in self._model_numbers(f"phase_{phase}/soup"))
            yield phase, SOUP, SPARSITY, each.sparsity
            yield phase, SOUP, SPEEDUP, each.theoretical_speedup
            yield phase, BEST, each.score, each.best_candidate
            yield phase, MEAN, each.score, each.mean_candidate
            if corrupted := self.candidate_metrics(phase, OOD).values():
                yield phase, BEST, OOD, max(corrupted)
                yield phase, MEAN, OOD, fmean(corrupted)

    def _model_numbers(self, model: str) -> Iterator[tuple[str, float | None]]:
        for name in self.models[model].tested:
            yield name, self.metric(model, name)
        if model in self.ood:
            yield OOD, self.metric(model, OOD)
            yield f"{OOD} ({self.corruptions})", self.metric(model, OOD)
            accuracies = self.ood[model].accuracies
            for severity, own in enumerate(zip_longest(*accuracies.values()), 1):
                yield f"{SEVERITY}{severity}", _mean(own)
            for name, each in accuracies.items():
                yield f"{OOD}_{name}", _mean(each)


def _mean(numbers: Iterable[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return fmean(known) if known else None


def _matters(run: Run, key: str) -> bool:
    section, _, rest = key.partition(".")
    if key in NOT_DECIDING or key.startswith("data.subgroups."):
        return False
    if section == "engine":
        return rest in ("precision", "accumulation")
    if section == "soup":
        rule = RULES.get(run.rule)  # None: one of somebody's own, which may look at the scores
        is_learned = rule is not None and rule.is_learned
        if rest == "score":
            return not is_learned and (rule is None or rule.needs_validation)
        return is_learned or (rest == "rule" and run.method.has_rule)
    if section == "candidates" and rest == "count":
        return run.method.candidates != "none" and not run.config.candidates.count_per_phase
    if section == "candidates":
        is_count = rest == "count_per_phase"
        return run.method.candidates == "all" or (run.method.candidates == "count" and is_count)
    return section not in ("pruning", "retrain") or run.config.method.name != "dense"


def key_of(run: Run, is_wanted: Callable[[str], bool] = lambda key: True) -> Hashable:
    """Return the wanted part of the identity of a run, to compare runs by."""
    return tuple(sorted((k, v) for k, v in run.identity.items() if is_wanted(k)))


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Return the items by key, both in the order in which they come."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def read_runs(folders: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Return the runs below some folders, each experiment once, and a note on each one left out.

    ValueError if a folder is not there, or there is no run that can be read.
    """
    runs, notes = [], []
    for folder in dict.fromkeys(run for each in folders for run in find_runs(each)):
        try:
            run = read_run(folder)
        except ValueError as error:
            notes.append(f"left out, damaged: {error}")
            continue
        notes += [f"{folder} went on with other files: {change}" for change in run.changes]
        if run.score:
            runs.append(run)
        else:
            notes.append(f"left out, nothing is recorded yet: {folder}")
    if not runs:
        raise ValueError("; ".join(notes))
    once, repeated = distinct(runs)
    return once, [*notes, *repeated]


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


def collect(
    folder: str, config: Config, lines: Sequence[journal.Event], summary: Summary | None = None
) -> Run:
    """Return the run that a journal records.

    A start that was killed between storing a phase and recording it left no event: that phase is
    taken from the summary.
    """

    def of(kind: type[E]) -> list[E]:
        return [event for event in lines if isinstance(event, kind)]

    dense = [event.metrics for event in of(journal.DenseEvent)]
    phases = [event.metrics for event in of(journal.SoupEvent)]
    ood = [(event.where, event.metrics) for event in of(journal.OodEvent)]
    scores = [phase.score for phase in phases]
    scores += [event.score or "" for event in of(journal.StartEvent)]
    if summary is not None:
        dense.append(summary.dense)
        phases = [*summary.phases, *phases]
        ood = ood or list((summary.ood or {}).items())
        scores.insert(0, summary.score)
    # After a resume a phase may be recorded twice, both times alike.
    by_number = {phase.phase: phase for phase in phases}
    epochs: dict[int, dict[int, int]] = {}
    for event in of(journal.CandidateEvent):
        if event.metrics.retrain is not None:
            own = epochs.setdefault(event.phase, {})
            own[event.metrics.index] = event.metrics.retrain.epochs
    return Run(
        folder=folder,
        config=config,
        score=next((score for score in scores if score), ""),
        dense=dense[0] if dense else DenseMetrics(metrics={}),
        phases=tuple(by_number[number] for number in sorted(by_number)),
        retrain_epochs={phase: tuple(own.values()) for phase, own in epochs.items()},
        # Other corruptions may have been asked for later: those count.
        ood={where: each for where, each in ood if each.corruptions == ood[-1][1].corruptions},
        is_done=summary is not None or bool(of(journal.DoneEvent)),
        changes=tuple(event.message for event in of(journal.ChangesEvent)),
    )


def distinct(runs: Iterable[Run]) -> tuple[list[Run], list[str]]:
    """Return the furthest run of each experiment and seed, and a note on each of the others."""
    once, notes = [], []
    for same in grouped(runs, lambda run: (key_of(run), run.config.seed)).values():
        best = max(same, key=_progress)
        once.append(best)
        for run in same:
            if run is not best:
                notes.append(f"{run.folder} is the same experiment as {best.folder}: counted once")
    return once, notes


def _progress(run: Run) -> tuple[int, ...]:
    """Return the sort key of runs of one experiment: further, or else with more measurements."""
    num_metrics = len(run.dense.tested) + sum(len(phase.soup.tested) for phase in run.phases)
    return run.is_done, len(run.phases), len(run.ood), num_metrics
