"""The screen never decides how a run ends: closed, without a reader, or full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from launching import MAIN, ROOT, main_arguments

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", MAIN)
SMS_DIST = ("-m", "sms_dist")
SHORT = ("pretrain.epochs=1", "pruning.phases=1", "candidates.count=2")


def shell(words: object, screen: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command with its standard output and errors as the shell sets them up."""
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    script = f'"$@" {screen}'
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", script, "bash", sys.executable, *map(str, words)],
        env=os.environ | own,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=150,
    )


@pytest.mark.parametrize(
    ("words", "screen"),
    [
        ((MAIN,), ">&- 2>&-"),
        ((MAIN,), "| true"),
        ((MAIN,), ">/dev/full 2>/dev/full"),
        (TORCHRUN, ">&- 2>/dev/full"),
        ((*SMS_DIST, "run", "--nproc=2"), ">/dev/full 2>&-"),
    ],
    ids=["closed", "no reader", "full", "torchrun", "sms-dist"],
)
def test_a_run_is_done_whatever_becomes_of_its_screen(words, screen, tmp_path):
    ended = shell([*words, *main_arguments(tmp_path / "r", *SHORT)], screen, tmp_path)
    assert ended.returncode == 0, ended.stderr
    events = (tmp_path / "r" / "journal.jsonl").read_text().splitlines()
    assert json.loads(events[-1])["event"] == "done"
    assert "Traceback" not in ended.stderr


def test_what_only_prints_tells_a_full_disk_from_a_reader_that_has_gone(tmp_path):
    for screen, status, error in (
        ("| true", 0, ""),
        (">&-", 0, ""),
        (">/dev/full", 1, "error: standard output could not be written: No space left on device\n"),
    ):
        ended = shell([*SMS_DIST, "plan"], screen, tmp_path)
        assert (ended.returncode, ended.stderr) == (status, error)


def test_the_first_file_takes_no_place_of_a_closed_stream(tmp_path):
    program = (
        "from sms_dist.base.process import open_screen; open_screen()\n"
        "import os; file = open('first', 'w'); print('lost'); os.write(1, b'lost'); file.close()"
    )
    assert shell(["-c", program], ">&-", tmp_path).returncode == 0
    assert (tmp_path / "first").read_text() == ""
