"""The paper's figures by name, drawn with matplotlib as PNG and as SVG whose text stays text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from sms_dist.reports import scores
from sms_dist.reports.captions import corruption_title
from sms_dist.reports.frame import GOAL, SECTIONS
from sms_dist.reports.runs import Run, grouped, key_of
from sms_dist.run.schema import PhaseMetrics

HYPERPARAMETERS = {
    "seed": "random seed",
    "weight_decay": "weight decay",
    "epochs": "retraining length",
    "learning_rate": "initial learning rate",
    "schedule": "schedule",
}
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


@dataclass(frozen=True)
class Figure:
    """A figure before it is drawn: its points, in the order of the legend, and how to draw them.

    Pairs have the columns panel, label, x, y; curves have label, x, mean, min, max over seeds.
    """

    draw: Callable[[Figure], Canvas]
    title: str
    x_label: str
    y_label: str
    points: pd.DataFrame
    legend: str = ""  # what the curves differ in

    @property
    def looks(self) -> dict[str, tuple[str, str]]:
        """A colour and a marker for each label."""
        labels = self.points["label"].unique()
        return dict(zip(labels, cycle(zip(COLORS, MARKERS, strict=True)), strict=False))


def pairs(runs: Sequence[Run]) -> Iterator[Figure]:
    """Yield figure 3: soups of two candidates against the better one, a panel per phase."""
    for own in _settings(_soups(runs)):
        yield from _scatter(own, own[0].score, own[0].title)


def ood_pairs(runs: Sequence[Run]) -> Iterator[Figure]:
    """Yield figure 7: the same on corrupted samples, of each kind; of runs with two candidates."""
    for own in _settings(_soups(runs), lambda run: run.corruptions):
        if own[0].corruptions:
            title = f"{own[0].title}, {corruption_title(own[0].corruptions)}"
            yield from _scatter(own, scores.OOD, title)


def over_sparsity(runs: Sequence[Run]) -> Iterator[Figure]:
    """Yield figure 4a: soup minus best candidate of one-shot runs, a curve per soup rule."""
    for own in _settings(_soups(_shots(runs)), lambda run: run.m, GOAL):
        points = [(r.place, r.rule, _percent(r), r, r.phases[-1].best_candidate) for r in own]
        yield from _curves(own, points, "sparsity (%)", "best candidate", "soup rule")


def over_epochs(runs: Sequence[Run]) -> Iterator[Figure]:
    """Yield figure 4b: soup minus IMP_mx of the same settings and seed, a curve per sparsity."""

    def rival(run: Run) -> object:
        settings = key_of(run, lambda key: key == "score" or key.startswith(SECTIONS))
        return settings, run.m, run.config.seed

    times = [run for run in _shots(runs) if run.config.method.name == "imp_m_times"]
    rivals = {rival(run): run.phases[-1].soup_score for run in times}
    soups = [run for run in _soups(_shots(runs)) if rival(run) in rivals]
    for own in _settings(soups, lambda run: run.m, GOAL):
        points = [
            (_percent(r), f"{_percent(r):g}%", r.config.retrain.epochs, r, rivals[rival(r)])
            for r in own
        ]
        name = rf"IMP$_{{{own[0].num_candidates[0]}\times}}$"
        yield from _curves(own, points, "retraining epochs of a candidate", name, "sparsity")


FIGURES: dict[str, tuple[Callable[[Sequence[Run]], Iterator[Figure]], str]] = {
    "figure_3": (pairs, "runs of sms with soup.pairs=true, or with candidates.count=2"),
    "figure_4a": (over_sparsity, "runs of sms with pruning.phases=1 at several goal sparsities"),
    "figure_4b": (
        over_epochs,
        "runs of sms and of imp_m_times with pruning.phases=1 and several retrain.epochs",
    ),
    "figure_7": (
        ood_pairs,
        "runs of sms with candidates.count=2, data.corruptions and data.corrupt_candidates=true",
    ),
}


def figures(runs: Sequence[Run]) -> tuple[dict[str, Figure], list[str]]:
    """Return the figures by file name, and a note on what each that cannot be drawn needs."""
    made: dict[str, Figure] = {}
    missing = []
    for name, (build, needs) in FIGURES.items():
        built = list(build(runs))
        if not built:
            missing.append(f"{name.replace('_', ' ')} is not drawn: it needs {needs}")
        for number, figure in enumerate(built, 1):
            made[name if len(built) == 1 else f"{name}_{number}"] = figure
    return made, missing


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write stem.png and stem.svg and return their paths."""
    with matplotlib.rc_context(STYLE):
        canvas = figure.draw(figure)
        files = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("png", "svg")]
        canvas.savefig(files[0])
        canvas.savefig(files[1], metadata={"Date": None})
    return files


