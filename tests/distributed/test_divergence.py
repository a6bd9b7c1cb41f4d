"""Candidates that diverge: dropped, retried with other seeds, or the end of the run.

The model of these runs goes wrong for some seeds and not for others (programs/fragile.py). The seed
of the runs is one for which, of four candidates, candidate 1 of phase 1 goes wrong and its first
retry does not, and candidate 2 of phase 2 goes wrong and its first retry too.
"""

from __future__ import annotations

import json
import shutil
import sys
from itertools import count

import pytest
import torch
from launching import (
    MAIN,
    PROGRAMS,
    TINY,
    all_weights,
    launch_forked,
    main_arguments,
    read_json,
    start_several,
    weights,
)

from sms_dist.config import CandidatesConfig, RetrainConfig
from sms_dist.experiment.divergence import (
    _rejected,
    attempts_with,
    is_rejected,
    judged,
    nth_attempt,
    reject,
)
from sms_dist.methods.phases import Candidate
from sms_dist.run import store
from sms_dist.run.journal import read
from sms_dist.run.paths import RunPaths
from sms_dist.run.schema import Attempt, CandidateMetrics, Divergence

sys.path.append(str(PROGRAMS))

from fragile import goes_wrong

NOT_FINITE, FAR = "model.options.factor=1e39", "model.options.factor=1e4"
RETRY = ("candidates.on_divergence=retry", "candidates.retries=1")
STOP = "candidates.on_divergence=stop"
NAMES = ("not_finite", "far")


# Whole runs.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("divergence")
    shutil.copy(PROGRAMS / "fragile.py", folder)  # processes start in here
    return folder


@pytest.fixture(scope="module")
def fragile(from_dense, dense_run):
    """The settings that all runs share."""
    num_steps = read_json(dense_run / "plan.json")["sizes"]["steps_per_epoch"]
    seed = next(seed for seed in count() if has_pattern(seed, num_steps))
    model = ("model.name=fragile:fragile", "candidates.count=4", "soup.ensemble=false")
    return (from_dense, *model, f"seed={seed}")


def has_pattern(seed, num_steps):
    """Do candidates 1 and 2 go wrong as wanted, and nobody else?"""
    plan = [Candidate(i, 1000 * seed + i, RetrainConfig()) for i in range(4)]
    again = [nth_attempt(candidate, [{}]) for candidate in plan]

    def is_wrong(candidate, phase):
        return goes_wrong(candidate.seed, phase, num_steps)

    wanted = [(plan[1], 1, True), (plan[2], 2, True), (again[2], 2, True), (again[1], 1, False)]
    wanted += [(plan[i], 1, False) for i in (0, 2, 3)] + [(plan[i], 2, False) for i in (0, 1, 3)]
    return all(is_wrong(candidate, phase) == wrong for candidate, phase, wrong in wanted)


@pytest.fixture(scope="module")
def stopped(folder, fragile):
    """A run whose policy is to stop, by one process; and how it ended."""
    run = folder / "stopped"
    arguments = main_arguments(run, *fragile, NOT_FINITE, STOP)
    return run, launch_forked(MAIN, arguments, folder)


@pytest.fixture(scope="module")
def by_four(folder, fragile):
    base = folder / "by_4"
    runs = {
        base / "not_finite": (*fragile, NOT_FINITE, *RETRY),
        base / "far": (*fragile, FAR, *RETRY),
        base / "own_dropped": (*fragile, FAR, "method.name=imp_reprune"),
    }
    start_several(runs, folder, ranks=4)
    return base


@pytest.fixture(scope="module")
def started_again(folder, fragile, stopped):
    """The run that stopped, with another policy."""
    run = shutil.copytree(stopped[0], folder / "started_again")
    start_several({run: (*fragile, NOT_FINITE, *RETRY)}, folder)
    return run


@pytest.fixture(scope="module")
def killed(folder, fragile):
    """The same in a single process that is killed while it retries; how often it was."""
    base, retrying = folder / "killed", ["phase_{0}/rejected/[a-z]*/manifest.json", "phase_{0}/{1}"]
    at = [
        [pattern.format(*place) for pattern in retrying]
        for place in ((1, "candidate_1"), (2, "candidate_2"))
    ]
    tasks = {
        str(base / name): {"settings": [*TINY, *fragile, factor, *RETRY], "at": at}
        for name, factor in zip(NAMES, (NOT_FINITE, FAR), strict=True)
    }
    base.mkdir()
    (base / "tasks.json").write_text(json.dumps(tasks))
    finished = launch_forked(
        PROGRAMS / "killed_runs.py", [base / "tasks.json"], folder, timeout=150
    )
    assert finished.status == 0, finished
    return base, list(json.loads(finished.out).values())


def candidates(run, phase):
    return read_json(run / "summary.json")["phases"][phase - 1]["candidates"]


def divergences(run):
    events = [event for event in read(run / "journal.jsonl") if event.event == "divergence"]
    return [(e.phase, e.candidate, e.attempt, e.divergence.kind, e.action) for e in events]


