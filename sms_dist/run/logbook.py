"""The records that a rank writes while it runs: journal, progress and TensorBoard."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter, summary

from sms_dist.base.files import Dispensable
from sms_dist.run.journal import Event, Journal
from sms_dist.run.paths import RunPaths
from sms_dist.run.progress import ProgressWriter, Stage
from sms_dist.run.schema import Epoch
from sms_dist.tasks import SCORES


class _Average(Protocol):
    @property
    def loss(self) -> float: ...


class _Meter(Protocol):
    def average(self) -> _Average: ...


class Logbook:
    """All records of one rank; ranks that write for no group write nothing.

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
        """Write this group's position, on its leader."""
        if self._progress:
            self._progress.update(force=True, stage=stage, num_phases=self._num_phases, **position)

    def watcher(self, name: str, num_epochs: int, num_steps: int, speaks: bool) -> GroupWatcher:
        """Return the watcher of a training; `name` is its folder below tensorboard/.

        `speaks`: this rank writes for all that train it.
        """
        folder = self.paths.tensorboard / name if speaks and self._has_boards else None
        return GroupWatcher(self._progress if speaks else None, folder, num_epochs, num_steps)

    def close(self) -> None:
        """End the records."""
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
        """`folder` is that of the curves; None: draw none."""
        self._progress, self._folder = progress, folder
        self.num_epochs, self._num_steps = num_epochs, num_steps
        self._board: CandidateBoard | None = None
        self._start = self._epoch_start = time.monotonic()
        self._first = 0  # steps that were done by earlier starts,
        self._earlier = 0.0  # and the seconds they took
        self.resumed_at: list[int] = []  # at which steps
        self._last_update = 0.0
        self.stands_for = 1  # candidates: one of a pack reports the progress of all

    @property
    def seconds(self) -> float:
        """The seconds that the training has taken, in this start and in those before."""
        return self._earlier + time.monotonic() - self._start

    def facts(self) -> dict[str, Any]:
        """Return the facts for a later start, which a checkpoint records."""
        return {"seconds": self.seconds, "resumed_at": self.resumed_at}

    def resume(self, document: Mapping[str, Any]) -> None:
        """Go on after earlier starts, from the document of their checkpoint."""
        self._first, self._earlier = document["steps"], document["seconds"]
        self.resumed_at = [*document["resumed_at"], self._first]
        self._start = self._epoch_start = time.monotonic()
        self._open_board(len(document["epochs"]) + 1)

    def step(self, epoch: int, step: int, meter: _Meter, num_samples: int) -> None:
        now, is_last = time.monotonic(), step == self._num_steps
        if self._progress is None or not self.stands_for:
            return
        if now - self._last_update < 0.5 and not is_last:
            return  # reading the meter waits for the device
        self._last_update = now
        done = (epoch - 1) * self._num_steps + step
        left = self.num_epochs * self._num_steps - done
        own = done - self._first  # steps of this start
        samples, seconds = min(step, own) * num_samples, now - self._epoch_start
        speed = self.stands_for * samples / max(seconds, 1e-9)
        is_steady = is_last or seconds > 2  # the first steps are slow and say little
        self._progress.update(
            force=is_last,
            epoch=epoch,
            num_epochs=self.num_epochs,
            step=step,
            num_steps=self._num_steps,
            loss=meter.average().loss,
            samples_per_second=speed if is_steady else None,
            eta_seconds=left * (now - self._start) / max(own, 1) if is_steady else None,
        )

    def epoch(self, epoch: Epoch) -> None:
        now = time.monotonic()
        seconds, self._epoch_start = now - self._epoch_start, now
        # Of an epoch that an earlier start began, only this fraction was trained here.
        fraction = min(1.0, epoch.epoch - self._first / self._num_steps)
        self._open_board(1)
        if self._board:
            self._board.epoch(
                epoch.epoch,
                loss=epoch.loss,
                accuracy=epoch.accuracy,
                learning_rate=epoch.learning_rate,
                samples_per_second=fraction * epoch.num_samples / max(seconds, 1e-9),
            )

    def close(self, final: Mapping[str, float] | None = None) -> None:
        """End the curves with the final measurements."""
        self._open_board(self.num_epochs + 1)
        if self._board:
            self._board.final(self.num_epochs, final or {})
            self._board.close()

    def _open_board(self, resume_at: int) -> None:
        """Open the curves; points of an interrupted start from this epoch on are drawn again."""
        if self._board is None and self._folder is not None:
            self._board = CandidateBoard(self._folder, resume_at)


# The entries are regular expressions over tags, except for the names at the left.
CHARTS = {
    "L2 distances": ["Multiline", [r"^distance/(l2|barycentre)"]],
    "angles between candidates, degrees": ["Multiline", [r"^distance/angle"]],
    "sparsity": ["Multiline", [r"^sparsity$"]],
    "sparsity by layer": ["Multiline", [r"^layer_sparsity/"]],
}


