"""Figures drawn with matplotlib, as PNG and as SVG whose text stays text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from sms_dist.reports.figure_shapes import Curves, Figure, Panel, Scatter

# Okabe and Ito's colours, which colour-blind people can tell apart; markers help in print.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
NO_GAIN = "no gain"
MOST_COLUMNS = 4
GREY = "#666666"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text, not outlines
    "svg.hashsalt": "sms_dist",  # the same figure, the same file
    "savefig.dpi": 200,
}


def draw(figure: Figure, stem: Path) -> list[Path]:
    """Write stem.png and stem.svg."""
    with matplotlib.rc_context(STYLE):
        canvas = drawn(figure)
        files = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("png", "svg")]
        canvas.savefig(files[0])
        canvas.savefig(files[1], metadata={"Date": None})
    return files


@singledispatch
def drawn(figure: Figure) -> Canvas:
    raise AssertionError(figure)


@drawn.register
def _scatter(figure: Scatter) -> Canvas:
    """Square panels with the same scale on both axes; above the diagonal the soup wins."""
    columns = min(len(figure.panels), MOST_COLUMNS)
    rows = -(-len(figure.panels) // columns)
    size = (3.6 * columns + 0.4, 3.9 * rows + 0.7)
    canvas = Canvas(figsize=size, layout="constrained")
    axes: list[Axes] = list(canvas.subplots(rows, columns, squeeze=False).flat)
    looks = _looks(figure.labels)
    for at, panel in zip(axes, figure.panels, strict=False):
        _panel(at, panel, looks)
        at.set_xlabel(f"better of the two, {figure.measure}")
    for at in axes[len(figure.panels) :]:
        at.set_visible(False)
    for at in axes[::columns]:
        at.set_ylabel(f"soup of the two, {figure.measure}")
    canvas.suptitle(figure.title, fontsize=11)
    handles = {h.get_label(): h for at in axes for h in at.get_legend_handles_labels()[0]}
    canvas.legend(
        handles=[handles[label] for label in (*looks, NO_GAIN)],
        loc="outside lower center",
        ncols=2 if columns == 1 else 5,
    )
    return canvas


def _panel(at: Axes, panel: Panel, looks: dict[str, tuple[str, str]]) -> None:
    for label, points in panel.points.items():
        color, marker = looks[label]
        xs, ys = zip(*points, strict=True)
        at.scatter(xs, ys, label=label, color=color, marker=marker, s=26, alpha=0.8, linewidths=0)
    values = [value for points in panel.points.values() for point in points for value in point]
    margin = max(0.08 * (max(values) - min(values)), 0.1)
    low, high = min(values) - margin, max(values) + margin
    at.plot([low, high], [low, high], color=GREY, linestyle="--", linewidth=1, label=NO_GAIN)
    at.set(xlim=(low, high), ylim=(low, high), aspect="equal", title=panel.title)
    for axis in (at.xaxis, at.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))


@drawn.register
def _curves(figure: Curves) -> Canvas:
    """Means with bands from the lowest to the highest seed, around a line at zero."""
    canvas = Canvas(figsize=(5.0, 4.0), layout="constrained")
    at: Axes = canvas.subplots()
    at.axhline(0, color=GREY, linestyle="--", linewidth=1)
    for (label, (color, marker)), points in zip(
        _looks(list(figure.curves)).items(), figure.curves.values(), strict=True
    ):
        xs = [point.x for point in points]
        at.fill_between(
            xs, [p.low for p in points], [p.high for p in points], color=color, alpha=0.18, lw=0
        )
        at.plot(xs, [p.mean for p in points], label=label, color=color, marker=marker, ms=5, lw=1.5)
    at.set(xlabel=figure.x_label, ylabel=figure.y_label, title=figure.title)
    canvas.legend(loc="outside lower center", ncols=4, title=figure.legend)
    return canvas


def _looks(labels: Sequence[str]) -> dict[str, tuple[str, str]]:
    """A colour and a marker for each label."""
    return dict(zip(labels, cycle(zip(COLORS, MARKERS, strict=True)), strict=False))
