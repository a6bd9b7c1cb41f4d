"""Sparse Model Soups (Algorithm 1): prune, retrain the candidates side by side, merge; repeat.

Every method runs through here: it is a recipe, a list of phases, and this loop executes any.
"""

from __future__ import annotations

from sms_dist.base.files import json_text, write_text
from sms_dist.config.compare import flatten
from sms_dist.experiment.candidates import retrained
from sms_dist.experiment.corruptions import measure_corrupted
from sms_dist.experiment.dense import DenseModel, dense_model
from sms_dist.experiment.soup import is_stored, soup, stored_soup
from sms_dist.experiment.start import PhaseState, common_start, own_start
from sms_dist.methods.phases import Candidate, Phase
from sms_dist.pruning.mask import full_mask
from sms_dist.run.checkpoint_files import forget
from sms_dist.run.journal import DoneEvent
from sms_dist.run.logbook import Logbook
from sms_dist.run.schema import DenseMetrics, FinalMetrics, PhaseMetrics, Summary
from sms_dist.training.context import Context
from sms_dist.training.retrain import Start


def run(context: Context, log: Logbook) -> Summary:
    """Run the experiment, or the rest of it after earlier starts, and return its summary.

    Every rank must call. While they retrain, groups do not wait for each other.
    """
    dense = dense_model(context, log)
    last = PhaseState(dense.state, dense.mask or full_mask(dense.state, context.prunable))
    done: list[PhaseMetrics] = []
    for phase in context.recipe.phases:
        last, record = _phase(context, log, phase, last, dense, done)
        done.append(record)
    return _finish(context, log, _summary(context, log, dense.metrics.brief(), done))


def _phase(
    context: Context,
    log: Logbook,
    phase: Phase,
    last: PhaseState,
    dense: DenseModel,
    earlier: list[PhaseMetrics],
) -> tuple[PhaseState, PhaseMetrics]:
    """Prune, retrain the candidates, merge them; or read the soup that is stored already."""
    common = common_start(context, phase, last, dense)
    if is_stored(context, log, phase):
        return stored_soup(context, log, phase, common.mask)

    def start_of(candidate: Candidate) -> Start | None:
        if phase.begin == "own":
            return own_start(context, log, phase, candidate, dense)
        return common

    candidates = retrained(context, log, phase, start_of)
    return soup(context, log, common, candidates, dense, earlier)


def _summary(
    context: Context, log: Logbook, dense: DenseMetrics, phases: list[PhaseMetrics]
) -> Summary:
    """Return the record of the whole run; `final` is the dense model where nothing was pruned."""
    config = context.config
    if phases:
        final = FinalMetrics(sparsity=phases[-1].sparsity, metrics=phases[-1].soup.metrics)
    else:
        final = FinalMetrics(
            sparsity=dense.sparsity or 0.0,
            metrics=dense.metrics,
            epochs_trained=dense.epochs_trained,
            epochs_total=dense.epochs_total,
        )
    return Summary(
        name=config.name,
        method=config.method.name,
        seed=config.seed,
        score=context.task.score,
        goal_sparsity=config.pruning.goal_sparsity,
        dense=dense,
        phases=tuple(phases),
        final=final,
        ood=measure_corrupted(context, log),
    )


def _finish(context: Context, log: Logbook, summary: Summary) -> Summary:
    if log.is_main:
        write_text(log.paths.summary, json_text(summary.as_json()))
        forget(log.paths.recoveries)  # what a crash between a save and its tidying left
    log.event(DoneEvent(metrics=summary.final))
    if log.board:
        config = flatten(context.config.model_dump(mode="json", by_alias=True))
        simple = {k: v for k, v in config.items() if isinstance(v, bool | str | float | int)}
        final = summary.final.as_json()
        log.board.hparams(simple, {k: v for k, v in final.items() if v is not None})
    log.close()
    return summary
