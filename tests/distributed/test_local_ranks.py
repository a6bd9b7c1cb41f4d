"""When sms_dist/start/local_ranks.py starts ranks again, and what it ends with."""

from __future__ import annotations

import pytest
from launching import ROOT, launch_forked

LOCAL_RANKS = ROOT / "sms_dist" / "start" / "local_ranks.py"
PROGRAM = ROOT / "tests" / "distributed" / "programs" / "asked_to_stop.py"


def ended(folder, how, max_restarts):
    """How a launch ended whose rank 1 did so, and how often its ranks were started."""
    words = ["--standalone", "--nproc-per-node=2", f"--max-restarts={max_restarts}"]
    finished = launch_forked(LOCAL_RANKS, [*words, PROGRAM, folder, how], folder / "logs")
    return finished, len(list(folder.glob("start_*_rank_1")))


@pytest.mark.parametrize("how", ["killed", "failed"])
def test_a_crash_is_no_end_on_purpose_though_the_other_ranks_stop_when_they_are_asked_to(
    how, tmp_path
):
    finished, num_starts = ended(tmp_path, how, max_restarts=2)
    assert finished.status == 0, finished
    assert num_starts == 2


def test_a_crash_is_told_as_such_where_no_restart_is_left(tmp_path):
    finished, num_starts = ended(tmp_path, "killed", max_restarts=0)
    assert finished.status == 1
    assert "rank 1 on" in finished.err
    assert "was killed by SIGKILL" in finished.err
    assert num_starts == 1


@pytest.mark.parametrize(("how", "status"), [("bad_input", 2), ("stopped", 75)])
def test_ranks_that_end_on_purpose_are_not_started_again(how, status, tmp_path):
    finished, num_starts = ended(tmp_path, how, max_restarts=2)
    assert finished.status == status, finished
    assert finished.err == ""
    assert num_starts == 1