def _soups(runs: Iterable[Run]) -> list[Run]:
    return [run for run in runs if run.config.method.name == "sms"]


def _shots(runs: Iterable[Run]) -> list[Run]:
    return [run for run in runs if run.is_one_shot and run.final]


def _settings(
    runs: Iterable[Run], kind: Callable[[Run], str] = lambda run: "", *free: str
) -> Iterable[list[Run]]:
    """Return the runs of each figure; soup rules and what retraining varies may differ inside."""
    sections = tuple(section for section in SECTIONS if section not in ("retrain.", "engine."))

    def must_agree(key: str) -> bool:
        return key == "score" or (key.startswith(sections) and key not in free)

    return grouped(runs, lambda run: (kind(run), key_of(run, must_agree))).values()


def _percent(run: Run) -> float:
    """Return the sparsity of a one-shot run in percent: its goal, or what it reached."""
    return round(100 * (run.goal or run.phases[-1].sparsity), 6)


def _curves(
    runs: Sequence[Run], points: Sequence[tuple[object, ...]], x_label: str, rival: str, legend: str
) -> Iterator[Figure]:
    """Yield the figure, if a curve has two points: gains of soups over their rivals.

    `points` are order and label of the curve, x, run and score of its rival. At each x the
    configuration with the highest mean gain over its seeds is shown.
    """
    frame = pd.DataFrame(points, columns=["order", "label", "x", "run", "rival"])
    soups = frame["run"].map(lambda run: run.phases[-1].soup_score)
    gains = soups.astype(float) - frame["rival"].astype(float)
    frame["gain"] = scores.score(runs[0].score).scale * gains
    frame["configuration"] = frame["run"].map(key_of)
    of_curve = ["order", "label", "x"]
    seeds = frame.dropna(subset="gain").groupby([*of_curve, "configuration"], sort=False)["gain"]
    means = seeds.agg(["mean", "min", "max"]).reset_index()
    means = means.sort_values("mean", ascending=False, kind="stable").drop_duplicates(of_curve)
    if means.duplicated("label").any():
        title = f"{runs[0].title}, one shot, m = {runs[0].num_candidates[0]}"
        unit = scores.axis(runs[0].score, "percentage points")
        y_label = f"soup \N{MINUS SIGN} {rival}\n{unit}"
        yield Figure(_draw_curves, title, x_label, y_label, means.sort_values(of_curve), legend)


def _scatter(runs: Sequence[Run], metric: str, title: str) -> Iterator[Figure]:
    """Yield the figure, if there is something to draw."""
    places = list(HYPERPARAMETERS.values())
    rows = []
    for run in runs:
        candidates = run.config.candidates
        keys = dict.fromkeys([*candidates.vary, *(key for o in candidates.overrides for key in o)])
        label = " and ".join(HYPERPARAMETERS.get(key, key) for key in keys or ("seed",))
        order = places.index(label) if label in places else len(places)
        for phase in run.phases:
            own = _pairs(run, phase, metric)
            rows += [(phase.phase, run, phase.sparsity, order, label, x, y) for x, y in own]
    columns = ["phase", "run", "sparsity", "order", "label", "x", "y"]
    points = pd.DataFrame(rows, columns=columns).sort_values(["order", "label"], kind="stable")
    if not rows:
        return
    reached = points.drop_duplicates(["phase", "run"]).groupby("phase")["sparsity"].mean()
    is_one_shot = all(run.is_one_shot for run in runs)
    points["panel"] = [
        f"sparsity {100 * reached[k]:.1f}% ({'one shot' if is_one_shot else f'phase {k}'})"
        for k in points["phase"]
    ]
    measure = scores.axis(metric)
    x_label, y_label = f"better of the two, {measure}", f"soup of the two, {measure}"
    yield Figure(_draw_scatter, title, x_label, y_label, points)


