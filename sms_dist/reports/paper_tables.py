"""The tables a report can make, by name: a new one is one function and one line here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sms_dist.base.lookup import lookup
from sms_dist.reports import (
    corruption_table,
    fairness,
    method_tables,
    ood_tables,
    overview,
    phase_tables,
    robustness,
)
from sms_dist.reports.collect import Run
from sms_dist.reports.layout import Report


@dataclass(frozen=True)
class Layout:
    """Which runs a table is made of, in words too, and how."""

    build: Callable[[Sequence[Run]], Report]
    takes: Callable[[Run], bool]
    words: str
    needs_end: bool = True  # only runs that are done count


def _of(
    methods: Sequence[str], takes: Callable[[Run], bool] = lambda run: True
) -> Callable[[Run], bool]:
    return lambda run: run.method in methods and takes(run)


def _phases(number: int) -> Callable[[Run], bool]:
    return lambda run: run.config.pruning.phases == number


def _is_structured(run: Run) -> bool:
    return run.config.pruning.pattern == "filters"


def _is_structured_shot(run: Run) -> bool:
    return _is_structured(run) and _phases(1)(run)


def _has_ood(run: Run) -> bool:
    return bool(run.ood)


SMS, IMPS = phase_tables.METHODS, ("imp_m_times", "imp_m_phases")
PHASES = Layout(phase_tables.by_phase, _of(SMS), ", ".join(SMS), needs_end=False)
SHOT = Layout(phase_tables.one_shot, _of(SMS, _phases(1)), "pruning.phases=1")
OOD = Layout(
    ood_tables.over_sparsities,
    _of(SMS, _has_ood),
    f"data.corruptions and a method of {', '.join(SMS)}",
    needs_end=False,
)
TABLES = {
    "methods": Layout(overview.methods, lambda run: True, "any method"),
    "robustness": Layout(robustness.overview, lambda run: True, "any method"),
    "corruptions": Layout(corruption_table.by_corruption, _has_ood, "data.corruptions"),
    "1": PHASES,
    "2": Layout(
        method_tables.during_training,
        _of(method_tables.TRAINING),
        ", ".join(method_tables.TRAINING),
    ),
    "4": PHASES,
    "5": PHASES,
    "6": SHOT,
    "7": SHOT,
    "8": Layout(phase_tables.by_phase, _of(SMS, _phases(2)), "pruning.phases=2", needs_end=False),
    "9": SHOT,
    "10": SHOT,
    "11": Layout(
        phase_tables.by_phase, _of(SMS, _is_structured), "pruning.pattern=filters", needs_end=False
    ),
    "12": Layout(
        phase_tables.one_shot,
        _of(SMS, _is_structured_shot),
        "pruning.phases=1 and pruning.pattern=filters",
    ),
    "13": OOD,
    "14": OOD,
    "15": Layout(
        fairness.by_subgroup,
        lambda run: bool(fairness.subgroups(run)),
        "sub-groups (data.subgroup or data.subgroups)",
    ),
    "16": Layout(method_tables.over_m, _of(IMPS), ", ".join(IMPS)),
    "17": Layout(method_tables.over_schedules, _of(("imp", "imp_swa")), "imp, imp_swa"),
}


def make(name: str, runs: Sequence[Run]) -> Report:
    """The table of that name; ValueError where no run belongs into it."""
    layout = lookup(TABLES, name, "--table")
    fitting = [run for run in runs if layout.takes(run)]
    ready = [run for run in fitting if run.is_done or (run.phases and not layout.needs_end)]
    if not ready:
        found = ", ".join(sorted({run.method for run in runs}))
        state = "finished runs" if fitting else "runs"
        raise ValueError(
            f"--table {name} is made of {state} with {layout.words}; there are none among the "
            f"{len(runs)} given ({found})"
        )
    report = layout.build(ready)
    return Report(report.tables, (*_left_out(name, runs, fitting, ready), *report.notes))


def _left_out(
    name: str, runs: Sequence[Run], fitting: Sequence[Run], ready: Sequence[Run]
) -> list[str]:
    """What is not in the table, in two lines at most."""
    notes = []
    others = Counter(run.method for run in runs if run not in fitting)
    if others:
        words = ", ".join(f"{count} of {method}" for method, count in sorted(others.items()))
        notes.append(f"not part of table {name}: {words}")
    waiting = [run.folder for run in fitting if run not in ready]
    if waiting:
        notes.append(f"not finished, so left out of table {name}: {', '.join(waiting)}")
    return notes
