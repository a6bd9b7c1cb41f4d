"""The table of one run: a row per phase with the scores of soup, candidates, dense model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from sms_dist.reports import scores
from sms_dist.run.schema import PhaseMetrics, Summary


def run_table(summary: Summary) -> Table:
    """Return a row for each phase; the best of the pruned models in a row is bold.

    A run with one candidate per phase has no soup to compare: one column with the method's name.
    The ensemble is no single model and so out of the contest.
    """
    phases, score = summary.phases, summary.score
    label = scores.score(score).label
    title = Text(f"test {label}, {summary.method}, seed {summary.seed}", style="bold")
    table = Table(title=title, caption=_caption(phases), caption_justify="left")
    dense = scores.text(summary.dense.test(score), score)
    if not phases:
        table.add_column("dense", justify="right")
        table.add_row(dense)
        return table
    is_single = all(len(phase.candidates) == 1 for phase in phases)
    pruned = (summary.method,) if is_single else ("soup", "best candidate", "mean candidate")
    has_ensemble = not is_single and any(_ensemble(phase) is not None for phase in phases)
    has_dense = summary.dense.is_trained
    others = ["ensemble"] * has_ensemble + ["dense"] * has_dense
    for name in ("phase", "sparsity", *pruned, *others):
        table.add_column(name, justify="right")  # a head wraps where the terminal is narrow
    for phase in phases:
        values = (phase.soup_score, phase.best_candidate, phase.mean_candidate)[: len(pruned)]
        ensemble = [scores.text(_ensemble(phase), score)] * has_ensemble
        table.add_row(
            str(phase.phase),
            f"{phase.sparsity:.2%}",
            *_marked(values, score),
            *ensemble,
            *[dense] * has_dense,
        )
    return table


def _ensemble(phase: PhaseMetrics) -> float | None:
    return phase.ensemble.test(phase.score) if phase.ensemble else None


def _marked(values: Sequence[float | None], score: str) -> list[Text]:
    """The best (ties: all that look the same) in bold, where there is something to compare."""
    texts = [scores.text(value, score) for value in values]
    known = [value for value in values if value is not None and math.isfinite(value)]
    best = scores.text(max(known), score) if len(known) > 1 else None
    return [Text(text, style="bold" if text == best else "") for text in texts]


def _caption(phases: Sequence[PhaseMetrics]) -> Text | None:
    """The candidates that diverged, one in a line, and the warnings of the phases."""
    lines = [line for phase in phases for line in _divergences(phase)]
    for phase in phases:
        lines += phase.warnings or ()
    return Text("\n".join(lines)) if lines else None


def _divergences(phase: PhaseMetrics) -> Iterator[str]:
    """Yield a line for each candidate that diverged, also if a retry went well."""
    for each in phase.candidates:
        who = f"candidate {each.index} of phase {phase.phase}"
        attempts = each.attempts or ()
        if each.diverged:
            why = f", {each.divergence.reason}" if each.divergence else ""
            seeds = f"; {len(attempts) + 1} seeds were tried" if attempts else ""
            yield f"diverged: {who} (seed {each.seed}){why}{seeds}"
        elif attempts:
            yield f"retried: {who} (seed {attempts[0].seed}), {attempts[0].divergence.reason}"
