"""The paper's figures as plain data, before anything is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sms_dist.reports.collect import Run


@dataclass(frozen=True)
class Panel:
    """Soups of two against the better of the two, by what varied between them."""

    title: str
    points: dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class Scatter:
    title: str
    measure: str  # of both axes: test accuracy (%)
    panels: tuple[Panel, ...]
    labels: tuple[str, ...]  # of all panels, in the order of the legend


@dataclass(frozen=True)
class Point:
    """A mean over seeds between its extremes."""

    x: float
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Curves:
    title: str
    x_label: str
    y_label: str
    legend: str  # what the curves differ in
    curves: dict[str, list[Point]]


Figure = Scatter | Curves


def soups(runs: Iterable[Run]) -> list[Run]:
    return [run for run in runs if run.method == "sms"]


def agree(*free: str) -> Callable[[str], bool]:
    """The keys on which the runs of a figure have to agree; what retraining varies is not."""
    sections = ("data.", "model.", "pretrain.", "pruning.")
    return lambda key: key == "score" or (key.startswith(sections) and key not in free)
