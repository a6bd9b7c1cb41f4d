"""Facts about the screen: live lines on a terminal, plain ones elsewhere."""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from sms_dist.run.progress import Progress, ProgressWriter
from sms_dist.start.screen import LINE_INTERVAL, Screen, duration, live_table, plain_line

WIDE = Progress(
    phase=10,
    num_phases=12,
    candidate=14,
    num_candidates=16,
    stage="corruptions",
    epoch=130,
    num_epochs=200,
    step=3,
    num_steps=10,
    loss=123456.7,
    samples_per_second=123456.0,
    eta_seconds=7503,
)


def plain_console() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=80)


def terminal_console() -> Console:
    # _environ: a CI machine may call itself a dumb terminal.
    environment = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    return Console(file=io.StringIO(), force_terminal=True, width=80, _environ=environment)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_plain_line_says_what_is_known() -> None:
    progress = Progress(
        phase=2,
        num_phases=3,
        candidate=4,
        stage="retrain",
        epoch=3,
        num_epochs=10,
        loss=0.2131,
        samples_per_second=512.3,
        eta_seconds=42,
    )
    assert plain_line(1, progress) == (
        "group 1  phase 2/3  candidate 4  retrain  epoch 3/10  loss 0.213  512 samples/s  ETA 0:42"
    )
    assert plain_line(0, Progress()) == "group 0  waiting"


def test_without_a_terminal_each_change_is_one_line_without_control_characters(
    tmp_path: Path,
) -> None:
    console = plain_console()
    writer = ProgressWriter(tmp_path, 0)
    ProgressWriter(tmp_path, 7).update(stage="retrain")  # of no group of this run
    with Screen(tmp_path, console, num_groups=2) as screen:
        screen.headline("digits [sms] on 4 ranks")
        screen.headline("digits [sms] on 4 ranks")
        writer.update(stage="pretrain", epoch=1, num_epochs=2, force=True)
        time.sleep(0.7)
        writer.update(step=5, force=True)  # not a change of place
        time.sleep(0.6)
        writer.update(stage="done", epoch=0, force=True)
    assert text_of(console).splitlines() == [
        "digits [sms] on 4 ranks",
        "group 0  pretrain  epoch 1/2",
        "group 0  done",
    ]
    assert "\x1b" not in text_of(console)


def test_a_group_writes_no_more_than_about_a_plain_line_a_second(tmp_path: Path) -> None:
    console = plain_console()
    writer = ProgressWriter(tmp_path, 0)
    start = time.monotonic()
    with Screen(tmp_path, console, num_groups=1):
        for epoch in range(1, 26):
            writer.update(epoch=epoch, num_epochs=25, force=True)
            time.sleep(0.1)
    seconds = time.monotonic() - start
    assert len(text_of(console).splitlines()) <= seconds / LINE_INTERVAL + 2
    assert "epoch 25/25" in text_of(console)


def test_a_long_line_without_a_terminal_is_not_wrapped(tmp_path: Path) -> None:
    console = plain_console()
    with Screen(tmp_path, console, num_groups=1) as screen:
        screen.say("word " * 40)
    assert len(text_of(console).splitlines()) == 1


@pytest.mark.parametrize("width", [80, 60, 200])
def test_a_group_never_takes_more_than_one_line(width: int) -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=width)
    console.print(live_table([WIDE, None, Progress(stage="done")]))
    lines = text_of(console).splitlines()
    assert len(lines) == 4
    assert max(len(line) for line in lines) <= width


def test_at_80_columns_nothing_is_cut() -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=80)
    console.print(live_table([WIDE]))
    shown = text_of(console).split("\n")[1].split()
    for text in ("10/12", "14", "corruptions", "130/200", "123,456", "2:05:03"):
        assert text in shown


def test_a_terminal_shows_headline_and_groups_and_gets_its_cursor_back(tmp_path: Path) -> None:
    console = terminal_console()
    ProgressWriter(tmp_path, 1).update(phase=1, num_phases=3, stage="retrain", candidate=2)
    with Screen(tmp_path, console, num_groups=2) as screen:
        screen.headline("digits_sms")
        time.sleep(0.7)
        screen.say("phase 1 done")
    text = text_of(console)
    for part in ("digits_sms", "starting", "retrain", "phase 1 done"):
        assert part in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_exception_leaves_a_clean_terminal_and_no_thread(
    tmp_path: Path, error: type[BaseException]
) -> None:
    console = terminal_console()
    with pytest.raises(error), Screen(tmp_path, console, num_groups=1):
        raise error
    assert text_of(console).rindex("\x1b[?25h") > text_of(console).rindex("\x1b[?25l")
    assert "screen" not in [thread.name for thread in threading.enumerate()]


def test_durations_read_like_a_clock() -> None:
    assert [duration(seconds) for seconds in (-1, 42, 303, 7503)] == [
        "0:00",
        "0:42",
        "5:03",
        "2:05:03",
    ]


@pytest.mark.parametrize(
    ("together", "told"),
    [((), "candidate 3 "), ((0, 1, 2), "candidate 0-2 "), ((0, 3), "candidate 2 of 0-3 ")],
)
def test_a_pack_is_one_line(together: tuple[int, ...], told: str) -> None:
    progress = Progress(phase=1, num_phases=2, candidate=3, together=together, stage="retrain")
    assert told in plain_line(0, progress)
