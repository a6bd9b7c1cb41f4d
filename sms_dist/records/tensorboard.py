"""TensorBoard views of a run: the curves of each candidate, and the phases of the whole run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import summary

from sms_dist.records.event_file import EventFile
from sms_dist.tasks.scores import SCORES

# The entries are regular expressions over tags, except for the names at the left.
CHARTS = {
    "L2 distances": ["Multiline", [r"^distance/(l2|barycentre)"]],
    "angles between candidates, degrees": ["Multiline", [r"^distance/angle"]],
    "sparsity": ["Multiline", [r"^sparsity$"]],
    "sparsity by layer": ["Multiline", [r"^layer_sparsity/"]],
}
# The borders of a histogram's bins: TensorBoard's own, 10 % apart on both sides of zero.
_ABOVE = [1e-12 * 1.1**k for k in range(774)]
BINS = [*(-border for border in reversed(_ABOVE)), 0.0, *_ABOVE]


class CandidateBoard:
    """One candidate's curves over its epochs.

    `resume_at`: hide what an interrupted start drew from this epoch on, it is drawn again.
    """

    def __init__(self, folder: Path, resume_at: int | None = None) -> None:
        self._writer = EventFile(folder, resume_at)

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
        _add_scalars(self._writer, values, epoch)
        self._writer.flush()

    def final(self, epoch: int, values: Mapping[str, float | None]) -> None:
        """What was measured after the last epoch, such as the test score."""
        _add_scalars(self._writer, _prefixed("final", values), epoch)
        self._writer.flush()

    def close(self) -> None:
        self._writer.flush()


class RunBoard:
    """The run over its phases: scores, sparsities, distances, surviving weights.

    `score` names the metric of the scores. `resume_at`: hide what an interrupted start drew from
    this phase on, it is drawn again.
    """

    def __init__(self, folder: Path, score: str = "accuracy", resume_at: int | None = None) -> None:
        self._writer = EventFile(folder, resume_at)
        self._score = f"test_{score}"
        first = {f"test {SCORES[score].label}": ["Multiline", [rf"^{self._score}/"]]}
        self._writer.add(summary.custom_scalars({"phases": first | CHARTS}))  # type: ignore[no-untyped-call]
        self._writer.flush()
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
        _add_scalars(self._writer, _prefixed(self._score, scores), phase)
        _add_scalars(self._writer, {"sparsity": sparsity}, phase)
        _add_scalars(self._writer, _prefixed("layer_sparsity", layer_sparsities), phase)
        _add_scalars(self._writer, _prefixed("distance", distances), phase)
        for layer, values in weights.items():
            values = values.detach().float().cpu()
            values = values[torch.isfinite(values)]  # a histogram has no place for the others
            if values.numel():
                drawn = summary.histogram(f"weights/{layer}", values.numpy(), BINS)  # type: ignore[no-untyped-call]
                self._writer.add(drawn, phase)
        self._writer.flush()

    def hparams(
        self, hparams: Mapping[str, bool | str | float | int], metrics: Mapping[str, float]
    ) -> None:
        """The row of this run in the HPARAMS tab, with the final metrics."""
        tagged = {f"final/{name}": value for name, value in metrics.items()}
        for part in summary.hparams(dict(hparams), tagged):  # type: ignore[no-untyped-call]
            self._writer.add(part)
        _add_scalars(self._writer, tagged, 0)
        self._writer.flush()

    def close(self) -> None:
        self._writer.flush()


def _add_scalars(writer: EventFile, values: Mapping[str, float | None], step: int) -> None:
    for tag, value in values.items():
        if value is not None:
            writer.add(summary.scalar(tag, value), step)  # type: ignore[no-untyped-call]


def _prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}/{name}": value for name, value in values.items()}
