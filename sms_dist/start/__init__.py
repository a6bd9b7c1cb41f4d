"""What torchrun, deepspeed, srun or plain python runs on every rank."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Run an experiment on this rank; `--help` names the options."""
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [each for each in sys.path if each != here]  # where this was started as a file
    from sms_dist.start.rank_process import end_with_launcher

    end_with_launcher()  # first of all: what is imported next takes its time
    from sms_dist.start.rank import main

    main()
