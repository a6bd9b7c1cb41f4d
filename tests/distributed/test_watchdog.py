"""A rank dies or hangs: the others end soon, and one line says who it was and what is known."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from launching import PROGRAMS, launch_forked, launched, marked, wait_for

from sms_dist.base.process import Process, is_gone, this_process
from sms_dist.mesh.beats import Beat, Limits, Listener, fault, is_consequence
from sms_dist.mesh.topology import collective_timeout
from sms_dist.mesh.watchdog import seconds_between_beats
from sms_dist.start.local_ranks import describe

WATCHED = PROGRAMS / "watched.py"
WHO = r"error: rank 1 on \S+ \(pid \d+, phase 1, candidate 2, step \d+\): "
SAID = {
    "exception": WHO + r"failed with KeyError: 'x'",
    "segfault": WHO + "the process is gone",
    "exit": WHO + "the process is gone",
    "killed": WHO + "the process is gone",
    "rank 0 killed": WHO.replace("1 on", "0 on") + "the process is gone",
    "killed elsewhere": WHO + r"not heard of for \d+ s and its connections are broken",
    "sleep": WHO + r"no progress for \d+ s, at programs/watched.py:\d+ <lambda>; "
    r"waiting for it: ranks 0, 2 at programs/watched.py:\d+ work, in .* all_reduce",
    "lock": WHO + r"no progress for \d+ s, at programs/watched.py:\d+ wait_for_a_lock; "
    "waiting for it: ranks 0, 2 at ",
    "interpreter": WHO + r"not heard of for \d+ s",
    "stopped": WHO + r"not heard of for \d+ s",
    "store killed": r"the store on 127.0.0.1:\d+ is out of reach \(.*\); its host or launcher",
    "store stopped": r"the store on 127.0.0.1:\d+ is out of reach \(no answer for \d+ s\)",
}
HARMLESS = ("resting", "all suspended")


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """Name of a world -> (how its ranks ended, what they said on stderr)."""
    folder = tmp_path_factory.mktemp("watched")
    finished = launch_forked(WATCHED, [folder], folder / "logs", timeout=150)
    assert finished.status == 0, finished
    ends = json.loads(finished.out)
    return {world: (ends[world], (folder / world).read_text()) for world in ends}, folder


@pytest.mark.parametrize("world", SAID)
def test_nobody_waits_for_a_rank_that_is_lost_or_hangs(watched, world) -> None:
    ends, said = watched[0][world]
    assert None not in ends, said
    others = ends[:1] + ends[2:] if world != "rank 0 killed" else ends[1:]
    assert [end["status"] for end in others] == [1, 1], said


@pytest.mark.parametrize("world", SAID)
def test_the_culprit_is_named_once(watched, world) -> None:
    _, said = watched[0][world]
    errors = [line for line in said.splitlines() if line.startswith("error: rank")]
    assert len(errors) == 1, said
    assert re.search(SAID[world], errors[0]), errors


@pytest.mark.parametrize("world", HARMLESS)
def test_who_may_wait_and_who_was_suspended_is_not_accused(watched, world) -> None:
    ends, said = watched[0][world]
    assert [end["status"] for end in ends] == [0, 0, 0], said
    assert "error" not in said


def test_what_the_others_die_of_is_put_down_to_who_died_first(watched) -> None:
    _, folder = watched
    for world in ("killed", "exception", "rank 0 killed"):
        files = folder.glob(f"{world}.explained.*")
        told = {file.read_text() for file in files} - {""}  # who was ended before it could write
        assert len(told) == 1, told
        assert re.search(SAID[world].removeprefix("error: "), told.pop())


def test_no_process_outlives_a_killed_torchrun(tmp_path) -> None:
    with launched(WATCHED, [tmp_path], tmp_path / "logs", ranks=2) as running:
        wait_for(lambda: len(list(tmp_path.glob("torchrun.[01]"))) == 2)
        os.kill(running.worker(1), signal.SIGSTOP)  # a stopped rank does not act on its own
        assert len(marked(running._mark)) >= 3  # ranks and torchrun
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait()
        wait_for(lambda: not marked(running._mark))


def _step_of(file):
    text = file.read_text() if file.is_file() else ""
    return int(text or 0)  # empty while it is written


@pytest.mark.parametrize(
    ("rank", "said"), [(1, r"not heard of for \d+ s"), (0, "the process is stopped")]
)
def test_a_stopped_rank_is_named_and_ended_by_its_launcher(
    rank, said, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")  # rank 0 holds the store
    words = WATCHED, [tmp_path], tmp_path / "logs", 2, ["--shutdown-timeout=1"]
    with launched(*words) as running:
        # Not before all have heard of each other: steps take 20 ms, beats come every second.
        wait_for(lambda: all(_step_of(tmp_path / f"torchrun.{i}") > 200 for i in range(2)))
        os.kill(running.worker(rank), signal.SIGSTOP)
        status = running.process.wait(timeout=120)
        assert not marked(running._mark)
        finished = running.end(timeout=1)
    assert status == 1
    assert re.search(rf"error: rank {rank} on \S+ \(pid \d+.*\): {said}", finished.err), finished


@pytest.mark.parametrize(
    ("hang_seconds", "minutes"), [(60.0, 35), (1800.0, 35), (7200.0, 125), (None, 7 * 24 * 60)]
)
def test_a_collective_outlasts_the_limit_of_the_watchdog_which_names_who_hangs(
    hang_seconds, minutes
) -> None:
    assert collective_timeout(hang_seconds) == timedelta(minutes=minutes)


def test_how_a_rank_ended_in_a_line() -> None:
    class Failure:
        exitcode, pid = -int(signal.SIGSEGV), 7

        def signal_name(self):
            return "SIGSEGV"

    assert re.fullmatch(r"rank 1 on \S+ \(pid 7\) was killed by SIGSEGV", describe(1, Failure()))
    Failure.exitcode = 3
    assert describe(1, Failure()).endswith("ended with status 3")


# Who is lost, who hangs: judged without processes.

LIMITS = Limits(silence=60.0, silence_when_cut=4.0, hang=100.0)


def beat(rank, count=1, host="a", **facts):
    return Beat(rank, count, Process(host, host, 100 + rank, "0"), **facts)


def looked_for(listener, gone):
    return listener.gone(lambda process: process.pid - 100 in gone, "a")


def judged(listener, gone=()):
    return fault(listener, LIMITS, looked_for(listener, gone))


def heard(*rounds):
    """A listener to beats that came 10 s apart."""
    listener = Listener(range(max(len(beats) for beats in rounds)))
    for beats in rounds:
        listener.hear({b.rank: b for b in beats}, 10.0)
    return listener


def test_a_rank_whose_count_stands_still_for_the_limit_is_lost() -> None:
    rounds = [[beat(0, i), beat(1, min(i, 2))] for i in range(1, 8)]
    assert judged(heard(*rounds)) is None
    text = judged(heard(*rounds, [beat(0, 8), beat(1, 2)]))
    assert text == "rank 1 on a (pid 101): not heard of for 60 s"


def test_ranks_of_a_lost_host_are_named_together() -> None:
    rounds = [[beat(0, i), beat(1, 1, "b"), beat(2, 1, "b")] for i in range(1, 8)]
    text = judged(heard(*rounds))
    assert text == "ranks 1, 2 on b (first: rank 1 on b (pid 101)): not heard of for 60 s"


def test_a_rank_that_never_began_is_lost_later() -> None:
    listener = Listener(range(2))
    for i in range(12):
        assert judged(listener) is None
        listener.hear({0: beat(0, i)}, 10.0)
    assert judged(listener) == "rank 1: never heard of"


def test_a_broken_connection_makes_short_silence_suspicious() -> None:
    rounds = [[beat(0, i, is_cut=i > 1), beat(1, 1)] for i in range(1, 3)]
    text = judged(heard(*rounds))
    assert text == "rank 1 on a (pid 101): not heard of for 10 s and its connections are broken"


def test_who_has_left_is_not_missed() -> None:
    rounds = [[beat(0, i), beat(1, 1, has_left=True)] for i in range(1, 20)]
    assert judged(heard(*rounds), gone={1}) is None


def test_who_leaves_and_ends_while_beats_are_read_is_not_missed() -> None:
    listener = heard([beat(0), beat(1), beat(2)])
    gone = looked_for(listener, {2})
    listener.hear({1: beat(1, 2, has_left=True)}, 1.0)
    assert fault(listener, LIMITS, gone) == "rank 2 on a (pid 102): the process is gone"
    listener.hear({2: beat(2, 2, has_left=True)}, 1.0)
    assert fault(listener, LIMITS, gone) is None
    assert looked_for(listener, {1, 2}) == set()


def test_a_process_of_another_machine_is_not_looked_for_here() -> None:
    assert judged(heard([beat(0), beat(1, host="b")]), gone={1}) is None
    assert (
        judged(heard([beat(0), beat(1)]), gone={1}) == "rank 1 on a (pid 101): the process is gone"
    )


def test_of_hung_ranks_those_that_wait_for_others_come_last() -> None:
    waits = {"idle": 101.0, "location": "all_reduce", "is_waiting": True, "moves": 7}
    hangs = {"idle": 60.0, "location": "read.py:3 read", "moves": 7}
    text = judged(heard([beat(0, **waits), beat(1, **hangs), beat(2, **waits)]))
    assert text == (
        "rank 1 on a (pid 101): no progress for 60 s, at read.py:3 read; "
        "waiting for it: ranks 0, 2 at all_reduce"
    )


def test_ranks_that_only_wait_for_each_other_are_said_to() -> None:
    waits = {"idle": 101.0, "location": "all_reduce", "is_waiting": True}
    text = judged(heard([beat(0, **waits), beat(1, **waits)]))
    assert text == "ranks wait for each other: ranks 0, 1 at all_reduce"


def test_a_rank_that_may_rest_does_not_hang() -> None:
    assert judged(heard([beat(0, location="wait", idle=None)])) is None


def test_a_process_is_known_by_when_it_began() -> None:
    here = this_process()
    assert not is_gone(here)
    assert is_gone(Process(here.host, here.machine, here.pid, "1"))  # its number was used again
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie
        stat = Path(f"/proc/{child.pid}/stat").read_text()
        born = stat.rpartition(")")[2].split()[19]
        assert is_gone(Process(here.host, here.machine, child.pid, born))


@pytest.mark.parametrize(
    ("silence", "ranks", "seconds"),
    [(60, 4, 1), (5, 4, 0.5), (600, 4, 10), (60, 4096, 4.096), (5, 4096, 1)],
)
def test_beats_are_no_more_frequent_than_is_of_use(silence, ranks, seconds) -> None:
    assert seconds_between_beats(silence, ranks) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[../gloo/transport/tcp/pair.cc:544] Connection closed by peer [127.0.0.1]:2349", True),
        ("Broken pipe", True),
        ("NCCL communicator was aborted on rank 1.", True),
        ("Timed out waiting 1800000ms for recv operation to complete", True),
        ("mat1 and mat2 shapes cannot be multiplied", False),
        ("CUDA out of memory", False),
    ],
)
def test_what_another_ranks_end_brings_about(text, expected) -> None:
    assert is_consequence(RuntimeError(text)) is expected
    assert not is_consequence(KeyError(text))
