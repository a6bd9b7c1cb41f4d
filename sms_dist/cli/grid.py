"""A grid of settings: its points, the names of their folders, the dense models that they share."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal

import yaml

from sms_dist import methods
from sms_dist.base import plain
from sms_dist.cli.commands import check_writable, words
from sms_dist.cli.plan import planned
from sms_dist.config import Config
from sms_dist.config import file as config_file
from sms_dist.run.paths import RunPaths
from sms_dist.run.run_folder import check_same

Pair = tuple[str, str]  # key, value as written

# What decides the dense model, and where it is put; a dense run takes these settings of a point.
DENSE_SECTIONS = ("data", "model", "pretrain", "seed", "engine", "name", "records")
ONLY_DENSE = ("method={name: dense}", "pruning={}", "retrain={}", "candidates={}", "soup={}")

SINGLE = "single"  # the folder of a grid with one point
SPEAKING = ("name", "rule", "schedule", "allocation")  # keys whose values speak for themselves
UNSAFE = re.compile(r"[^A-Za-z0-9_.+-]+")
LONGEST_WORD, LONGEST_NAME = 32, 120


@dataclass(frozen=True)
class Point:
    """One experiment of a grid: all its settings, and those that vary in the grid."""

    settings: tuple[str, ...]
    varied: tuple[Pair, ...]
    is_dense: bool = False  # trains the dense model that others start from

    @property
    def label(self) -> str:
        words = ["dense model"] if self.is_dense else []
        return ", ".join([*words, *(f"{key}={value}" for key, value in self.varied)]) or SINGLE

    @property
    def folder(self) -> str:
        """sms_seed0 for method.name=sms, seed=0: the same whatever other values the grid has."""
        keys = [key for key, _ in self.varied]
        words = ["dense-model"] if self.is_dense else []
        name = "_".join([*words, *(_word(key, value, keys) for key, value in self.varied)])
        if len(name) > LONGEST_NAME:
            return f"{name[:LONGEST_NAME]}_{_digest(name)}"
        return name or SINGLE

    def dense(self) -> Point:
        """Return the run that trains the dense model of this point and nothing else."""
        settings = [each for each in self.settings if _concerns_dense(each)]
        varied = [pair for pair in self.varied if _concerns_dense(pair[0])]
        return Point((*ONLY_DENSE, *settings), tuple(varied), is_dense=True)


@dataclass(frozen=True)
class SweepRun:
    """A point that can be run; `after`: the folder of the dense model that it starts from."""

    point: Point
    settings: tuple[str, ...]
    config: Config
    folder: Path
    num_ranks: int
    after: Path | None = None
    options: tuple[str, ...] = ()  # more of the launcher's

    @property
    def paths(self) -> RunPaths:
        return RunPaths(self.folder)

    def arguments(self, file: Path | None) -> list[str]:
        """Return the options of `sms-dist run` and of the launcher."""
        return [*words(file, self.settings), "--run-dir", str(self.folder), *self.options]

    @property
    def state(self) -> Literal["done", "unfinished", "new"]:
        """How far an earlier start has come; ValueError if the folder is another run's."""
        paths = self.paths
        if not paths.config.is_file():
            return "new"
        check_same(paths, self.config, "name other folders with --to")
        return "done" if paths.summary.is_file() else "unfinished"


def points(settings: Iterable[str]) -> list[Point]:
    """Return the product of all settings, the first one slowest; ValueError without a value."""
    grid = [_values(setting) for setting in settings]
    for key, count in Counter(key for key, _ in grid).items():
        if count > 1:
            raise ValueError(f"--set {key} is there {count} times; write {key}=v1,v2")
    varied = {key for key, values in grid if len(values) > 1}
    grid_points = []
    for values in product(*(values for _, values in grid)):
        pairs = [(key, value) for (key, _), value in zip(grid, values, strict=True)]
        own = tuple(pair for pair in pairs if pair[0] in varied)
        grid_points.append(Point(tuple(f"{key}={value}" for key, value in pairs), own))
    return grid_points


def split(text: str) -> list[str]:
    """Return the values of a YAML list without its brackets, each as it is written."""
    whole = f"[{text}]"
    node = yaml.compose(whole, Loader=yaml.SafeLoader)
    assert isinstance(node, yaml.SequenceNode)
    return [whole[item.start_mark.index : item.end_mark.index].strip() for item in node.value]


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
                source = planned_run(point.dense())
                dense.setdefault(source.folder, source)
                # absolute, as jobs may start elsewhere
                start = f"pretrain.from={json.dumps(str(source.folder.absolute()))}"
                with_start = (*run.settings, start)
                config = config_file.load(file, with_start)
                run = replace(run, settings=with_start, config=config, after=source.folder)
            _ = run.state
        except ValueError as error:
            if len(grid) == 1:
                raise
            raise ValueError(f"point {number} of {len(grid)} ({point.label}): {error}") from None
        runs.append(run)
    runs = [*dense.values(), *runs]
    _check_folders(runs)
    for run in dense.values():
        _ = run.state
    return runs


def starts_from_dense(config: Config) -> bool:
    """Return whether the method begins with the fully trained dense model, and needs no more of it.

    A method that rewinds needs the weights of an epoch; pretrain.keep_epoch may keep them for all.
    """
    recipe = methods.recipe(config)
    is_enough = recipe.kept_epoch == config.pretrain.keep_epoch
    return methods.starts_from_dense(recipe, config) and is_enough


def _values(setting: str) -> tuple[str, list[str]]:
    key, equals, text = setting.partition("=")
    if not equals or not all(key.split(".")):
        raise ValueError(f"--set {setting}: write key.path=v1,v2,..., for example seed=0,1,2")
    try:
        values = split(text)
    except yaml.YAMLError:
        values = []
    if values and not text.rstrip().endswith(","):
        return key, values
    if all(piece.strip() for piece in text.split(",")):
        raise ValueError(
            f"--set {setting} is no list of YAML values; put in quotes what is not YAML"
        )
    raise ValueError(f"--set {setting} has an empty value; write null if none is meant")


def _concerns_dense(setting: str) -> bool:
    return setting.partition("=")[0].partition(".")[0] in DENSE_SECTIONS


def _word(key: str, text: str, keys: Collection[str]) -> str:
    """Return a value in a folder's name; with its key, unless it speaks for itself."""
    value = plain.parse_yaml(text, f"--set {key}={text}")
    shown = value if isinstance(value, str) else json.dumps(value, default=str)
    safe = UNSAFE.sub("-", shown).strip("-.")[:LONGEST_WORD]
    word = safe if safe == shown else f"{safe}-{_digest(shown)}"
    last = key.rpartition(".")[2]
    is_only = sum(other.rpartition(".")[2] == last for other in keys) == 1
    if isinstance(value, str) and last in SPEAKING and is_only:
        return word
    return f"{last if is_only else key}{word}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _check_folders(runs: Sequence[SweepRun]) -> None:
    """Raise ValueError if two runs have one folder, or a folder cannot be made or written into."""
    first: dict[Path, SweepRun] = {}
    for run in runs:
        other = first.setdefault(run.folder, run)
        if other is not run:
            raise ValueError(
                f"two points have the run folder {run.folder}: {other.point.label}; and "
                f"{run.point.label}; give each value once"
            )
    for root in {run.folder.parent for run in runs}:
        check_writable(root, "name another folder for the runs with --to")
