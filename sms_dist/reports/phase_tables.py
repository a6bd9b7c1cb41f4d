"""Tables 1, 4 to 12 of the paper: SMS and its baselines over phases, or goals of one shot, x m."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from sms_dist.reports import caption, scores
from sms_dist.reports.collect import Run
from sms_dist.reports.grid import grouped, value
from sms_dist.reports.layout import Column, Report, Row, Table, marked
from sms_dist.reports.method_facts import facts, order, rule_order
from sms_dist.reports.settings import per_setting, shared, variants
from sms_dist.run.schema import PhaseMetrics

METHODS = ("sms", "imp_m_times", "imp_reprune", "imp")
# What rows and columns tell of a run.
TOLD = ("method.name", "soup.rule", "candidates.count", "candidates.count_per_phase")
GOAL = "pruning.goal_sparsity"
BEST_ROW, MEAN_ROW = "best candidate", "mean candidate"
BEST = "The best candidate is the best on the test set: nobody can pick it in practice."
Of = Callable[[Run, PhaseMetrics], float | None]
Outer = Callable[[Run, PhaseMetrics], float]


@dataclass(frozen=True)
class Subject:
    """What is said of a soup: a metric of it, and below it that of its candidates."""

    metric: str
    lines: dict[str, Of]  # label -> number; "" is the soup itself


def score_of(runs: Sequence[Run]) -> Subject:
    lines: dict[str, Of] = {
        "": lambda run, phase: phase.soup_score,
        BEST_ROW: lambda run, phase: phase.best_candidate,
        MEAN_ROW: lambda run, phase: phase.mean_candidate,
    }
    return Subject(runs[0].score, lines)


def by_phase(runs: Sequence[Run]) -> Report:
    """Columns phase x m; a table for each goal sparsity and setting."""
    return per_setting(runs, shared(), lambda group: phase_table(group, score_of(group)))


def one_shot(runs: Sequence[Run]) -> Report:
    """Columns goal sparsity x m, of runs with a single phase."""
    return per_setting(runs, shared(GOAL), lambda group: shot_table(group, score_of(group)))


def phase_table(runs: Sequence[Run], subject: Subject) -> Table:
    """Columns phase x m, of runs that can be compared."""
    return _table(runs, subject, _phase_number, "phase {:.0f}")


def shot_table(runs: Sequence[Run], subject: Subject) -> Table:
    """Columns goal sparsity x m, of one-shot runs that can be compared."""
    return _table(runs, subject, _goal, "one shot")


def _phase_number(run: Run, phase: PhaseMetrics) -> float:
    return phase.phase


def _goal(run: Run, phase: PhaseMetrics) -> float:
    return run.config.pruning.goal_sparsity or phase.sparsity


def _table(runs: Sequence[Run], subject: Subject, outer: Outer, kind: str) -> Table:
    keys = _column_keys(runs, outer)
    heads = [(_sparsity_head(runs, outer, key, kind), m_head(m)) for key, m in keys]
    columns = tuple(Column(head if head[1] else head[:1]) for head in heads)
    rows = marked([row for part in _parts(runs) for row in _rows(part, subject, outer, keys)])
    stub = f"{scores.score(subject.metric).label} of"
    first, table = runs[0], Table("", (), stub, columns, rows)
    goal = "" if outer is _goal else f", goal {100 * (first.config.pruning.goal_sparsity or 0):g}%"
    what = f"Test {scores.sentence(subject.metric)}"
    best = [BEST] if any(row.label == BEST_ROW for row in rows) else []
    words = (*caption.provenance(runs, what), *best, caption.n_sentence(table.usual_n))
    return replace(
        table, title=caption.title(first) + goal, caption=(*words, *caption.unfinished(runs))
    )


def _column_keys(runs: Sequence[Run], outer: Outer) -> list[tuple[float, tuple[int, ...]]]:
    outers = {outer(run, phase) for run in runs for phase in run.phases}
    ms = {run.num_candidates for run in runs if run.num_candidates}
    return list(product(sorted(outers), sorted(ms) or [()]))


def m_head(m: tuple[int, ...]) -> str:
    return f"m = {'-'.join(map(str, m))}" if m else ""


def _sparsity_head(runs: Sequence[Run], outer: Outer, key: float, kind: str) -> str:
    """With the realised sparsity, which may differ a little from the goal."""
    found = [p.sparsity for run in runs for p in run.phases if outer(run, p) == key]
    return f"Sparsity {100 * statistics.fmean(found):.1f}% ({kind.format(key)})"


def _parts(runs: Sequence[Run]) -> Iterator[tuple[str, list[Run]]]:
    """The runs of each block of rows with its label, in the order of the paper."""

    def place(key: tuple[str, str]) -> tuple[tuple[int, str], tuple[int, str]]:
        return order(key[0]), rule_order(key[1])

    groups = grouped(runs, lambda run: (run.method, run.rule))
    for method, rule in sorted(groups, key=place):
        for difference, part in variants(groups[method, rule], _is_told):
            words = [word for word in (rule, difference) if word]
            label = facts(method).label
            yield (f"{label} ({', '.join(words)})" if words else label), part


def _is_told(key: str) -> bool:
    return key in TOLD or shared()(key)


def _rows(
    part: tuple[str, list[Run]],
    subject: Subject,
    outer: Outer,
    keys: Sequence[tuple[float, tuple[int, ...]]],
) -> Iterator[Row]:
    label, runs = part
    lines = subject.lines if facts(runs[0].method).has_rule else {"": subject.lines[""]}
    form = scores.form(subject.metric)
    for line, of in lines.items():
        entries = tuple(value(_numbers(runs, outer, key, of), form) for key in keys)
        if not line:
            yield Row(label, entries, is_spanning=not facts(runs[0].method).has_m)
        elif any(entries):
            yield Row(line, entries, parent=label)


def _numbers(
    runs: Sequence[Run], outer: Outer, key: tuple[float, tuple[int, ...]], of: Of
) -> list[float | None]:
    wanted, m = key
    return [
        of(run, phase)
        for run in runs
        if run.num_candidates in ((), m)
        for phase in run.phases
        if outer(run, phase) == wanted
    ]