@pytest.mark.parametrize(("name", "kind"), [("not_finite", "not finite"), ("far", "far")])
def test_a_candidate_is_retried_with_another_seed_and_dropped_when_tries_are_used_up(
    by_four, name, kind
):
    run = by_four / name
    assert divergences(run) == [
        (1, 1, 0, kind, "retried"),
        (2, 2, 0, kind, "retried"),
        (2, 2, 1, kind, "dropped"),
    ]
    first, second = candidates(run, 1)[1], candidates(run, 2)[2]
    assert not first["diverged"]
    assert second["diverged"]
    for found in (first, second):
        (attempt,) = found["attempts"]
        assert attempt["divergence"]["kind"] == kind
        assert attempt["seed"] != found["seed"]
    assert [c["diverged"] for c in candidates(run, 1)] == [False] * 4
    assert not any("attempts" in c for c in (*candidates(run, 1)[2:], *candidates(run, 2)[:2]))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_retried_counts_in_the_soup_and_what_is_dropped_does_not(by_four, name):
    run, phases = by_four / name, ((1, (0, 1, 2, 3)), (2, (0, 1, 3)))
    for phase, members in phases:
        place = run / f"phase_{phase}"
        soup = weights(place / "soup")["classifier.weight"]
        states = [weights(place / f"candidate_{i}")["classifier.weight"] for i in members]
        assert torch.equal(soup, torch.stack(states).double().mean(0).float())


@pytest.mark.parametrize("name", NAMES)
def test_killed_while_it_retries_one_process_comes_to_the_bits_of_four(by_four, killed, name):
    base, kills = killed
    assert kills == [2, 2]
    assert all_weights(base / name) == all_weights(by_four / name)
    assert candidates_without_time(base / name) == candidates_without_time(by_four / name)


def candidates_without_time(run):
    found = [*candidates(run, 1), *candidates(run, 2)]
    return [{key: c[key] for key in c if key != "seconds"} for c in found]


def test_rejected_attempts_keep_their_documents_and_no_weights(by_four):
    for name in NAMES:
        place = by_four / name / "phase_1" / "rejected"
        (document,) = read_json(place / "candidate_1_attempt_0" / "metrics.json")
        assert document["epochs"]
        assert document["seed"] == candidates(by_four / name, 1)[1]["attempts"][0]["seed"]
        assert not list(place.rglob("*.safetensors"))


def test_one_alone_far_from_the_others_is_dropped_and_its_weights_stay_to_be_looked_at(by_four):
    run = by_four / "own_dropped"
    assert divergences(run) == [(1, 1, 0, "far", "dropped"), (2, 2, 0, "far", "dropped")]
    soup = read_json(run / "phase_1" / "soup" / "metrics.json")
    assert soup["coefficients"] == {str(i): pytest.approx(1 / 3) for i in (0, 2, 3)}
    far, scores = soup["candidates"][1], [c["test_accuracy"] for c in soup["candidates"]]
    assert far["divergence"]["loss"] > 2 * far["divergence"]["median"]
    assert soup["mean_candidate"] == pytest.approx(sum(scores[i] for i in (0, 2, 3)) / 3)
    assert (run / "phase_1" / "candidate_1" / "weights.safetensors").is_file()


def test_who_goes_on_with_his_own_weights_and_was_dropped_stays_dropped(by_four):
    run = by_four / "own_dropped"
    assert [c["diverged"] for c in candidates(run, 1)] == [False, True, False, False]
    assert [c["diverged"] for c in candidates(run, 2)] == [False, True, True, False]
    assert candidates(run, 2)[1]["divergence"] == {"kind": "earlier"}


def test_the_policy_stop_ends_the_run_with_one_line_and_no_soup(stopped):
    run, finished = stopped
    assert finished.status == 1, finished
    (line,) = finished.err.splitlines()
    seed = read_json(run / "phase_1" / "candidate_1" / "metrics.json")["seed"]
    assert line.startswith(
        f"error: phase 1: candidate 1 (seed {seed}) diverged: loss or weights not finite after "
        "epoch 1; start again with candidates.on_divergence=drop or retry"
    )
    assert divergences(run) == [(1, 1, 0, "not finite", "stopped")]
    assert not (run / "phase_1" / "soup").exists()


def test_with_another_policy_it_goes_on_as_if_that_had_been_the_first(by_four, started_again):
    assert all_weights(started_again) == all_weights(by_four / "not_finite")


# Decisions and what is on disk.

RETRYING = CandidatesConfig(on_divergence="retry")
PHASE = 1
LOST = {"kind": "not finite", "epoch": 1, "loss": None}


def document(i, loss, attempts=0, learning_rate=0.1, **more):
    epoch = {"epoch": 1, "loss": loss, "accuracy": 0.5, "learning_rate": 0.1, "num_samples": 9}
    found = {
        "index": i,
        "seed": i,
        "retrain": {"epochs": 1, "learning_rate": learning_rate},
        "diverged": False,
        "epochs": [epoch],
        "attempts": [{"seed": n, "divergence": LOST} for n in range(attempts)],
    }
    return CandidateMetrics.model_validate(found | more)


