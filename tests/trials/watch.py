"""Looks at a launch at work: which ranks there are, what a group does, whether it has ended."""

from __future__ import annotations

import time
from pathlib import Path

from chances import ANYWHEN
from launching import Launch
from moments import START, WRITING, stage_of, writers
from patience import Patience, wait_until
from processes import Processes
from variants import Variant

PAUSE = 0.001  # between two looks


class Watch:
    """Of one launch, at one of its groups."""

    def __init__(self, launch: Launch, variant: Variant, folder: Path) -> None:
        self.processes = Processes(launch)
        self.folder = folder
        self.awake: list[float] = []  # when ranks began to work (monotonic)
        self._launch, self._num_ranks = launch, variant.ranks
        self._patience = Patience(folder)
        self.begin()

    def begin(self, group: int = 0) -> None:
        """Ranks are new: what the folder tells of earlier times is no news."""
        self.group, self.stage, self.ranks = group, START, dict[int, int]()
        self.since = self.stage_since = time.time()

    def look(self) -> bool:
        """Whether the launch is still at work."""
        stage = stage_of(self.folder, self.group, self.since)
        if stage != self.stage:
            if self.stage == START:
                self.awake.append(time.monotonic())
            self.stage, self.stage_since = stage, time.time()
        if len(self.ranks) < self._num_ranks:
            self.ranks = self.processes.ranks()
        return self._launch.process.poll() is None

    def until(self, stage: str, skip: int) -> set[int] | None:
        """Wait for the stage, after it was passed so many times; the processes that write, if that
        is what the stage is. None: it ended before."""
        was_there = False
        while self.look():
            found = writers(self.folder, stage) if stage in WRITING else set()
            is_there = bool(found) or stage in (self.stage, ANYWHEN)
            if is_there and not was_there:
                if skip == 0:
                    return found
                skip -= 1
            was_there = is_there
            self._patience.check()
            time.sleep(PAUSE)
        return None

    def until_all_ranks(self) -> bool:
        """Whether they have come, before the end."""
        wait_until(lambda: len(self.ranks) == self._num_ranks or not self.look(), self._patience)
        return len(self.ranks) == self._num_ranks

    def until_end(self) -> int:
        """The exit status of the launch."""
        wait_until(lambda: not self.look(), self._patience)
        return self._launch.process.wait()

    def has_ended(self) -> bool:
        return self._launch.process.poll() is not None
