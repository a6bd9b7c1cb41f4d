"""One start of a run on this rank: checks, run folder, screen, experiment, final table."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from sms_dist.base.files import json_text, write_text
from sms_dist.config import Config
from sms_dist.engines.compiled import check_compiler
from sms_dist.experiment import experiment
from sms_dist.experiment.checks import check
from sms_dist.experiment.facts import facts
from sms_dist.experiment.sizes import sizes, survivors
from sms_dist.mesh import topology
from sms_dist.mesh.collectives import from_first, together
from sms_dist.mesh.control import Stopped
from sms_dist.mesh.topology import Topology
from sms_dist.methods.phases import Recipe
from sms_dist.methods.plan import Plan, make_plan
from sms_dist.reports.table import run_table
from sms_dist.run import run_folder
from sms_dist.run.events import FaultEvent, StartEvent, StoppedEvent
from sms_dist.run.lock import Lock
from sms_dist.run.logbook import Logbook
from sms_dist.run.paths import WEIGHTS, RunPaths
from sms_dist.run.run_folder import environment
from sms_dist.run.schema import PlanFile
from sms_dist.run.store import is_complete
from sms_dist.start.rank_process import report_exceptions, stop_on_signals
from sms_dist.start.screen import Screen
from sms_dist.training.dense_file import load_dense
from sms_dist.training.rates import known_history
from sms_dist.training.workbench import Workbench, set_up


def _check_dense(bench: Workbench, paths: RunPaths) -> None:
    """Weights from elsewhere, to begin pretraining with or to end it, fit the model; and the
    schedules can be made from their history.

    Not when the run folder has its own copy already. Every rank must call.
    """
    at, source = bench.at, bench.config.pretrain.from_
    is_here = from_first(lambda: is_complete(paths.dense), at.world, at.device)
    if is_here:
        return
    if bench.config.model.weights is not None:
        together(bench.new_model, at.world, at.device)
    if source is None:
        return
    dense = together(lambda: load_dense(bench), at.world, at.device)
    if bench.recipe.phases:
        known_history(dense.history, bench.config.retrain.schedule)


def _entered(paths: RunPaths, config: Config, at: Topology) -> tuple[Lock | None, bool]:
    """The run folder is ours: the first rank's lock, and whether the run was begun before.

    Every rank must call.
    """
    locks: list[Lock] = []

    def enter() -> bool:
        lock, is_resumed = run_folder.enter(paths, config, environment(), at.control.lose)
        locks.append(lock)
        return is_resumed

    is_resumed = from_first(enter, at.world, at.device)
    return (locks[0] if locks else None), is_resumed


def _take_back_stop(paths: RunPaths) -> None:
    """A new start was wanted after the file that asked the last one to stop.

    Ranks that torchrun starts again by itself were not: they stop again.
    """
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        paths.stop.unlink(missing_ok=True)


def _record_fault(book: Logbook, fault: str) -> None:
    with suppress(ValueError):  # the fault may be that the run folder is gone
        book.event(FaultEvent(message=fault))


@dataclass(frozen=True)
class Session:
    bench: Workbench
    paths: RunPaths
    plan: Plan
    is_resumed: bool
    lock: Lock | None  # held by the first rank

    @classmethod
    def open(cls, config: Config, folder: Path) -> Session:
        """Everything that can be wrong is found here, before the run folder is touched.

        ValueError on all ranks, for people. Every rank must call.
        """
        recipe = check(config)
        engine = config.engine
        at = topology.start(
            engine.ranks_per_candidate,
            engine.device,
            threads=engine.threads,
            deterministic=engine.deterministic,
            silence_seconds=engine.silence_seconds,
            hang_seconds=engine.hang_seconds,
            facts=facts(config),
        )
        report_exceptions(at.control)
        try:
            return cls._opened(config, folder, recipe, at)
        except ValueError as error:
            at.control.fail(str(error))
            raise

    @classmethod
    def _opened(cls, config: Config, folder: Path, recipe: Recipe, at: Topology) -> Session:
        together(lambda: check_compiler(config.engine.compile, at.device), at.world, at.device)
        bench = set_up(config, at)
        count = survivors(config, bench.info)
        plan = make_plan(recipe, at.num_groups, sizes(config, bench.info), count)
        paths = RunPaths(folder)
        _check_dense(bench, paths)
        lock, is_resumed = _entered(paths, config, at)
        if at.world.is_first:
            write_text(paths.plan, json_text(PlanFile.model_validate(plan.as_json()).as_json()))
            _take_back_stop(paths)
        return cls(bench, paths, plan, is_resumed, lock)

    def run(self) -> None:
        """Run to the end; rank 0 shows how it goes."""
        at = self.bench.at
        book = Logbook(
            self.paths,
            is_main=at.world.is_first,
            group=at.group,
            is_leader=at.is_leader,
            num_phases=len(self.plan.phases),
            tensorboard=self.bench.config.records.tensorboard,
            score=self.bench.task.score,
        )
        console = Console()
        with ExitStack() as stack:
            if self.lock:
                stack.callback(self.lock.release)
            if at.world.is_first:  # the others print nothing
                screen = stack.enter_context(Screen(self.paths.progress, console, at.num_groups))
                screen.headline(self._headline())
            self._tell_start(book)
            at.control.on_loss = partial(_record_fault, book)
            at.control.listen(self.paths.stop)
            stop_on_signals(at.control)
            try:
                summary = experiment.run(self.bench, book)
            except Stopped:
                reason = at.control.leave()
                if at.control.lost is None:
                    book.event(StoppedEvent(reason=reason))
                raise Stopped(reason) from None
        if at.world.is_first:
            console.print(run_table(summary))
            console.print(self._product(), soft_wrap=True, highlight=False)
        topology.stop(at)

    def _tell_start(self, book: Logbook) -> None:
        at, task = self.bench.at, self.bench.task
        book.event(
            StartEvent(
                ranks=at.world.size,
                groups=at.num_groups,
                resumed=self.is_resumed,
                task=self.bench.info.task,
                score=task.score,
                facts={**task.facts(), **self.bench.loaders.facts},
            )
        )

    def _headline(self) -> str:
        config, at = self.bench.config, self.bench.at
        verb = "goes on" if self.is_resumed else "starts"
        return (
            f"{config.name} {verb}: {config.method.name} on {config.data.name}, "
            f"{at.world.size} ranks in {at.num_groups} groups, {at.device.type}"
        )

    def _product(self) -> str:
        if not self.plan.phases:
            return f"dense weights: {self.paths.dense / WEIGHTS}"
        return f"soup: {self.paths.soup(len(self.plan.phases)) / WEIGHTS}"
