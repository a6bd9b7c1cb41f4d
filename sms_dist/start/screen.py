"""The display of a run at work: a line for each candidate group."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group, JustifyMethod
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sms_dist.run.progress import Progress, read_all

REFRESH = 0.5  # seconds
LINE_INTERVAL = 1.0  # seconds between two plain lines of a group
BAR = 5  # its width
# Header, justification, width: 80 columns in all, with the bar and two spaces between.
COLUMNS: tuple[tuple[str, JustifyMethod, int], ...] = (
    ("group", "right", 5),
    ("phase", "right", 5),
    ("candidate", "right", 9),
    ("stage", "left", 11),
    ("epoch", "right", 7),
    ("", "left", BAR),
    ("loss", "right", 6),
    ("samples/s", "right", 9),
    ("ETA", "right", 7),
)


class Screen:
    """A context manager that prints live lines on a terminal, plain ones into a file or a pipe."""

    def __init__(self, progress_folder: Path, console: Console, num_groups: int) -> None:
        self._folder = progress_folder
        self._console = console
        self._num_groups = num_groups
        self._headline = ""
        self._shown: dict[int, tuple[object, ...]] = {}  # plain mode: group -> its last line
        self._times: dict[int, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="screen", daemon=True)
        is_live = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(console=console, auto_refresh=False) if is_live else None

    def __enter__(self) -> Screen:
        if self._live:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._stop.set()
            self._thread.join()
            self._show(is_last=True)
        finally:  # whatever happens, the terminal gets its cursor back
            if self._live:
                self._live.stop()

    def headline(self, text: str) -> None:
        """Set the line above the groups; without a terminal print it whenever it changes."""
        if self._live is None and text != self._headline:
            self.say(text)
        self._headline = text

    def say(self, text: str) -> None:
        """Print a permanent line, above the live ones."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _run(self) -> None:
        while not self._stop.wait(REFRESH):
            self._show()

    def _show(self, is_last: bool = False) -> None:
        groups = read_all(self._folder)
        if self._live:
            headline = Text(self._headline, style="bold", no_wrap=True, overflow="ellipsis")
            table = live_table([groups.get(group) for group in range(self._num_groups)])
            # The cursor rests on the empty line: a ^C echoed at the end of a full one would wrap.
            self._live.update(Group(headline, table, ""), refresh=True)
        else:
            for group, progress in groups.items():
                if group < self._num_groups:
                    self._show_plain(group, progress, is_last)

    def _show_plain(self, group: int, progress: Progress, is_last: bool) -> None:
        done = progress.epoch - (progress.step < progress.num_steps)  # epochs that are complete
        place = (progress.phase, progress.candidate, progress.stage, done)
        now = time.monotonic()
        is_early = now - self._times.get(group, -LINE_INTERVAL) < LINE_INTERVAL
        if place == self._shown.get(group) or (is_early and not is_last):
            return
        self._shown[group], self._times[group] = place, now
        self.say(plain_line(group, progress))


def live_table(groups: list[Progress | None]) -> Table:
    """Return a row per group (None: no progress yet), each on one line at 80 columns."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name, justify, width in COLUMNS:
        table.add_column(name, justify=justify, min_width=width, no_wrap=True)
    for group, progress in enumerate(groups):
        if progress is None:
            table.add_row(str(group), "", "", "starting")
            continue
        fraction = progress.fraction
        bar = "" if fraction is None else ProgressBar(total=1.0, completed=fraction, width=BAR)
        cells = _cells(progress)
        names = ("phase", "candidate", "stage", "epoch")
        measured = ("loss", "samples/s", "ETA")
        table.add_row(
            str(group),
            *(cells.get(name, "") for name in names),
            bar,
            *(cells.get(name, "") for name in measured),
        )
    return table


def plain_line(group: int, progress: Progress) -> str:
    """Return a group's progress as a line: group 1  phase 2/3  candidate 4  retrain  epoch 3/10."""
    words = {"stage": "{}", "samples/s": "{} samples/s"}
    cells = _cells(progress)
    parts = [words.get(name, name + " {}").format(text) for name, text in cells.items()]
    return "  ".join([f"group {group}", *parts])


def _cells(progress: Progress) -> dict[str, str]:
    """Return the text of each column that has a meaning now."""
    cells = {}
    if progress.phase:
        cells["phase"] = f"{progress.phase}/{progress.num_phases}"
    if progress.candidate is not None:
        cells["candidate"] = _candidates(progress)
    cells["stage"] = progress.stage
    if progress.epoch:
        cells["epoch"] = f"{progress.epoch}/{progress.num_epochs}"
    if progress.loss is not None:
        cells["loss"] = _short(progress.loss)
    if progress.samples_per_second is not None:
        cells["samples/s"] = f"{progress.samples_per_second:,.0f}"
    if progress.eta_seconds is not None:
        cells["ETA"] = duration(progress.eta_seconds)
    return cells


def _candidates(progress: Progress) -> str:
    """Return 3, or 0-2 for a pack, or 2 of 0-2 where some have ended."""
    together = progress.together or (progress.candidate,)
    if len(together) < 2:
        return str(progress.candidate)
    first, last = min(progress.together), max(progress.together)
    num = len(together)
    return f"{first}-{last}" if num == last - first + 1 else f"{num} of {first}-{last}"


def _short(loss: float) -> str:
    """Return a loss in at most 6 characters, also one that explodes."""
    if abs(loss) < 10:
        return f"{loss:.3f}"
    return f"{loss:.1f}" if abs(loss) < 1000 else f"{loss:.0e}"


def duration(seconds: float) -> str:
    """Return seconds as 0:42, 5:03 or 2:05:03."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
