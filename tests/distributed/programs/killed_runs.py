"""Runs that are killed with SIGKILL as soon as so many of their folders are finished.

The argument is a JSON file: {run folder: {"settings": [key.path=value, ...], "at": [numbers]}}.
Instead of a number, [a pattern, another]: as soon as a file is there and none of the other pattern.
Each start is a fork of this process, which has paid for the imports. Prints, as JSON, how often
each run was killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch._dynamo  # noqa: F401

from sms_dist.config.file import load
from sms_dist.start.session import Session

Moment = int | list[str]


def main() -> None:
    tasks = json.loads(Path(sys.argv[1]).read_text())
    kills = {folder: _survive(Path(folder), **task) for folder, task in tasks.items()}
    print(json.dumps(kills))


def _survive(folder: Path, settings: list[str], at: list[Moment]) -> int:
    """Start the run until it ends by itself; how often it was killed."""
    kills = sum(_is_killed(folder, settings, number) for number in at)
    assert not _is_killed(folder, settings, None)
    assert (folder / "summary.json").is_file(), folder
    return kills


def _is_killed(folder: Path, settings: list[str], at: Moment | None) -> bool:
    """Was this start killed, because the moment had come?"""
    child = os.fork()
    if child == 0:
        _run(folder, settings)
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            assert os.waitstatus_to_exitcode(status) == 0, f"{folder}: status {status}"
            return False
        if at is not None and _has_come(folder, at):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return True
        time.sleep(0.004)


def _run(folder: Path, settings: list[str]) -> None:
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        Session.open(load(None, settings), folder).run()
        status = 0
    finally:
        os._exit(status)  # as launcher/main.py: the interpreter's teardown may abort


def _has_come(folder: Path, at: Moment) -> bool:
    if isinstance(at, int):
        return _finished(folder) >= at
    there, gone = at
    return any(folder.glob(there)) and not any(folder.glob(gone))


def _finished(folder: Path) -> int:
    """Folders that are there; what a save is at work on has a name with a dot and may vanish."""
    names = ("dense/manifest.json", "phase_*/[a-z]*/manifest.json")
    return sum(len(list(folder.glob(name))) for name in names)


main()
