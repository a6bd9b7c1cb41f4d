"""One start of a run on this rank: checks, run folder, screen, experiment, final table."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import Console

from sms_dist.base.files import json_text, write_text
from sms_dist.config import Config
from sms_dist.engines.compiled import check_compiler
from sms_dist.experiment import experiment
from sms_dist.experiment.begin import begin
from sms_dist.experiment.checks import check
from sms_dist.experiment.facts import facts
from sms_dist.experiment.sizes import sizes, survivors
from sms_dist.mesh import topology
from sms_dist.mesh.collectives import from_first, together
from sms_dist.mesh.control import Stopped
from sms_dist.mesh.topology import Topology
from sms_dist.methods.phases import Recipe
from sms_dist.methods.plan import Plan, make_plan
from sms_dist.reports.run_table import extent, run_table
from sms_dist.run import run_folder
from sms_dist.run.journal import FaultEvent, StartEvent, StoppedEvent, WarningEvent
from sms_dist.run.lock import Lock
from sms_dist.run.logbook import Logbook
from sms_dist.run.paths import WEIGHTS, RunPaths
from sms_dist.run.run_folder import environment
from sms_dist.run.schema import PlanFile
from sms_dist.run.store import is_complete
from sms_dist.start.rank import report_exceptions, stop_on_signals
from sms_dist.start.screen import Screen
from sms_dist.training.context import Context, set_up
from sms_dist.training.dense import given_history
from sms_dist.training.retrain import known_history

RESTARTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")


def _check_dense(context: Context, paths: RunPaths) -> None:
    """Check that the history of weights from elsewhere makes the schedules.

    Not where the run folder has its own copy already. Every rank must call.
    """
    mesh, source = context.mesh, context.config.pretrain.from_
    is_here = from_first(lambda: is_complete(paths.dense), mesh.world, mesh.device)
    if is_here:
        return
    if source is None:
        return
    history = together(lambda: given_history(context), mesh.world, mesh.device)
    if context.recipe.phases:
        known_history(history, context.config.retrain.schedule)


def _entered(
    paths: RunPaths, config: Config, mesh: Topology, accepts_changes: bool
) -> tuple[Lock | None, bool]:
    """Enter the run folder; return the first rank's lock, and whether this is a resume.

    What people accepted they accepted once: not for ranks or jobs that are started again. Every
    rank must call.
    """
    locks: list[Lock] = []

    def enter() -> bool:
        start = environment()
        accepts = accepts_changes and not any(map(start.number, RESTARTS))
        lock, is_resumed = run_folder.enter(paths, config, start, mesh.control.lose, accepts)
        locks.append(lock)
        return is_resumed

    is_resumed = from_first(enter, mesh.world, mesh.device)
    return (locks[0] if locks else None), is_resumed


def _remove_stop_file(paths: RunPaths) -> None:
    """Remove the file that asked the last start to stop, for a start that people wanted.

    Ranks that torchrun starts again by itself stop again.
    """
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        paths.stop.unlink(missing_ok=True)


def _record_fault(log: Logbook, fault: str) -> None:
    with suppress(ValueError):  # the fault may be that the run folder is gone
        log.event(FaultEvent(message=fault))


@dataclass(frozen=True)
class Session:
    """A start that has entered its run folder."""

    context: Context
    paths: RunPaths
    plan: Plan
    is_resumed: bool
    lock: Lock | None  # held by the first rank
    notes: tuple[str, ...] = ()  # what to know of the weights that the run is given

    @classmethod
    def open(cls, config: Config, folder: Path, accepts_changes: bool = False) -> Session:
        """Join the other ranks and check everything before the run folder is touched.

        ValueError on all ranks, for people. Every rank must call.
        """
        check(config)
        engine = config.engine
        mesh = topology.start(
            engine.ranks_per_candidate,
            engine.device,
            threads=engine.threads,
            deterministic=engine.deterministic,
            silence_seconds=engine.silence_seconds,
            hang_seconds=engine.hang_seconds,
            facts=facts(config),
        )
        report_exceptions(mesh.control)
        try:
            return cls._opened(config, folder, mesh, accepts_changes)
        except ValueError as error:
            mesh.control.fail(str(error))
            raise

    @classmethod
    def _opened(
        cls, config: Config, folder: Path, mesh: Topology, accepts_changes: bool
    ) -> Session:
        together(
            lambda: check_compiler(config.engine.compile, mesh.device), mesh.world, mesh.device
        )
        context, paths = set_up(config, mesh), RunPaths(folder)

        def chosen() -> tuple[Recipe, tuple[str, ...]]:
            start, notes = begin(config, context.info, paths.dense)
            return check(config, start), notes

        recipe, notes = together(chosen, mesh.world, mesh.device)
        context = replace(context, recipe=recipe)
        count = survivors(config, context.info)
        plan = make_plan(recipe, mesh.num_groups, sizes(config, context.info), count)
        _check_dense(context, paths)
        lock, is_resumed = _entered(paths, config, mesh, accepts_changes)
        if mesh.world.is_first:
            write_text(paths.plan, json_text(PlanFile.model_validate(plan.as_json()).as_json()))
            _remove_stop_file(paths)
        return cls(context, paths, plan, is_resumed, lock, notes)

    def run(self) -> None:
        """Run to the end; rank 0 shows the progress."""
        mesh = self.context.mesh
        log = Logbook(
            self.paths,
            is_main=mesh.world.is_first,
            group=mesh.group,
            is_leader=mesh.is_leader,
            num_phases=len(self.plan.phases),
            tensorboard=self.context.config.records.tensorboard,
            score=self.context.task.score,
        )
        console = Console()
        with ExitStack() as stack:
            if self.lock:
                stack.callback(self.lock.release)
            if mesh.world.is_first:  # the others print nothing
                screen = stack.enter_context(Screen(self.paths.progress, console, mesh.num_groups))
                screen.headline(self._headline())
                for note in self.notes:
                    screen.say(note)
            self._log_start(log)
            for note in self.notes:
                log.event(WarningEvent(message=note))
            mesh.control.on_loss = partial(_record_fault, log)
            mesh.control.listen(self.paths.stop)
            stop_on_signals(mesh.control)
            try:
                summary = experiment.run(self.context, log)
            except Stopped:
                reason = mesh.control.leave()
                if mesh.control.lost is None:
                    log.event(StoppedEvent(reason=reason))
                raise Stopped(reason) from None
        if mesh.world.is_first:
            console.print(run_table(summary))
            if (line := extent(summary)) is not None:
                console.print(line, soft_wrap=True, highlight=False, markup=False)
            console.print(self._result_line(), soft_wrap=True, highlight=False)
        topology.stop(mesh)

    def _log_start(self, log: Logbook) -> None:
        mesh, task = self.context.mesh, self.context.task
        log.event(
            StartEvent(
                ranks=mesh.world.size,
                groups=mesh.num_groups,
                resumed=self.is_resumed,
                task=self.context.info.task,
                score=task.score,
                facts={**task.facts(), **self.context.loaders.facts},
            )
        )

    def _headline(self) -> str:
        config, mesh = self.context.config, self.context.mesh
        verb = "goes on" if self.is_resumed else "starts"
        return (
            f"{config.name} {verb}: {config.method.name} on {config.data.name}, "
            f"{mesh.world.size} ranks in {mesh.num_groups} groups, {mesh.device.type}"
        )

    def _result_line(self) -> str:
        if not self.plan.phases:
            return f"dense weights: {self.paths.dense / WEIGHTS}"
        return f"soup: {self.paths.soup(len(self.plan.phases)) / WEIGHTS}"