def far_ones(policy, documents):
    found = judged(policy, {each.index: each for each in documents})
    return [i for i, judgement in found.items() if judgement.diverged]


def test_only_candidates_that_are_retrained_alike_are_compared():
    alike = [document(i, loss) for i, loss in enumerate((0.5, 0.5, 5.0))]
    assert far_ones(CandidatesConfig(), alike) == [2]
    alike[2] = document(2, 5.0, learning_rate=3.0)
    assert far_ones(CandidatesConfig(), [*alike, document(3, 0.5)]) == []


def test_without_a_limit_nobody_is_far():
    documents = [document(i, loss) for i, loss in enumerate((0.5, 0.5, 5.0))]
    assert far_ones(CandidatesConfig(far=None), documents) == []
    assert far_ones(CandidatesConfig(far=20.0), documents) == []


def test_one_that_is_not_finite_says_nothing_about_the_others():
    documents = [document(0, 0.5), document(1, 5.0), document(2, 0.5, diverged=True)]
    assert far_ones(CandidatesConfig(), documents) == [2]


def test_retries_are_counted_and_who_diverged_in_an_earlier_phase_has_none():
    lost = {"diverged": True, "divergence": LOST}
    assert [is_rejected(RETRYING, document(0, 1.0, n, **lost)) for n in range(4)] == [
        *(True, True),
        *(False, False),
    ]
    assert not is_rejected(
        RETRYING, document(0, 1.0, diverged=True, divergence={"kind": "earlier"})
    )
    assert not is_rejected(CandidatesConfig(), document(0, 1.0, **lost))


def test_seeds_of_retries_differ_and_follow_from_the_candidates_own():
    attempt = Attempt.model_validate({"seed": 1, "divergence": LOST})
    plan = [Candidate(i, seed, RetrainConfig()) for i, seed in enumerate((0, 1, 1000, 1001))]
    seeds = [nth_attempt(candidate, [attempt] * n).seed for candidate in plan for n in range(4)]
    assert len(set(seeds)) == len(seeds)
    assert seeds[::4] == [0, 1, 1000, 1001]
    assert all(0 <= seed < 2**31 for seed in seeds)


class Five:
    """A phase of five candidates."""

    index, candidates = PHASE, tuple(Candidate(i, i, RetrainConfig()) for i in range(5))


def saved(paths, documents):
    for found in documents:
        store.save(paths.candidate(PHASE, found.index), {}, {"metrics.json": found.as_json()})


def test_a_start_that_was_killed_between_telling_and_removing_is_obeyed(tmp_path):
    """Of two candidates rejected together, one was removed: judging the rest anew could acquit."""
    paths = RunPaths(tmp_path)
    divergence = Divergence(kind="far", loss=5.0, median=0.5)
    lost = {"diverged": True, "divergence": divergence}
    stored = [document(i, 5.0 if i in (1, 3) else 0.5) for i in range(5)]
    saved(paths, stored)
    reject(paths, PHASE, [stored[i].model_copy(update=lost) for i in (1, 3)])
    saved(paths, [stored[3]])  # as if it had not come to that
    found = _rejected(RETRYING, paths, Five)
    assert {i: len(attempts) for i, attempts in found.items()} == {"1": 1, "3": 1}
    assert [i for i in range(5) if store.is_complete(paths.candidate(PHASE, i))] == [0, 2, 4]
    attempts = attempts_with(stored[1].model_copy(update=lost))
    saved(paths, [document(1, 0.5).model_copy(update={"attempts": attempts})])
    _rejected(RETRYING, paths, Five)
    assert store.is_complete(paths.candidate(PHASE, 1))


def test_what_a_save_left_that_was_killed_is_no_judgement(tmp_path):
    paths = RunPaths(tmp_path)
    saved(paths, [document(1, 0.5)])
    remains = paths.rejected(PHASE) / ".candidate_1_attempt_0.77.tmp"
    remains.mkdir(parents=True)
    (remains / "manifest.json").touch()
    assert _rejected(RETRYING, paths, Five) == {}
    assert store.is_complete(paths.candidate(PHASE, 1))


@pytest.mark.parametrize(("policy", "is_kept"), [("drop", True), ("stop", True), ("retry", False)])
def test_what_diverged_under_another_policy_is_retried_where_that_is_the_policy_now(
    tmp_path, policy, is_kept
):
    paths = RunPaths(tmp_path)
    lost = {"diverged": True, "divergence": LOST}
    saved(paths, [document(2, 0.5, **lost)])
    found = _rejected(CandidatesConfig(on_divergence=policy), paths, Five)
    assert store.is_complete(paths.candidate(PHASE, 2)) == is_kept
    assert list(found) == ([] if is_kept else ["2"])
