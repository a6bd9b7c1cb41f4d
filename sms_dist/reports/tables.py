"""The tables a report can make, by name: a new one is one function and one line here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from sms_dist.base.lookup import lookup
from sms_dist.reports import method_tables, model_tables
from sms_dist.reports.captions import listed
from sms_dist.reports.frame import GOAL, SECTIONS, differing, settings
from sms_dist.reports.runs import Run, grouped, key_of
from sms_dist.reports.table import Table

TITLED = ("data.name", "model.name", GOAL, "score")  # in titles or heads anyway
AFTER_TRAINING = ("sms", "imp_m_times", "imp_reprune", "imp")
DURING_TRAINING = (
    *("bimp_sms", "bimp", "gmp_sms", "gmp", "dpf_sms", "dpf"),
    *("gsm", "dnw", "lc", "dst", "str"),
)


@dataclass(frozen=True)
class Layout:
    """How a table is built, and of which runs.

    Those of one table are of the same kind and agree on all keys that begin with `agree` but do
    not with `free`; others get tables of their own.
    """

    build: Callable[[Sequence[Run]], Table]
    methods: tuple[str, ...] = ()  # () for all
    where: tuple[str, ...] = ()  # the settings that runs have to have
    needs: str = ""  # what else they have to have, in words
    takes: Callable[[Run], bool] = lambda run: True
    needs_end: bool = True  # only runs that are done count
    kind: Callable[[Run], Hashable] = lambda run: None
    agree: tuple[str, ...] = SECTIONS
    free: tuple[str, ...] = ()

    def fits(self, run: Run) -> bool:
        """Return whether a run, be it done or not, belongs into the table."""
        is_method = not self.methods or run.config.method.name in self.methods
        own = {f"{key}={value}" for key, value in run.identity.items()}
        return is_method and own.issuperset(self.where) and self.takes(run)

    def words(self) -> str:
        """Return which runs the table is made of."""
        methods = f"a method of {', '.join(self.methods)}" if self.methods else ""
        return " and ".join(filter(None, [*self.where, self.needs, methods])) or "any method"

    def must_agree(self, key: str) -> bool:
        return key == "score" or (key.startswith(self.agree) and not key.startswith(self.free))


def _is_final_or_dense(run: Run) -> bool:
    return bool(run.final) or not run.is_done or run.config.method.name == "dense"


def _subgroup_definition(run: Run) -> str:
    return json.dumps([run.config.data.subgroup, run.config.data.subgroups], sort_keys=True)


SHOT, FILTERS = "pruning.phases=1", "pruning.pattern=filters"
OVER_PHASES = Layout(method_tables.over_phases, AFTER_TRAINING, needs_end=False)
OVER_GOALS = Layout(method_tables.over_goals, AFTER_TRAINING, (SHOT,), free=(GOAL,))
ON_CORRUPTED = Layout(
    method_tables.on_corrupted_samples,
    AFTER_TRAINING,
    needs="data.corruptions",
    takes=lambda run: bool(run.ood),
    needs_end=False,
    kind=lambda run: (run.corruptions, run.is_one_shot, run.is_one_shot or run.goal),
    free=(GOAL,),
)
ROBUSTNESS = Layout(model_tables.robustness, agree=("data.", "model.", "pretrain."))
TABLES = {
    "methods": Layout(
        model_tables.overview, takes=_is_final_or_dense, kind=lambda run: run.score, agree=()
    ),
    "robustness": ROBUSTNESS,
    "corruptions": replace(
        ROBUSTNESS,
        build=model_tables.by_corruption,
        needs="data.corruptions",
        takes=lambda run: bool(run.ood),
        kind=lambda run: run.corruptions,
    ),
    "1": OVER_PHASES,
    "2": Layout(
        method_tables.during_training,
        DURING_TRAINING,
        agree=("data.", "model.", "pretrain.epochs"),
    ),
    "4": OVER_PHASES,
    "5": OVER_PHASES,
    "6": OVER_GOALS,
    "7": OVER_GOALS,
    "8": replace(OVER_PHASES, where=("pruning.phases=2",)),
    "9": OVER_GOALS,
    "10": OVER_GOALS,
    "11": replace(OVER_PHASES, where=(FILTERS,)),
    "12": replace(OVER_GOALS, where=(SHOT, FILTERS)),
    "13": ON_CORRUPTED,
    "14": ON_CORRUPTED,
    "15": replace(
        ROBUSTNESS,
        build=model_tables.by_subgroup,
        needs="sub-groups (data.subgroup or data.subgroups)",
        takes=lambda run: bool(model_tables.subgroups(run)),
        kind=_subgroup_definition,
    ),
    "16": Layout(method_tables.over_m, ("imp_m_times", "imp_m_phases")),
    "17": Layout(
        method_tables.over_schedules,
        ("imp", "imp_swa"),
        free=("retrain.schedule", "retrain.swa_from", "retrain.swa_learning_rate"),
    ),
}


def make(name: str, runs: Sequence[Run]) -> tuple[list[Table], list[str]]:
    """Return the tables of that name, and notes on runs that are left out or apart.

    ValueError where no run belongs into it.
    """
    layout = lookup(TABLES, name, "--table")
    fitting = [run for run in runs if layout.fits(run)]
    ready = [run for run in fitting if run.is_done or (run.phases and not layout.needs_end)]
    if not ready:
        known = ", ".join(sorted({run.config.method.name for run in runs}))
        state = "finished runs" if fitting else "runs"
        raise ValueError(
            f"--table {name} is made of {state} with {layout.words()}; there are none among the "
            f"{len(runs)} given ({known})"
        )
    tables, notes = [], []
    if others := Counter(run.config.method.name for run in runs if run not in fitting):
        words = ", ".join(f"{count} of {method}" for method, count in sorted(others.items()))
        notes.append(f"not part of table {name}: {words}")
    if waiting := [run.folder for run in fitting if run not in ready]:
        notes.append(f"not finished, so left out of table {name}: {', '.join(waiting)}")
    for comparable in grouped(ready, layout.kind).values():
        groups = list(grouped(comparable, lambda r: key_of(r, layout.must_agree)).values())
        keys = [k for k in differing([own[0] for own in groups]) if layout.must_agree(k)]
        if keys:
            words = f"{len(groups)} settings, one table each: the runs differ in {listed(keys, 5)}"
            notes.append(words)
        untitled = [key for key in keys if key not in TITLED]
        for own in groups:
            table = layout.build(own)
            titles = filter(None, [table.title, settings(own[0], untitled, is_brief=False)])
            tables.append(replace(table, title=", ".join(titles)))
    return tables, list(dict.fromkeys(notes))