def _pairs(run: Run, phase: PhaseMetrics, metric: str) -> Iterator[tuple[float, float]]:
    """Yield (better of two, soup of the two), in percent where they are fractions."""
    scale, own = scores.score(metric).scale, run.candidate_metrics(phase.phase, metric)
    measured = {pair.candidates: pair.test(metric) for pair in phase.pairs or ()}
    is_measured = any(soup is not None for soup in measured.values())
    if not is_measured and len(phase.candidates) == 2 and run.rule == "uniform":
        first, second = (candidate.index for candidate in phase.candidates)
        measured = {(first, second): run.metric(f"phase_{phase.phase}/soup", metric)}
    for (i, j), soup in measured.items():
        if i in own and j in own and soup is not None:
            yield scale * max(own[i], own[j]), scale * soup


def _draw_scatter(figure: Figure) -> Canvas:
    """Return square panels with the same scale on both axes; above the diagonal the soup wins."""
    panels = list(figure.points.groupby("phase"))
    columns = min(len(panels), MOST_COLUMNS)
    rows = -(-len(panels) // columns)
    canvas = Canvas(figsize=(3.6 * columns + 0.4, 3.9 * rows + 0.7), layout="constrained")
    every: list[Axes] = list(canvas.subplots(rows, columns, squeeze=False).flat)
    handles: dict[object, Any] = {}
    for axes, (_, points) in zip(every, panels, strict=False):
        _draw_panel(axes, points, figure.looks)
        axes.set_xlabel(figure.x_label)
        handles |= {h.get_label(): h for h in axes.get_legend_handles_labels()[0]}
    for axes in every[len(panels) :]:
        axes.set_visible(False)
    for axes in every[::columns]:
        axes.set_ylabel(figure.y_label)
    canvas.suptitle(figure.title, fontsize=11)
    canvas.legend(
        handles=[handles[label] for label in (*figure.looks, NO_GAIN)],
        loc="outside lower center",
        ncols=2 if columns == 1 else 5,
    )
    return canvas


def _draw_panel(axes: Axes, points: pd.DataFrame, looks: dict[str, tuple[str, str]]) -> None:
    for label, own in points.groupby("label", sort=False):
        color, marker = looks[label]
        look: dict[str, Any] = {
            "color": color,
            "marker": marker,
            "s": 26,
            "alpha": 0.8,
            "linewidths": 0,
        }
        axes.scatter(own["x"], own["y"], label=label, **look)
    low, high = points[["x", "y"]].min().min(), points[["x", "y"]].max().max()
    margin = max(0.08 * (high - low), 0.1)
    limits = low - margin, high + margin
    axes.plot(limits, limits, color=GREY, linestyle="--", linewidth=1, label=NO_GAIN)
    axes.set(xlim=limits, ylim=limits, aspect="equal", title=points["panel"].iloc[0])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))


def _draw_curves(figure: Figure) -> Canvas:
    """Return means with bands from the lowest to the highest seed, around a line at zero."""
    canvas = Canvas(figsize=(5.0, 4.0), layout="constrained")
    axes: Axes = canvas.subplots()
    axes.axhline(0, color=GREY, linestyle="--", linewidth=1)
    for label, own in figure.points.groupby("label", sort=False):
        color, marker = figure.looks[label]
        axes.fill_between(own["x"], own["min"], own["max"], color=color, alpha=0.18, lw=0)
        axes.plot(own["x"], own["mean"], label=label, color=color, marker=marker, ms=5, lw=1.5)
    axes.set(xlabel=figure.x_label, ylabel=figure.y_label, title=figure.title)
    canvas.legend(loc="outside lower center", ncols=4, title=figure.legend)
    return canvas
