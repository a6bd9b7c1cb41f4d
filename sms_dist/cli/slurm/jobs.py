"""Slurm jobs: submitted, looked up in the queue, and written down beside the runs they work on."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from sms_dist.base import plain
from sms_dist.base.plain import is_file, read
from sms_dist.run.paths import RunPaths
from sms_dist.run.schema import JobLine, parsed

SCRIPT = "job.sbatch"
MAX_BYTES = 1 << 26  # of a run's file of jobs
NUMBER = re.compile(r"\d+(_\d+)?")  # of a job, or of one run of a job array
# What depends on a job that failed would wait in the queue for ever.
_HOPELESS = "--kill-on-invalid-dep=yes"


def write_script(script: str, logs: Path) -> Path:
    """Write a script and return its file, in the folder where Slurm will open the job's log."""
    file = logs / SCRIPT
    try:
        logs.mkdir(parents=True, exist_ok=True)
        file.write_text(script, encoding="utf-8")
    except OSError as error:
        raise ValueError(
            f"the folder {logs} cannot be used: {error.strerror}; name another with --run-dir"
        ) from None
    return file


def submit(file: Path, dependency: str | None = None) -> str:
    """Submit a script and return the job's number; a `dependency` is like afterok:7."""
    options = [f"--dependency={dependency}", _HOPELESS] if dependency else []
    try:
        done = subprocess.run(
            ["sbatch", "--parsable", *options, str(file)], capture_output=True, text=True
        )
    except FileNotFoundError:
        raise ValueError(
            f"sbatch is not installed here; submit {file} on the cluster's login node, or look at "
            "the script with --dry-run"
        ) from None
    if done.returncode:
        raise ValueError(f"sbatch refused {file} (status {done.returncode}): {done.stderr.strip()}")
    number = done.stdout.strip().partition(";")[0]  # "7;cluster" where there are several
    if not NUMBER.fullmatch(number):
        raise ValueError(f"sbatch took {file}, but answered {number!r} instead of a job's number")
    return number


def afterok(numbers: Sequence[str]) -> str | None:
    """Return the dependency on jobs that must all succeed; ValueError for what is no job."""
    for number in numbers:
        if not NUMBER.fullmatch(number):
            raise ValueError(f"--after {number} is not the number of a job, such as 7 or 7_2")
    return ":".join(["afterok", *numbers]) if numbers else None


def record(paths: RunPaths, job: str, kind: str, **more: str) -> None:
    """Append a line about a job to the run folder's file; OSError if it cannot be written."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    line = json.dumps(JobLine(time=now, job=job, kind=kind, **more).as_json())
    paths.logs.mkdir(parents=True, exist_ok=True)
    with _file(paths).open("ab") as file:
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def recorded(paths: RunPaths) -> list[JobLine]:
    """Return the lines about a run's jobs, the oldest first, without damaged ones."""
    file, lines = _file(paths), []
    for line in read(file, MAX_BYTES, "a file of jobs").splitlines() if is_file(file) else []:
        with suppress(ValueError):
            lines.append(parsed(JobLine, plain.parse_json(line, "a line"), "a line about a job"))
    return lines


def queued(paths: RunPaths, queue: set[str]) -> str | None:
    """Return the last job of a run that is in the queue, None if none is."""
    numbers = [line.job for line in recorded(paths)]
    return next((number for number in reversed(numbers) if number in queue), None)


def my_queue() -> set[str]:
    """Return the numbers of my jobs that wait or run; each run of an array has its own."""
    command = ["squeue", "--me", "--array", "--noheader", "--format=%i"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise ValueError(
            "squeue is not installed here; submit on the cluster's login node"
        ) from None
    if done.returncode:
        raise ValueError(f"squeue failed (status {done.returncode}): {done.stderr.strip()}")
    return set(done.stdout.split())


def _file(paths: RunPaths) -> Path:
    return paths.logs / "jobs.jsonl"
