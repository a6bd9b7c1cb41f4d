"""Requeue a job unless its last starts have saved nothing new.

A job's script runs this when its ranks have stopped: requeue.py RUN_DIR JOB
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # this code, wherever it starts

from sms_dist.base import plain
from sms_dist.base.files import entries
from sms_dist.cli.slurm import jobs
from sms_dist.run.paths import MANIFEST, RunPaths
from sms_dist.run.schema import RecoveryFile, parsed

IDLE_STARTS = 3  # as many in a row, and the job is not started again
REQUEUE = "requeue"


def main(run_dir: str, job: str) -> None:
    paths = RunPaths(Path(run_dir))
    now = mark(paths)
    marks = [*_marks(paths, job), now]
    if is_stuck(marks):
        sys.exit(
            f"job {job} has saved nothing new in its last {IDLE_STARTS} starts, and is not "
            "requeued: its time is too short for a checkpoint; raise time_limit or "
            "signal_seconds_before_end, or lower records.every_seconds"
        )
    try:
        jobs.record(paths, job, REQUEUE, mark=now)
    except OSError as error:
        sys.exit(f"job {job} is not requeued: {paths.logs}: {error.strerror}")


def is_stuck(marks: Sequence[str]) -> bool:
    """Return whether the last marks of a job, one for each start, have been the same too often."""
    last = marks[-IDLE_STARTS - 1 :]
    return len(last) == IDLE_STARTS + 1 and len(set(last)) == 1


def mark(paths: RunPaths) -> str:
    """Return a hash of what a run folder has saved: equal marks mean that nothing was added.

    The journal does not count, since each start writes a line there.
    """
    root = paths.root
    folders = entries(root)
    folders += [deeper for folder in folders for deeper in entries(folder)]
    finished = [folder / MANIFEST for folder in folders if (folder / MANIFEST).is_file()]
    finished += entries(root / "corruptions", "*.json")
    facts = [str(path.relative_to(root)) for path in finished]
    for training in entries(paths.recoveries):
        points = [point for slot in entries(training) for point in entries(slot, "rank_*.json")]
        facts.append(f"{training.name}: {max(map(_steps, points), default=0)}")
    return hashlib.sha256("\n".join(sorted(facts)).encode()).hexdigest()[:16]


def _steps(point: Path) -> int:
    """Return the steps of a checkpoint, 0 if the file is none or only half of one."""
    try:
        return parsed(RecoveryFile, plain.read_json(point), str(point)).steps
    except ValueError:
        return 0


def _marks(paths: RunPaths, job: str) -> list[str]:
    lines = [line for line in jobs.recorded(paths) if (line.job, line.kind) == (job, REQUEUE)]
    return [str(line.mark) for line in lines]


if __name__ == "__main__":
    main(*sys.argv[1:])
