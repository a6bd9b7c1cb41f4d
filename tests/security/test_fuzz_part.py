"""A small part of `make fuzz`, always the same: no bad file does more than to be refused."""

import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).resolve().parents[1] / "fuzz.py"


@pytest.mark.timeout(300)
def test_bad_files_are_refused_in_words():
    # a process of its own: its audit hook and its limit of memory stay for good
    command = [sys.executable, str(FUZZ), "--inputs", "200", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "canary files: untouched" in done.stdout
