"""A sweep as job arrays: the dense models, the points that can start, those that wait for dense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher import jobs, submission
from launcher.cluster import ClusterConfig
from launcher.slurm import Array, array_script, check_folder
from launcher.snapshot import take
from launcher.sweeping.tasks import Task, state
from sms_dist.paths import RunPaths

DENSE, READY, WAITING = "dense models", "points", "points that wait for dense models"
LIST = "runs.txt"


@dataclass(frozen=True)
class Sorted:
    """The tasks of a sweep by what is to be done about them."""

    done: Sequence[Task]
    queued: Mapping[Path, str]  # folder of a run -> the job that waits or runs
    arrays: Mapping[str, Sequence[Task]]  # in the order of submission


def sort(grid: Sequence[Task], hosts: ClusterConfig, is_fresh: bool) -> Sorted:
    """ValueError for the first task that could not be a job."""
    for task in grid:
        check_folder(task.folder.absolute())
        submission.check(task.config, hosts, task.paths, is_fresh)
    done = [task for task in grid if state(task) == "done"]
    queued = _queued(grid)
    left = [task for task in grid if task not in done and task.folder not in queued]
    finished = {task.folder for task in done}
    arrays: dict[str, list[Task]] = {DENSE: [], READY: [], WAITING: []}
    for task in left:
        is_waiting = task.after is not None and task.after not in finished
        arrays[DENSE if task.point.is_dense else WAITING if is_waiting else READY].append(task)
    return Sorted(done, queued, {kind: tasks for kind, tasks in arrays.items() if tasks})


def dependency(found: Sorted, kind: str, numbers: Mapping[str, str]) -> str | None:
    """Of an array on the dense jobs; `numbers`: of the arrays that are submitted already."""
    if kind != WAITING:
        return None
    waiting, dense = found.arrays[WAITING], found.arrays.get(DENSE, ())
    if [task.after for task in waiting] == [task.folder for task in dense]:
        return f"aftercorr:{numbers[DENSE]}"  # one each: whose dense model is there may start
    needed = dict.fromkeys(
        found.queued.get(task.after) or numbers[DENSE] for task in waiting if task.after
    )
    return jobs.afterok(tuple(needed))


def submit(
    grid: Sequence[Task], hosts: ClusterConfig, at_most: int | None, is_fresh: bool
) -> Iterator[str]:
    """Submit what is neither done nor in the queue; a line about each task or array."""
    found = sort(grid, hosts, is_fresh)
    yield from (f"done: {task.point.label}" for task in found.done)
    labels = {task.folder: task.point.label for task in grid}
    yield from (f"in the queue: job {job}, {labels[at]}" for at, job in found.queued.items())
    code = RunPaths(_root(grid)).snapshot
    if found.arrays and not take(code, None, has_code=True, is_fresh=is_fresh):
        yield f"the code of the first submission is kept: {code}"
    numbers: dict[str, str] = {}
    for kind, tasks in found.arrays.items():
        folder = _new_folder(grid)
        text = _script(tasks, hosts, code, folder, at_most)
        depends = dependency(found, kind, numbers)
        numbers[kind] = _submitted(tasks, text, folder, depends, is_fresh)
        yield f"Submitted batch job {numbers[kind]}: {len(tasks)} {kind}"


def shown(
    grid: Sequence[Task], hosts: ClusterConfig, at_most: int | None, is_fresh: bool
) -> Iterator[str]:
    """The scripts that `submit` would hand to Slurm now, each with its runs as comments."""
    code, folder = RunPaths(_root(grid)).snapshot, _new_folder(grid)
    for kind, tasks in sort(grid, hosts, is_fresh).arrays.items():
        yield _script(tasks, hosts, code, folder, at_most).rstrip()
        yield from (f"# {kind}, {i}: {task.folder}" for i, task in enumerate(tasks))


def _submitted(
    tasks: Sequence[Task], text: str, folder: Path, depends: str | None, is_fresh: bool
) -> str:
    """The number of the array, whose runs are written down in their folders."""
    for task in tasks:
        submission.prepare(task.paths, task.config, has_code=False, is_fresh=is_fresh)
    file = jobs.write_script(text, folder)
    lines = "".join(f"{task.folder.absolute()}\n" for task in tasks)
    (folder / LIST).write_text(lines, encoding="utf-8")
    number = jobs.submit(file, depends)
    for index, task in enumerate(tasks):
        submission.record(task.paths, f"{number}_{index}")
    return number


def _script(
    tasks: Sequence[Task], hosts: ClusterConfig, code: Path, folder: Path, at_most: int | None
) -> str:
    array = Array(folder / LIST, len(tasks), at_most)
    place = submission.place(hosts, code)
    return array_script(hosts, place, array, job_name=tasks[0].config.name)


def _root(grid: Sequence[Task]) -> Path:
    """The folder of the sweep's own files."""
    return grid[0].folder.parent.absolute()


def _new_folder(grid: Sequence[Task]) -> Path:
    """For the script and the logs of the next array; not made yet."""
    logs = RunPaths(_root(grid)).logs
    taken = [path.name.removeprefix("array_") for path in logs.glob("array_*")]
    number = 1 + max((int(name) for name in taken if name.isdigit()), default=0)
    return logs / f"array_{number}"


def _queued(grid: Sequence[Task]) -> dict[Path, str]:
    if not any(jobs.recorded(task.paths) for task in grid):
        return {}
    queue = jobs.my_queue()
    found = {task.folder: jobs.queued(task.paths, queue) for task in grid}
    return {folder: number for folder, number in found.items() if number is not None}
