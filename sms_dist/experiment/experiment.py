"""Sparse Model Soups (Algorithm 1): prune, retrain the candidates side by side, merge; repeat.

Every method runs through here: it is a recipe, a list of phases, and this loop executes any.
"""

from __future__ import annotations

from sms_dist.base.files import json_text, write_text
from sms_dist.config.compare import flatten
from sms_dist.experiment.candidates import retrained
from sms_dist.experiment.compiling import choose_compiling
from sms_dist.experiment.corruptions import measure_corrupted
from sms_dist.experiment.dense import DenseModel, dense_model
from sms_dist.experiment.soup import is_stored, soup, stored_soup
from sms_dist.experiment.start import Standing, common_start, own_start
from sms_dist.methods.phases import Candidate, Phase
from sms_dist.pruning.mask import full_mask
from sms_dist.run.events import DoneEvent
from sms_dist.run.logbook import Logbook
from sms_dist.run.recovery import forget
from sms_dist.run.schema import DenseMetrics, FinalMetrics, PhaseMetrics, Summary
from sms_dist.training.retrain import Start
from sms_dist.training.workbench import Workbench


def run(bench: Workbench, book: Logbook) -> Summary:
    """Run the experiment, or what is left of it after earlier starts; its summary.

    Every rank must call. Between two soups the groups do not wait for each other.
    """
    bench = choose_compiling(bench, book)
    dense = dense_model(bench, book)
    standing = Standing(dense.state, full_mask(dense.state, bench.prunable))
    done: list[PhaseMetrics] = []
    for phase in bench.recipe.phases:
        standing, record = _phase(bench, book, phase, standing, dense, done)
        done.append(record)
    return _finish(bench, book, _summary(bench, book, dense.metrics.brief(), done))


def _phase(
    bench: Workbench,
    book: Logbook,
    phase: Phase,
    standing: Standing,
    dense: DenseModel,
    earlier: list[PhaseMetrics],
) -> tuple[Standing, PhaseMetrics]:
    common = common_start(bench, phase, standing, dense)
    if is_stored(bench, book, phase):
        return stored_soup(bench, book, phase, common.mask)

    def start_of(candidate: Candidate) -> Start | None:
        if phase.begin == "own":
            return own_start(bench, book, phase, candidate, dense)
        return common

    candidates = retrained(bench, book, phase, start_of)
    return soup(bench, book, common, candidates, dense, earlier)


def _summary(
    bench: Workbench, book: Logbook, dense: DenseMetrics, phases: list[PhaseMetrics]
) -> Summary:
    """Return the record of the whole run; `final` is the dense model where nothing was pruned."""
    config = bench.config
    if phases:
        final = FinalMetrics(sparsity=phases[-1].sparsity, metrics=phases[-1].soup.metrics)
    else:
        final = FinalMetrics(
            metrics=dense.metrics,
            epochs_trained=dense.epochs_trained,
            epochs_total=dense.epochs_total,
        )
    return Summary(
        name=config.name,
        method=config.method.name,
        seed=config.seed,
        score=bench.task.score,
        goal_sparsity=config.pruning.goal_sparsity,
        dense=dense,
        phases=tuple(phases),
        final=final,
        ood=measure_corrupted(bench, book),
    )


def _finish(bench: Workbench, book: Logbook, summary: Summary) -> Summary:
    if book.is_main:
        write_text(book.paths.summary, json_text(summary.as_json()))
        forget(book.paths.recoveries)  # what a crash between a save and its tidying left
    book.event(DoneEvent(metrics=summary.final))
    if book.board:
        config = flatten(bench.config.model_dump(mode="json", by_alias=True))
        simple = {k: v for k, v in config.items() if isinstance(v, bool | str | float | int)}
        final = summary.final.as_json()
        book.board.hparams(simple, {k: v for k, v in final.items() if v is not None})
    book.close()
    return summary
