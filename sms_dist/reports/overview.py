"""The general table: one row per experiment with sparsity, score, speedup and epochs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sms_dist.reports import caption, scores
from sms_dist.reports.collect import Run
from sms_dist.reports.grid import NUMBER, Value, grouped, placed, value
from sms_dist.reports.layout import Column, Entry, Report, Row, Table
from sms_dist.reports.method_facts import facts, order, rule_order
from sms_dist.reports.settings import apart, variants
from sms_dist.run.schema import PhaseMetrics

TOLD = (
    *("data.name", "model.name", "method.name", "soup.rule"),
    *("candidates.count", "candidates.count_per_phase", "pruning.goal_sparsity"),
)
WORDS = (
    "Surviving: prunable weights, exactly.",
    "Epochs: dense, those of a candidate in all its phases, those of all candidates and dense.",
)


@dataclass(frozen=True)
class Experiment:
    """The seeds of one configuration, and what tells it from others with the same names."""

    runs: list[Run]
    difference: str

    @property
    def entries(self) -> dict[str, Entry]:
        """Column -> entry."""
        run = self.runs[0]
        return {
            "data": run.data,
            "model": run.config.model.name,
            "m": "-".join(map(str, run.num_candidates)) or None,
            "sparsity": sparsity([r.final for r in self.runs if r.final]),
            "surviving": _surviving([r.final for r in self.runs if r.final]),
            scores.score(run.score).label: self.score,
            "speedup": value((r.final.theoretical_speedup for r in self.runs if r.final), NUMBER),
            **_epochs(run),
            "settings": self.difference or None,
        }

    @property
    def score(self) -> Value | None:
        return value(map(_score, self.runs), scores.form(self.runs[0].score))

    @property
    def rival(self) -> tuple[str, str, float | None]:
        """Experiments that agree in this may be compared."""
        config = self.runs[0].config
        goal = 0.0 if config.method.name == "dense" else config.pruning.goal_sparsity
        return self.runs[0].data, config.model.name, goal

    @property
    def label(self) -> str:
        run = self.runs[0]
        return facts(run.method).label + (f" ({run.rule})" if run.rule else "")


def methods(runs: Sequence[Run]) -> Report:
    """One row per data, model, method, soup rule, m and goal; more where other keys differ."""
    done = [run for run in runs if run.final or (run.is_done and run.method == "dense")]
    return apart(done, lambda run: run.score, lambda group: Report((_table(group),)))


def _table(done: Sequence[Run]) -> Table:
    label = scores.score(done[0].score).label
    experiments = list(_experiments(done))
    told = _without_empty([experiment.entries for experiment in experiments])
    rows = []
    for mates in grouped(experiments, lambda experiment: experiment.rival).values():
        best = placed([mate.score for mate in mates])
        for mate, score in zip(mates, best, strict=True):
            entries = mate.entries | {label: score}
            rows.append(Row(mate.label, tuple(entries[name] for name in told)))
    title, columns = _title(done), tuple(Column(tuple(name.split(", "))) for name in told)
    table = Table(title, (), "method", columns, tuple(rows))
    words = (*caption.provenance(done), *WORDS, caption.n_sentence(table.usual_n))
    return replace(table, caption=words)


def _experiments(runs: Sequence[Run]) -> Iterator[Experiment]:
    named = grouped(runs, _names)
    for key in sorted(named):
        for difference, part in variants(named[key], TOLD.__contains__):
            yield Experiment(part, difference)


def _names(run: Run) -> tuple[Any, ...]:
    """What parts experiments, in the order of the rows; methods without a goal come last."""
    config, goal = run.config, Experiment([run], "").rival[-1]
    place = (run.data, config.model.name, goal is None, goal or 0.0)
    return (*place, order(run.method), rule_order(run.rule), run.num_candidates)


def _without_empty(entries: Sequence[dict[str, Entry]]) -> list[str]:
    """The columns to show: those with something in them, and data and model where they differ."""
    names = [name for name in entries[0] if any(item[name] is not None for item in entries)]
    same = {name for name in ("data", "model") if len({item[name] for item in entries}) == 1}
    return [name for name in names if name not in same]


def _title(runs: Sequence[Run]) -> str:
    titles = {caption.title(run) for run in runs}
    return titles.pop() if len(titles) == 1 else "methods"


def _score(run: Run) -> float | None:
    return run.final.soup_score if run.final else run.dense_metric(run.score)


def sparsity(phases: Sequence[PhaseMetrics]) -> Entry:
    """As realised."""
    found = value(phase.sparsity for phase in phases)
    if found is None:
        return None
    mean, std = found.texts()
    return f"{mean}%" if not found.std else f"{mean} ± {std}%"


def _surviving(phases: Sequence[PhaseMetrics]) -> Entry:
    counts = [phase.surviving_weights for phase in phases if phase.surviving_weights is not None]
    if not counts or phases[0].num_weights is None:
        return None
    fewest, most = min(counts), max(counts)
    text = f"{fewest:,}" if fewest == most else f"{fewest:,}-{most:,}"
    return f"{text} / {phases[0].num_weights:,}"


def _epochs(run: Run) -> dict[str, Entry]:
    """The budget of one run; "-" where the journal does not know all of it."""
    phases = [run.retrain_epochs.get(phase.phase, ()) for phase in run.phases]
    is_known = all(phases)
    each = sum(max(epochs, default=0) for epochs in phases)
    total = run.dense_epochs + sum(sum(epochs) for epochs in phases)
    return {
        "epochs, dense": str(run.dense_epochs),
        "epochs, candidate": str(each) if is_known else None,
        "epochs, all": str(total) if is_known else None,
    }
