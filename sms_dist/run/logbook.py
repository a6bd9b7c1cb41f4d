"""What a rank writes down while it runs: rank 0 for the run, leaders for their groups."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from sms_dist.run.events import Event
from sms_dist.run.journal import Journal
from sms_dist.run.paths import RunPaths
from sms_dist.run.progress import ProgressWriter, Stage
from sms_dist.run.schema import Epoch
from sms_dist.run.tensorboard import CandidateBoard, RunBoard


class _Average(Protocol):
    @property
    def loss(self) -> float: ...


class _Meter(Protocol):
    def average(self) -> _Average: ...


class Logbook:
    """All records of one rank. Everything here is silent on ranks that speak for nobody.

    `score` names the metric by which models are compared.
    """

    def __init__(
        self,
        paths: RunPaths,
        *,
        is_main: bool,
        group: int,
        is_leader: bool,
        num_phases: int,
        tensorboard: bool,
        score: str,
    ) -> None:
        self.paths, self.is_main, self.is_leader = paths, is_main, is_leader
        self._journal = Journal(paths.journal) if is_main else None
        self._progress = ProgressWriter(paths.progress, group) if is_leader else None
        self._num_phases, self._has_boards = num_phases, tensorboard
        self.board = RunBoard(paths.tensorboard, score) if is_main and tensorboard else None

    def event(self, event: Event) -> None:
        """Write a line of the journal, on rank 0."""
        if self._journal:
            self._journal.write(event)

    def set_stage(self, stage: Stage, **position: Any) -> None:
        """Where this group is now, by its leader."""
        if self._progress:
            self._progress.update(force=True, stage=stage, num_phases=self._num_phases, **position)

    def watcher(self, name: str, num_epochs: int, num_steps: int, speaks: bool) -> GroupWatcher:
        """Somebody to look on while `name`, a folder below tensorboard/, is trained.

        `speaks`: is this the rank that writes for all that train it?
        """
        folder = self.paths.tensorboard / name if speaks and self._has_boards else None
        return GroupWatcher(self._progress if speaks else None, folder, num_epochs, num_steps)

    def close(self) -> None:
        self.set_stage("done")
        if self.board:
            self.board.close()


class GroupWatcher:
    """Turns a group's steps into progress, and its epochs into curves."""

    def __init__(
        self,
        progress: ProgressWriter | None,
        folder: Path | None,
        num_epochs: int,
        num_steps: int,
    ) -> None:
        """`folder`: of the curves, if there are to be any."""
        self._progress, self._folder = progress, folder
        self.num_epochs, self._num_steps = num_epochs, num_steps
        self._board: CandidateBoard | None = None
        self._start = self._epoch_start = time.monotonic()
        self._first = 0  # steps that were done by earlier starts,
        self._earlier = 0.0  # and the seconds they took
        self.resumed_at: list[int] = []  # at which steps
        self._told = 0.0
        self.stands_for = 1  # candidates: one of a pack tells of the progress of all

    @property
    def seconds(self) -> float:
        """That the training has taken, in this start and in those before."""
        return self._earlier + time.monotonic() - self._start

    def facts(self) -> dict[str, Any]:
        """What a later start has to know; it is in the document of a recovery point."""
        return {"seconds": self.seconds, "resumed_at": self.resumed_at}

    def resume(self, document: Mapping[str, Any]) -> None:
        """Earlier starts have come to the recovery point that this document is of."""
        self._first, self._earlier = document["steps"], document["seconds"]
        self.resumed_at = [*document["resumed_at"], self._first]
        self._start = self._epoch_start = time.monotonic()
        self._open_board(len(document["epochs"]) + 1)

    def step(self, epoch: int, step: int, meter: _Meter, num_samples: int) -> None:
        now, is_last = time.monotonic(), step == self._num_steps
        if self._progress is None or not self.stands_for:
            return
        if now - self._told < 0.5 and not is_last:
            return  # reading the meter waits for the device
        self._told = now
        done = (epoch - 1) * self._num_steps + step
        left = self.num_epochs * self._num_steps - done
        own = done - self._first  # steps of this start
        samples, seconds = min(step, own) * num_samples, now - self._epoch_start
        speed = self.stands_for * samples / max(seconds, 1e-9)
        is_settled = is_last or seconds > 2  # the first steps are slow and say little
        self._progress.update(
            force=is_last,
            epoch=epoch,
            num_epochs=self.num_epochs,
            step=step,
            num_steps=self._num_steps,
            loss=meter.average().loss,
            samples_per_second=speed if is_settled else None,
            eta_seconds=left * (now - self._start) / max(own, 1) if is_settled else None,
        )

    def epoch(self, epoch: Epoch) -> None:
        now = time.monotonic()
        seconds, self._epoch_start = now - self._epoch_start, now
        # Of an epoch that was begun by an earlier start only the rest was seen.
        seen = min(1.0, epoch.epoch - self._first / self._num_steps)
        self._open_board(1)
        if self._board:
            self._board.epoch(
                epoch.epoch,
                loss=epoch.loss,
                accuracy=epoch.accuracy,
                learning_rate=epoch.learning_rate,
                samples_per_second=seen * epoch.num_samples / max(seconds, 1e-9),
            )

    def close(self, final: Mapping[str, float] | None = None) -> None:
        """End the curves with what was measured at the end."""
        self._open_board(self.num_epochs + 1)
        if self._board:
            self._board.final(self.num_epochs, final or {})
            self._board.close()

    def _open_board(self, resume_at: int) -> None:
        """What an interrupted start drew from this epoch on is drawn again."""
        if self._board is None and self._folder is not None:
            self._board = CandidateBoard(self._folder, resume_at)
