"""A sweep as job arrays: the dense models, the points that can start, those that wait for dense."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sms_dist.cli.slurm import jobs, submission
from sms_dist.cli.slurm.cluster import ClusterConfig
from sms_dist.cli.slurm.script import Array, array_script, check_folder
from sms_dist.cli.slurm.snapshot import take
from sms_dist.cli.sweeping.grid import SweepRun, state
from sms_dist.run.paths import RunPaths

DENSE, READY, WAITING = "dense models", "points", "points that wait for dense models"
LIST = "runs.txt"


def submit(
    runs: Sequence[SweepRun],
    cluster: ClusterConfig,
    at_most: int | None,
    is_fresh: bool,
    dry_run: bool,
) -> Iterator[str]:
    """Submit what is neither done nor in the queue; a line about each run or array.

    `dry_run`: the scripts themselves, each with its runs as comments. ValueError for the first run
    that could not be a job, before anything is submitted.
    """
    for run in runs:
        check_folder(run.folder.absolute())
        submission.check(run.config, cluster, run.paths, is_fresh)
    done = [run for run in runs if state(run) == "done"]
    queued = _queued(runs)
    arrays = _arrays([run for run in runs if run not in done and run.folder not in queued], done)
    root = RunPaths(runs[0].folder.parent.absolute())  # of the sweep's own files
    if not dry_run:
        yield from (f"done: {run.point.label}" for run in done)
        labels = {run.folder: run.point.label for run in runs}
        yield from (f"in the queue: job {job}, {labels[at]}" for at, job in queued.items())
        if arrays and not take(root.snapshot, None, has_code=True, is_fresh=is_fresh):
            yield f"the code of the first submission is kept: {root.snapshot}"
    dense_array = ""
    for kind, members in arrays.items():
        folder = _new_folder(root.logs)
        array = Array(folder / LIST, len(members), at_most)
        place = submission.place(cluster, root.snapshot)
        script = array_script(cluster, place, array, job_name=members[0].config.name)
        if dry_run:
            yield script.rstrip()
            yield from (f"# {kind}, {i}: {run.folder}" for i, run in enumerate(members))
            continue
        for run in members:
            submission.prepare(run.paths, run.config, has_code=False, is_fresh=is_fresh)
        file = jobs.write_script(script, folder)
        lines = "".join(f"{run.folder.absolute()}\n" for run in members)
        (folder / LIST).write_text(lines, encoding="utf-8")
        dependency = None
        if kind == WAITING:
            needed = [run.after for run in members if run.after]
            if needed == [run.folder for run in arrays.get(DENSE, ())]:
                dependency = f"aftercorr:{dense_array}"  # one each: may start when its own is done
            else:
                numbers = dict.fromkeys(queued.get(after) or dense_array for after in needed)
                dependency = jobs.afterok(tuple(numbers))
        number = jobs.submit(file, dependency)
        if kind == DENSE:
            dense_array = number
        for index, run in enumerate(members):
            submission.record(run.paths, f"{number}_{index}")
        yield f"Submitted batch job {number}: {len(members)} {kind}"


def _arrays(left: Sequence[SweepRun], done: Sequence[SweepRun]) -> dict[str, list[SweepRun]]:
    """Return the runs by kind, in the order of submission."""
    finished = {None, *(run.folder for run in done)}
    arrays: dict[str, list[SweepRun]] = {DENSE: [], READY: [], WAITING: []}
    for run in left:
        is_ready = run.after in finished
        arrays[DENSE if run.point.is_dense else READY if is_ready else WAITING].append(run)
    return {kind: members for kind, members in arrays.items() if members}


def _new_folder(logs: Path) -> Path:
    """Return the folder for the script and the logs of the next array; it is not made yet."""
    taken = [path.name.removeprefix("array_") for path in logs.glob("array_*")]
    return logs / f"array_{1 + max((int(name) for name in taken if name.isdigit()), default=0)}"


def _queued(runs: Sequence[SweepRun]) -> dict[Path, str]:
    """Return the job that waits or runs, by the folder of its run."""
    if not any(jobs.recorded(run.paths) for run in runs):
        return {}
    queue = jobs.my_queue()
    numbers = {run.folder: jobs.queued(run.paths, queue) for run in runs}
    return {folder: number for folder, number in numbers.items() if number is not None}
