"""Trainings on hosts of their own, that can be made to rest while others have their turn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.turns import ENVIRONMENT
from sms_dist.run.progress import Progress, read_all

LOOK = 0.1  # seconds between two looks at files of progress


@dataclass(frozen=True)
class Team:
    """Processes that each train a candidate: as the groups of one run, or in runs of their own."""

    folders: Sequence[Path]  # of the runs
    processes: Sequence[subprocess.Popen[bytes]]
    logs: Sequence[Path]

    def groups(self) -> dict[tuple[Path, int], Progress]:
        """Where each group is, as far as it has told."""
        return {
            (folder, number): group
            for folder in self.folders
            for number, group in read_all(folder / "progress").items()
        }

    @property
    def phase(self) -> int | None:
        """That of which all of them are in the middle of training; None: there is none."""
        groups = self.groups().values()
        busy = [g.phase for g in groups if g.stage == "retrain" and 0 < g.epoch < g.num_epochs]
        return busy[0] if len(busy) == len(self.processes) and len(set(busy)) == 1 else None

    def work(self) -> None:
        self._tell(signal.SIGCONT)

    def rest(self) -> None:
        self._tell(signal.SIGSTOP)

    def wait_until_all_train(self, end: float) -> None:
        """In the first phase; SystemExit where they do not come so far in time."""
        while self.phase != 1:
            self.check(end)
            time.sleep(LOOK)

    def check(self, end: float) -> None:
        """SystemExit with what they wrote, if one has failed or it has become so late."""
        failed = any(process.poll() for process in self.processes)
        if failed or time.monotonic() > end:
            said = "\n".join(log.read_text()[-2000:] for log in self.logs)
            raise SystemExit(f"{said}\n{'failed' if failed else 'not done in time'}")

    def steps_per_second(self, seconds: float) -> float | None:
        """Of all together, in so long a turn; None if they were not training all the time.

        Each group between the first and the last time that it told of its progress.
        """
        self.work()
        begin, phase = time.time(), self.phase
        first: dict[tuple[Path, int], Progress] = {}
        last: dict[tuple[Path, int], Progress] = {}
        while time.time() < begin + seconds:
            time.sleep(LOOK)
            told = {key: group for key, group in self.groups().items() if group.time > begin}
            first, last = told | first, told
        still = self.phase
        self.rest()
        if phase is None or still != phase or any(last[k].time <= first[k].time for k in first):
            return None
        return sum(
            (_steps(last[key]) - _steps(first[key])) / (last[key].time - first[key].time)
            for key in first
        )

    def end(self) -> None:
        self.work()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _tell(self, number: signal.Signals) -> None:
        for process in self.processes:
            process.send_signal(number)


@contextmanager
def team(
    hosts: Sequence[str],
    commands: Sequence[tuple[Sequence[str], Mapping[str, str]]],
    folders: Sequence[Path],
) -> Iterator[Team]:
    """A rank on each of the hosts, by the words and variables of its own."""
    processes, logs = [], []
    common = ENVIRONMENT | {"CUDA_VISIBLE_DEVICES": ""}
    for host, (words, variables) in zip(hosts, commands, strict=True):
        logs.append(folders[0].with_name(f"{folders[0].name}_{host}.log"))
        with logs[-1].open("wb") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", host, sys.executable, *words],
                env=os.environ | common | variables,
                stdout=log,
                stderr=log,
            )
        processes.append(process)
    started = Team(folders, processes, logs)
    try:
        yield started
    finally:
        started.end()


def _steps(group: Progress) -> int:
    return (group.epoch - 1) * group.num_steps + group.step
