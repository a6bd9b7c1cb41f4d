"""What torchrun, deepspeed, srun or plain python runs on every rank."""

from __future__ import annotations


def main() -> None:
    """Run an experiment on this rank; `--help` names the options."""
    from sms_dist.start.rank_process import end_with_launcher

    end_with_launcher()  # first of all: what is imported next takes its time
    from sms_dist.start.rank import main

    main()
