"""The runs of a sweep, all checked before any of them is started, as a list and as a table."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from sms_dist.base import plain
from sms_dist.cli.plan import planned
from sms_dist.cli.sweep_points import Point, dense_point, points, starts_from_dense
from sms_dist.config import Config
from sms_dist.config import file as config_file
from sms_dist.config.compare import differences
from sms_dist.reports import scores
from sms_dist.run.paths import RunPaths
from sms_dist.run.schema import Summary, parsed


@dataclass(frozen=True)
class SweepRun:
    """A point that can be run; `after`: the folder of the dense model that it starts from."""

    point: Point
    settings: tuple[str, ...]
    config: Config
    folder: Path
    num_ranks: int
    after: Path | None = None

    @property
    def paths(self) -> RunPaths:
        return RunPaths(self.folder)

    def arguments(self, file: Path | None) -> list[str]:
        """Return what `sms-dist run` and the launcher are given."""
        words = ["--config", str(file)] if file else []
        words += ["--run-dir", str(self.folder)]
        return words + [word for setting in self.settings for word in ("--set", setting)]


def sweep_runs(
    file: Path | None,
    settings: Sequence[str],
    *,
    to: Path | None,
    num_ranks: int | None,
    is_sharing: bool,
) -> list[SweepRun]:
    """Return the dense models that are shared, then the points in order.

    ValueError for the first point that could not run, or whose folder holds another run.
    """

    def planned_run(point: Point) -> SweepRun:
        config = config_file.load(file, point.settings)
        ranks = planned(config, num_ranks).num_ranks
        root = to or Path(config.records.root) / config.name
        return SweepRun(point, point.settings, config, root / point.folder, ranks)

    runs: list[SweepRun] = []
    dense: dict[Path, SweepRun] = {}
    grid = points(settings)
    for number, point in enumerate(grid, 1):
        try:
            run = planned_run(point)
            if is_sharing and run.config.pretrain.from_ is None and starts_from_dense(run.config):
                source = planned_run(dense_point(point))
                dense.setdefault(source.folder, source)
                # absolute, as jobs may start elsewhere
                start = f"pretrain.from={json.dumps(str(source.folder.absolute()))}"
                with_start = (*run.settings, start)
                config = config_file.load(file, with_start)
                run = replace(run, settings=with_start, config=config, after=source.folder)
            state(run)
        except ValueError as error:
            if len(grid) == 1:
                raise
            raise ValueError(f"point {number} of {len(grid)} ({point.label}): {error}") from None
        runs.append(run)
    runs = [*dense.values(), *runs]
    _check_folders(runs)
    for run in dense.values():
        state(run)
    return runs


def state(run: SweepRun) -> Literal["done", "unfinished", "new"]:
    """Return how far an earlier start has come; ValueError if the folder is another run's."""
    paths = run.paths
    if not paths.config.is_file():
        return "new"
    changed = differences(config_file.load(paths.config), run.config)
    if changed:
        raise ValueError(
            f"the run folder {paths.root} holds a run with another configuration "
            f"({'; '.join(changed)}); name other folders with --to, or remove it"
        )
    return "done" if paths.summary.is_file() else "unfinished"


def result(run: SweepRun) -> str:
    """Return the final test score of a finished run: mIoU 58.73%; "-" where it is not known."""
    try:
        summary = parsed(Summary, plain.read_json(run.paths.summary), "summary.json")
    except ValueError:
        return "-"
    name = summary.score
    return f"{scores.score(name).label} {scores.text(summary.final.test(name), name)}"


def table(runs: Sequence[SweepRun]) -> Table:
    """Return a row per run: its varied settings, its folder, its state."""
    keys = list(dict.fromkeys(key for run in runs for key, _ in run.point.varied))
    rows = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("", *keys, "run folder", "state"):
        rows.add_column(name, overflow="fold")
    for number, run in enumerate(runs, 1):
        varied = dict(run.point.varied)
        values = [varied.get(key, "-") for key in keys]
        rows.add_row(*map(Text, (str(number), *values, str(run.folder), state(run))))
    return rows


def _check_folders(runs: Sequence[SweepRun]) -> None:
    """ValueError where two runs have one folder, or a folder cannot be made or written into."""
    first: dict[Path, SweepRun] = {}
    for run in runs:
        other = first.setdefault(run.folder, run)
        if other is not run:
            raise ValueError(
                f"two points have the run folder {run.folder}: {other.point.label}; and "
                f"{run.point.label}; give each value once"
            )
    for root in {run.folder.parent for run in runs}:
        there = next(path for path in (root, *root.absolute().parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            problem = "cannot be written into" if there.is_dir() else "is no folder"
            raise ValueError(f"{there} {problem}; name another folder for the runs with --to")
