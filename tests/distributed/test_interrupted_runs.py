"""Whole runs that are stopped or killed in the middle of a training: no bit differs in the end."""

from __future__ import annotations

import json
import os
import signal

import pytest
from launching import (
    MAIN,
    ROOT,
    all_weights,
    launched,
    main_arguments,
    read_json,
    start,
    wait_for,
)

LOCAL_RANKS = ROOT / "sms_dist" / "start" / "local_ranks.py"
SQUARE = ("engine.ranks_per_candidate=2",)  # on 4 ranks; else there are two groups of one
LONG = ("pruning.phases=1", "retrain.epochs=8", "records.every_steps=5", "candidates.count=2")


def arguments(run, *settings):
    return main_arguments(run, *LONG, *settings)


def on_local_ranks(run, number, *settings):
    """What follows `python` to start so many ranks by `sms-dist run`'s way."""
    return ["--standalone", f"--nproc-per-node={number}", MAIN, *arguments(run, *settings)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("interrupted")


@pytest.fixture(scope="module")
def undisturbed(folder, from_dense):
    """Ranks of a candidate -> the weights of a run by two groups."""
    runs = {folder / "1": (*LONG, from_dense), folder / "2": (*LONG, from_dense, *SQUARE)}
    for ranks, (run, settings) in enumerate(runs.items(), 1):
        finished = start(run, *settings, ranks=2 * ranks)
        assert finished.status == 0, finished
        assert not (run / "recovery").exists()
    return {int(run.name): all_weights(run) for run in runs}


def points(run, candidate):
    """Steps of the recovery points of a candidate in the first phase."""
    place = run / "recovery" / f"phase_1_candidate_{candidate}"
    return [read_json(path)["document"]["steps"] for path in place.glob("?/rank_0.json")]


def events(run, name):
    lines = (run / "journal.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == name]


def resumed(run):
    """Candidate -> at which steps it was gone on with."""
    documents = [read_json(path) for path in run.glob("phase_1/candidate_*/metrics.json")]
    return {document["index"]: document.get("resumed_at", []) for document in documents}


def test_a_stop_file_stops_all_groups_and_the_next_start_comes_to_the_same_end(
    folder, from_dense, undisturbed
):
    run = folder / "stopped"
    words = on_local_ranks(run, 4, from_dense, *SQUARE)
    with launched(LOCAL_RANKS, words, folder / "logs") as launch_:
        wait_for(lambda: points(run, 0) and points(run, 1))
        (run / "stop").touch()
        finished = launch_.end(timeout=60)
    assert finished.status == 75, finished
    assert "stopped (the file" in finished.err
    (stopped,) = events(run, "stopped")
    assert str(run / "stop") in stopped["reason"]
    at = {i: max(points(run, i)) for i in (0, 1)}
    assert all(0 < steps < 8 * 23 for steps in at.values())
    finished = start(run, *LONG, from_dense, *SQUARE, ranks=4)
    assert finished.status == 0, finished
    assert resumed(run) == {i: [steps] for i, steps in at.items()}
    assert all_weights(run) == undisturbed[2]
    assert not (run / "recovery").exists()
    assert not (run / "stop").exists()


def test_a_signal_to_one_rank_stops_all_of_them(folder, from_dense):
    """Under plain torchrun, which ends with a status of its own."""
    run = folder / "signalled"
    with launched(MAIN, arguments(run, from_dense), folder / "logs", ranks=2) as launch_:
        wait_for(lambda: points(run, 0) and points(run, 1))
        os.kill(launch_.worker(1), signal.SIGUSR1)
        finished = launch_.end(timeout=60)
    assert finished.status == 1
    assert "exitcode  : 75" in finished.err
    assert "stopped (SIGUSR1): give the same command again to go on" in finished.err
    assert all(points(run, i) for i in (0, 1))


def test_a_rank_that_is_killed_is_started_again_by_torchrun_and_goes_on(
    folder, from_dense, undisturbed
):
    run = folder / "killed"
    options = ("--max-restarts=1",)
    with launched(MAIN, arguments(run, from_dense), folder / "logs", 2, options) as launch_:
        wait_for(lambda: points(run, 0) and points(run, 1))
        os.kill(launch_.worker(1), signal.SIGKILL)
        finished = launch_.end(timeout=120)
    assert finished.status == 0, finished
    assert all(at and at[0] > 0 for at in resumed(run).values())
    assert all_weights(run) == undisturbed[1]
