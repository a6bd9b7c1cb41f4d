"""A run at work with one bad file: what `sms-dist status` makes of it. It never refuses."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from fuzzing.run_folders import MAIN, SMALL, Read, mutated_file

from sms_dist.cli.slurm import jobs
from sms_dist.cli.status import RunStatus
from sms_dist.cli.status_screen import text
from sms_dist.run.paths import RunPaths

LONG = (*SMALL, "retrain.epochs=100000", "records.every_steps=1")
PATTERNS = ("*.json", "*.jsonl", "*.yaml", ".lock")
SECONDS = 120.0  # until a run trains its first candidate


def prepare(scratch: Path) -> Callable[[Random], Read]:
    paths = RunPaths(_interrupted(scratch))
    jobs.record(paths, "7", "submitted", script="job.sbatch")
    jobs.record(paths, "7", "requeue", mark="0123456789abcdef")
    paths.packing.write_text('{"num_groups": 1, "packing": "vmap"}')
    files = sorted({path for pattern in PATTERNS for path in paths.root.rglob(pattern)})
    good = {path: path.read_bytes() for path in files}

    def make(chance: Random) -> Read:
        for path, content in good.items():
            path.write_bytes(content)
        file = chance.choice(files)
        file.write_bytes(mutated_file(chance, file, good, files))
        return lambda: _told(paths.root)

    return make


def _told(run: Path) -> None:
    try:
        status = RunStatus(run)
    except ValueError as error:  # of any other file it would be a refusal, in words
        raise AssertionError("the status of a run is told, whatever lies in its folder") from error
    json.dumps(status.as_json())
    text([status], is_one=True)
    text([status], is_one=False)


def _interrupted(scratch: Path) -> Path:
    """What lies in the folder of a run in the middle of a retraining, its lock included."""
    run, copy = scratch / "at_work", scratch / "interrupted"
    words = [word for setting in LONG for word in ("--set", setting)]
    process = subprocess.Popen([sys.executable, str(MAIN), "--run-dir", str(run), *words],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        end = time.monotonic() + SECONDS
        while not list(run.glob("recovery/phase_1_candidate_0/*/rank_0.json")):
            assert time.monotonic() < end, "the run does not come to its first candidate"
            time.sleep(0.05)
        process.send_signal(signal.SIGSTOP)  # nothing moves while it is copied
        shutil.copytree(run, copy, ignore=shutil.ignore_patterns(".*.tmp"))
    finally:
        process.kill()
        process.wait()
    return copy