class _Board:
    """Events of one folder. A run goes on where they cannot be written, with one warning.

    The thread in which the library writes dies of an error of the disk, and raises it again in
    whoever flushes. What it had not written is then missing from the curves; the next events go to
    a new file, written by a new thread.
    """

    def __init__(self, folder: Path, resume_at: int | None) -> None:
        self._folder, self._purge_step = folder, resume_at
        self._writer: SummaryWriter | None = None
        self._dispensable = Dispensable()

    def close(self) -> None:
        """Flush and end the thread; drawing afterwards opens another file."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(OSError):  # every drawing was flushed, or its failure said
                writer.close()

    def _draw(self, add: Callable[[SummaryWriter], None]) -> None:
        """Add events and wait until they are written."""
        with self._dispensable.attempt(self._folder):
            try:
                if self._writer is None:
                    self._writer = SummaryWriter(self._folder, purge_step=self._purge_step)
                add(self._writer)
                self._writer.flush()
                self._purge_step = None
            except OSError:
                self.close()
                raise


def _report(args: threading.ExceptHookArgs, others: Callable[..., Any]) -> None:
    """Leave out the traceback of a writer whose disk failed: `_Board` says it in a line."""
    is_writer = type(args.thread).__module__ == "tensorboard.summary.writer.event_file_writer"
    if not (is_writer and isinstance(args.exc_value, OSError)):
        others(args)


threading.excepthook = partial(_report, others=threading.excepthook)


class CandidateBoard(_Board):
    """One candidate's curves over its epochs.

    `resume_at`: hide what an interrupted start drew from this epoch on, it is drawn again.
    """

    def __init__(self, folder: Path, resume_at: int | None = None) -> None:
        super().__init__(folder, resume_at)

    def epoch(
        self,
        epoch: int,
        *,
        loss: float,
        learning_rate: float,
        accuracy: float,
        samples_per_second: float,
    ) -> None:
        """Draw a point on every curve, epochs counted from 1."""
        values = {
            "train/loss": loss,
            "train/accuracy": accuracy,
            "train/learning_rate": learning_rate,
            "speed/samples_per_second": samples_per_second,
        }
        self._draw(lambda writer: _add_scalars(writer, values, epoch))

    def final(self, epoch: int, values: Mapping[str, float | None]) -> None:
        """Draw the measurements after the last epoch, such as the test score."""
        self._draw(lambda writer: _add_scalars(writer, _prefixed("final", values), epoch))


class RunBoard(_Board):
    """The run over its phases: scores, sparsities, distances, surviving weights.

    `score` names the metric of the scores. `resume_at`: hide what an interrupted start drew from
    this phase on, it is drawn again.
    """

    def __init__(self, folder: Path, score: str = "accuracy", resume_at: int | None = None) -> None:
        super().__init__(folder, resume_at)
        self._score = f"test_{score}"
        first = {f"test {SCORES[score].label}": ["Multiline", [rf"^{self._score}/"]]}
        layout = {"phases": first | CHARTS}
        self._draw(lambda writer: writer.add_custom_scalars(layout))
        self._dense: float | None = None

    def dense(self, test_score: float) -> None:
        """Set the score of the dense model, a level line beside those of the phases."""
        self._dense = test_score

    def phase(
        self,
        phase: int,
        scalars: Mapping[str, float | None],
        sparsity: float,
        layer_sparsities: Mapping[str, float],
        distances: Mapping[str, float],
        weights: Mapping[str, Tensor],
    ) -> None:
        """Draw a point on every curve; `scalars` are test scores, `weights` the surviving ones."""
        scores = {**scalars, "dense": self._dense}

        def add(writer: SummaryWriter) -> None:
            _add_scalars(writer, _prefixed(self._score, scores), phase)
            _add_scalars(writer, {"sparsity": sparsity}, phase)
            _add_scalars(writer, _prefixed("layer_sparsity", layer_sparsities), phase)
            _add_scalars(writer, _prefixed("distance", distances), phase)
            for layer, values in weights.items():
                values = values.detach().float().cpu()
                values = values[torch.isfinite(values)]  # a histogram has no place for the others
                if values.numel():
                    writer.add_histogram(f"weights/{layer}", values, phase)

        self._draw(add)

    def hparams(
        self, hparams: Mapping[str, bool | str | float | int], metrics: Mapping[str, float]
    ) -> None:
        """Write the row of this run in the HPARAMS tab, with the final metrics."""
        tagged = {f"final/{name}": value for name, value in metrics.items()}

        def add(writer: SummaryWriter) -> None:
            # `writer.add_hparams` would begin another run, below this one.
            for part in summary.hparams(dict(hparams), tagged):  # type: ignore[no-untyped-call]
                writer.file_writer.add_summary(part)  # type: ignore[attr-defined]
            _add_scalars(writer, tagged, 0)

        self._draw(add)


def _add_scalars(writer: SummaryWriter, values: Mapping[str, float | None], step: int) -> None:
    for tag, value in values.items():
        if value is not None:
            writer.add_scalar(tag, value, step)


def _prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}/{name}": value for name, value in values.items()}
