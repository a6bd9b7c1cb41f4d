"""What stands below a table: from which runs, seeds, epochs, allocation, pattern it was made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from sms_dist.reports import scores
from sms_dist.reports.collect import Run

FEW = 4


def provenance(runs: Sequence[Run], what: str | None = None) -> tuple[str, ...]:
    """Sentences that hold for every table; `what` is in it, the runs' score if nothing is said."""
    what = what or f"Test {scores.sentence(runs[0].score)}"
    pruned = [run for run in runs if run.method != "dense"]
    sentences = [
        f"{what}, mean ± standard deviation (n - 1) over seeds.",
        f"Seeds {_values(runs, lambda run: run.config.seed)}.",
        f"Pretraining epochs: {_values(runs, lambda run: run.config.pretrain.epochs)}.",
    ]
    if pruned:
        sentences.append(_retraining(pruned))
    return (*sentences, *_diverged(runs), f"From {_folders([run.folder for run in runs])}.")


def title(run: Run) -> str:
    """wrn20 on cifar100."""
    return f"{run.config.model.name} on {run.data}"


def n_sentence(usual_n: int) -> str:
    return f"n = {usual_n} where nothing else is said."


def unfinished(runs: Iterable[Run]) -> tuple[str, ...]:
    """One sentence about runs that are not done."""
    names = [run.folder for run in runs if not run.is_done]
    if not names:
        return ()
    return (f"Not finished, counted for the phases they have: {_list(names)}.",)


def _diverged(runs: Iterable[Run]) -> tuple[str, ...]:
    """One sentence about candidates that diverged."""
    candidates = [c for run in runs for phase in run.phases for c in phase.candidates]
    dropped = sum(c.diverged for c in candidates)
    retried = sum(bool(c.attempts) and not c.diverged for c in candidates)
    if not dropped and not retried:
        return ()
    left_out = f"{dropped} diverged and {'is' if dropped == 1 else 'are'} left out"
    again = f"{retried} {'was' if retried == 1 else 'were'} retried with another seed"
    return (f"Of {len(candidates)} candidates {left_out}; {again}.",)


def _retraining(runs: Sequence[Run]) -> str:
    epochs = _values(runs, lambda run: run.config.retrain.epochs)
    schedule = _values(runs, lambda run: run.config.retrain.schedule.upper())
    allocation = _values(runs, lambda run: run.config.pruning.allocation)
    pattern = _values(runs, lambda run: run.config.pruning.pattern)
    batch = _values(runs, lambda run: run.config.data.batch_size)
    return (
        f"Retraining epochs per phase: {epochs}, by {schedule}, in batches of {batch}. "
        f"Pruning: allocation {allocation}, pattern {pattern}."
    )


def _values(runs: Sequence[Run], of: Callable[[Run], int | str]) -> str:
    found = sorted({of(run) for run in runs}, key=lambda item: (isinstance(item, str), item))
    return ", ".join(map(str, found))


def _folders(folders: Sequence[str]) -> str:
    """27 runs in runs/digits, or their names if they are few."""
    if len(folders) <= FEW:
        return _list(sorted(folders))
    try:
        return f"{len(folders)} runs in {os.path.commonpath(folders) or '.'}"
    except ValueError:  # absolute and relative ones
        return f"{len(folders)} runs"


def _list(names: Sequence[str]) -> str:
    more = len(names) - FEW
    return ", ".join(names[:FEW]) + (f" and {more} more" if more > 0 else "")
