"""Sparse Model Soups (Algorithm 1): prune, retrain the candidates side by side, merge; repeat."""

from __future__ import annotations

from typing import Any

from sms_dist.config_compare import flatten
from sms_dist.methods import phases
from sms_dist.pruning.mask import full_mask
from sms_dist.records.files import json_text, write_text
from sms_dist.records.logbook import Logbook
from sms_dist.reports.summary import run_summary
from sms_dist.steps.candidates import retrained
from sms_dist.steps.dense import dense_model
from sms_dist.steps.pruned import pruned
from sms_dist.steps.soup import is_stored, soup, stored_soup
from sms_dist.training.workbench import Workbench

Document = dict[str, Any]


def run(bench: Workbench, book: Logbook) -> Document:
    """Run the experiment, or what is left of it after earlier starts; its summary.

    Every rank must call. Between two soups the groups do not wait for each other.
    """
    dense = dense_model(bench, book)
    state, mask = dense.state, full_mask(dense.state, bench.prunable)
    done: list[Document] = []
    for phase in phases(bench.config):
        start = pruned(bench, phase, state, mask, dense.history)
        if is_stored(bench, book, phase.index):
            state, document = stored_soup(bench, book, start)
        else:
            candidates = retrained(bench, book, start)
            state, document = soup(bench, book, start, candidates)
        mask = start.mask
        done.append(document)
    return _finish(bench, book, run_summary(bench.config, dense.metrics, done))


def _finish(bench: Workbench, book: Logbook, summary: Document) -> Document:
    if book.is_main:
        write_text(book.paths.summary, json_text(summary))
    book.event("done", **summary["final"])
    if book.board:
        config = flatten(bench.config.model_dump(mode="json", by_alias=True))
        simple = {k: v for k, v in config.items() if isinstance(v, bool | str | float | int)}
        book.board.hparams(simple, summary["final"])
    book.close()
    return summary
