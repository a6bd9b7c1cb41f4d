"""The table of one run: a row per phase with the scores of soup, candidates, dense model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from sms_dist.reports import scores
from sms_dist.reports.captions import listed
from sms_dist.run.schema import PhaseMetrics, Summary


def run_table(summary: Summary) -> Table:
    """Return a row for each phase; the best of the pruned models in a row is bold.

    A run with one candidate per phase has no soup to compare: one column with the method's name.
    The ensemble is not compared, since it is no single model.
    """
    phases, score = summary.phases, summary.score
    label = scores.score(score).label
    title = Text(f"test {label}, {summary.method}, seed {summary.seed}", style="bold")
    table = Table(title=title, caption=_caption(phases), caption_justify="left")
    dense, given = scores.text(summary.dense.test(score), score), summary.dense.sparsity
    start = "dense" if given is None else f"start ({given:.2%} sparse)"
    if not phases:
        table.add_column(start, justify="right")
        table.add_row(dense)
        return table
    is_single = all(len(phase.candidates) == 1 for phase in phases)
    pruned = (summary.method,) if is_single else ("soup", "best candidate", "mean candidate")
    ensembles = [p.ensemble.test(score) if p.ensemble else None for p in phases]
    has_ensemble = not is_single and any(value is not None for value in ensembles)
    others = ["ensemble"] * has_ensemble + [start] * summary.dense.is_trained
    for name in ("phase", "sparsity", *pruned, *others):
        table.add_column(name, justify="right")  # a head wraps where the terminal is narrow
    for phase, ensemble in zip(phases, ensembles, strict=True):
        values = (phase.soup_score, phase.best_candidate, phase.mean_candidate)[: len(pruned)]
        known = [value for value in values if value is not None and math.isfinite(value)]
        best = scores.text(max(known), score) if len(known) > 1 else None
        texts = [scores.text(value, score) for value in values]
        marked = [Text(text, style="bold" if text == best else "") for text in texts]
        more = [scores.text(ensemble, score), dense] if has_ensemble else [dense]
        table.add_row(str(phase.phase), f"{phase.sparsity:.2%}", *marked, *more[: len(others)])
    return table


def extent(summary: Summary) -> str | None:
    """Return, in one line, the last sparsity over all parameters and which weights stay dense."""
    last = summary.phases[-1] if summary.phases else None
    if last is None or last.global_sparsity is None:
        return None
    dense = last.dense_weights or {}
    stays = f"; dense: {listed([*dense])} ({', '.join(dict.fromkeys(dense.values()))})"
    return f"sparsity over all parameters: {last.global_sparsity:.2%}{stays if dense else ''}"


def _caption(phases: Sequence[PhaseMetrics]) -> Text | None:
    """Return the candidates that diverged, one in a line, and the warnings of the phases."""
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
