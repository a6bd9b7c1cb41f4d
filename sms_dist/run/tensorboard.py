"""TensorBoard views of a run: the curves of each candidate, and the phases of the whole run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter, summary

from sms_dist.base.disk_errors import Dispensable
from sms_dist.tasks.scores import SCORES

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
        """One point on every curve, epochs counted from 1."""
        values = {
            "train/loss": loss,
            "train/accuracy": accuracy,
            "train/learning_rate": learning_rate,
            "speed/samples_per_second": samples_per_second,
        }
        self._draw(lambda writer: _add_scalars(writer, values, epoch))

    def final(self, epoch: int, values: Mapping[str, float | None]) -> None:
        """What was measured after the last epoch, such as the test score."""
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
        """The dense model's, a level line beside those of the phases."""
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
        """One point on every curve; `scalars` are test scores, `weights` the surviving ones."""
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
        """The row of this run in the HPARAMS tab, with the final metrics."""
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
