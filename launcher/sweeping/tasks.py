"""The points of a grid with their run folders, all checked before any of them is started."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from launcher.planned import planned
from sms_dist import config_file, plain_json
from sms_dist.config import Config
from sms_dist.config_compare import differences
from sms_dist.paths import RunPaths
from sms_dist.reports import scores
from sms_dist.run.schema import Summary, parsed
from sms_dist.sweep import Point, dense_point, points, starts_from_dense

State = Literal["done", "unfinished", "new"]


@dataclass(frozen=True)
class Task:
    """A point that can be run; `after`: the run of the dense model that it starts from."""

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
        """What `sms-dist run` and the launcher are given."""
        words = ["--config", str(file)] if file else []
        words += ["--run-dir", str(self.folder)]
        return words + [word for setting in self.settings for word in ("--set", setting)]


def tasks(
    file: Path | None,
    settings: Sequence[str],
    *,
    to: Path | None,
    num_ranks: int | None,
    is_sharing: bool,
) -> list[Task]:
    """Dense models that are shared first, then the points in order.

    ValueError for the first point that could not run, or whose folder holds another run.
    """
    found: list[Task] = []
    dense: dict[Path, Task] = {}
    grid = points(settings)
    for number, point in enumerate(grid, 1):
        try:
            task = _task(file, point, to, num_ranks)
            if is_sharing and task.config.pretrain.from_ is None and starts_from_dense(task.config):
                source = _task(file, dense_point(point), to, num_ranks)
                dense.setdefault(source.folder, source)
                task = _after(file, task, source.folder)
            state(task)
        except ValueError as error:
            if len(grid) == 1:
                raise
            raise ValueError(f"point {number} of {len(grid)} ({point.label}): {error}") from None
        found.append(task)
    everything = [*dense.values(), *found]
    _check_folders(everything)
    for root in {task.folder.parent for task in everything}:
        _check_usable(root)
    for task in dense.values():
        state(task)
    return everything


def state(task: Task) -> State:
    """How far an earlier start has come; ValueError if the folder is another run's."""
    paths = task.paths
    if not paths.config.is_file():
        return "new"
    changed = differences(config_file.load(paths.config), task.config)
    if changed:
        raise ValueError(
            f"the run folder {paths.root} holds a run with another configuration "
            f"({'; '.join(changed)}); name other folders with --to, or remove it"
        )
    return "done" if paths.summary.is_file() else "unfinished"


def result(task: Task) -> str:
    """The final test score of a run that is done: mIoU 58.73%; "-" where it is not known."""
    try:
        summary = parsed(Summary, plain_json.read(task.paths.summary), "summary.json")
    except ValueError:
        return "-"
    name = summary.score
    return f"{scores.score(name).label} {scores.text(summary.final.test(name), name)}"


def _task(file: Path | None, point: Point, to: Path | None, num_ranks: int | None) -> Task:
    config = config_file.load(file, point.settings)
    ranks = planned(config, num_ranks).num_ranks
    root = to or Path(config.records.root) / config.name
    return Task(point, point.settings, config, root / point.folder, ranks)


def _after(file: Path | None, task: Task, source: Path) -> Task:
    """The task with the dense weights of another run; absolute, as jobs may start elsewhere."""
    settings = (*task.settings, f"pretrain.from={json.dumps(str(source.absolute()))}")
    config = config_file.load(file, settings)
    return replace(task, settings=settings, config=config, after=source)


def _check_folders(everything: Sequence[Task]) -> None:
    seen: dict[Path, Task] = {}
    for task in everything:
        other = seen.setdefault(task.folder, task)
        if other is not task:
            raise ValueError(
                f"two points have the run folder {task.folder}: {other.point.label}; and "
                f"{task.point.label}; give each value once"
            )


def _check_usable(root: Path) -> None:
    """The folder can be made, or be written into."""
    there = next(path for path in (root, *root.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        problem = "cannot be written into" if there.is_dir() else "is no folder"
        raise ValueError(f"{there} {problem}; name another folder for the runs with --to")
