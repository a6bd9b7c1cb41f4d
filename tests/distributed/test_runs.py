"""Whole runs: what they leave behind, and that ranks, waves, engines and crashes change no bit."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest
import torch
from launching import (
    MAIN,
    all_weights,
    launched,
    main_arguments,
    mask,
    read_json,
    sha256,
    start,
    start_several,
    torchrun,
    wait_for,
    weights,
)

from sms_dist import models
from sms_dist.config import ModelConfig

SQUARE = ("engine.ranks_per_candidate=2", "pretrain.weight_decay=1e-3")  # 2 groups of 2 ranks
FOUR = "candidates.count=4"
PHASES = {1: 1 - 0.1**0.5, 2: 0.9}  # sparsities
ENGINES = {
    "ddp": (),
    "zero_1": ("engine.name=deepspeed", "engine.zero_stage=1"),
}
BROKEN = ("candidates.vary={learning_rate: [0.1, 1e20, 0.1]}", "soup.loss_barrier=true")
CANDIDATES = range(3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def square(folder):
    """4 ranks, 2 groups, 3 candidates: (run folder, folder of what each rank printed)."""
    run, printed = folder / "square", folder / "printed"
    options = ("--redirects=3", f"--log-dir={printed}")
    finished = torchrun(run, *SQUARE, "records.tensorboard=true", ranks=4, options=options)
    assert finished.status == 0, finished
    (ranks,) = printed.glob("*/attempt_0")
    return run, ranks


@pytest.fixture(scope="module")
def run(square):
    return square[0]


@pytest.fixture(scope="module")
def damaged(run, folder):
    """name -> a maker of a copy of the finished run of which something is missing."""

    def copy(name, *missing):
        target = shutil.copytree(run, folder / name)  # keeps the times
        for path in missing:
            shutil.rmtree(target / path)
        return target

    return copy


@pytest.fixture(scope="module")
def by_four(folder, from_dense, damaged):
    """Runs of 4 ranks, in the same processes; (folder, what was printed)."""
    base = folder / "by_4"
    base.mkdir()
    runs = {base / name: (from_dense, FOUR, *more) for name, more in ENGINES.items()}
    runs |= {
        base / "greedy": (from_dense, FOUR, "soup.rule=greedy"),
        base / "broken": (from_dense, *BROKEN),
        damaged("by_4/no_piece", "phase_2/soup", "phase_2/candidate_1"): SQUARE,
    }
    return base, start_several(runs, folder / "logs", ranks=4).out


@pytest.fixture(scope="module")
def by_two(folder, from_dense, damaged):
    """Runs of 2 ranks, in the same processes; (folder, what was printed)."""
    base = folder / "by_2"
    base.mkdir()
    runs = {base / name: (from_dense, FOUR, *more) for name, more in ENGINES.items()}
    runs |= {
        base / "greedy": (from_dense, FOUR, "soup.rule=greedy"),
        damaged("by_2/no_phase", "phase_2"): SQUARE,
        damaged("by_2/no_piece", "phase_2/soup", "phase_2/candidate_1"): SQUARE,
        damaged("by_2/finished"): SQUARE,
    }
    return base, start_several(runs, folder / "logs", ranks=2).out


@pytest.fixture(scope="module")
def alone(folder, from_dense):
    """Runs of a single process."""
    base = folder / "alone"
    base.mkdir()
    runs = {
        base / "ddp": (from_dense, FOUR),
        base / "imp_m_times": (from_dense, "method.name=imp_m_times"),
    }
    start_several(runs, folder / "logs")
    return base


def parameters(state):
    """Without the buffers of batch norm, which each state has recomputed for itself."""
    return {name: tensor for name, tensor in state.items() if not is_buffer(name)}


def is_buffer(name):
    return name.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")


def assert_is_mean(soup, states):
    for name, tensor in parameters(soup).items():
        mean = torch.stack([state[name].double() for state in states]).mean(0).float()
        assert torch.equal(tensor, mean), name


# What a run leaves behind.


def test_all_files_of_the_contract_are_there(run):
    wanted = ["config.yaml", "environment.json", "plan.json", "journal.jsonl", "summary.json"]
    wanted += ["dense/weights.safetensors", "tensorboard"]
    for phase in PHASES:
        pieces = ("weights.safetensors", "mask.safetensors", "metrics.json")
        wanted += [f"phase_{phase}/soup/{piece}" for piece in pieces]
        wanted += [f"phase_{phase}/candidate_{i}/weights.safetensors" for i in CANDIDATES]
    assert [path for path in wanted if not (run / path).exists()] == []
    assert list((run / "tensorboard").rglob("events*"))
    assert not list(run.rglob("*.tmp"))


def test_every_phase_keeps_exactly_the_rounded_count(run):
    for phase, sparsity in PHASES.items():
        kept = mask(run / f"phase_{phase}" / "soup")
        num = sum(tensor.numel() for tensor in kept.values())
        assert all(tensor.dtype is torch.bool for tensor in kept.values())
        assert sum(int(t.sum()) for t in kept.values()) == num - round(sparsity * num)


def test_candidates_and_soup_are_zero_outside_the_mask(run):
    for phase in PHASES:
        kept = mask(run / f"phase_{phase}" / "soup")
        for name in ("soup", *(f"candidate_{i}" for i in CANDIDATES)):
            state = weights(run / f"phase_{phase}" / name)
            assert all(not torch.count_nonzero(state[n][~kept[n]]) for n in kept), name
            assert all(torch.isfinite(tensor).all() for tensor in state.values())


def test_the_mask_prunes_weights_only_and_no_bias(run):
    kept = mask(run / "phase_1" / "soup")
    assert sorted(kept) == [f"{n}.weight" for n in ("classifier", "conv1", "conv2", "conv3")]


def test_the_soup_is_the_mean_of_its_candidates(run):
    for phase in PHASES:
        states = [weights(run / f"phase_{phase}" / f"candidate_{i}") for i in CANDIDATES]
        assert_is_mean(weights(run / f"phase_{phase}" / "soup"), states)


def test_masks_only_tighten_over_the_phases(run):
    first, second = (mask(run / f"phase_{phase}" / "soup") for phase in PHASES)
    assert all(not (second[name] & ~first[name]).any() for name in first)


def test_a_phase_keeps_the_largest_weights_of_the_soup_before(run):
    state, kept = weights(run / "phase_1" / "soup"), mask(run / "phase_2" / "soup")
    smallest = min(float(state[n][kept[n]].abs().min()) for n in kept if kept[n].any())
    assert all(float(state[n][~kept[n]].abs().max()) <= smallest for n in kept)


def test_tensors_are_those_of_the_bare_model(run):
    model = models.build_on_meta(
        ModelConfig(options={"width": 8}), (1, 8, 8), 10, data_name="digits"
    )
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    files = [run / "dense", *run.glob("phase_*/candidate_*"), *run.glob("phase_*/soup")]
    assert len(files) == 1 + 2 * 4
    for path in files:
        state = weights(path)
        assert {name: tensor.shape for name, tensor in state.items()} == wanted
        floats = {t.dtype for t in state.values() if t.is_floating_point()}
        assert floats == {torch.float32}


def test_candidates_differ(run):
    for phase in PHASES:
        files = {sha256(f) for f in run.glob(f"phase_{phase}/candidate_*/weights.safetensors")}
        assert len(files) == 3


def test_the_plan_says_what_was_done(run):
    plan, summary = read_json(run / "plan.json"), read_json(run / "summary.json")
    assert plan["num_groups"] == 2
    assert len(plan["phases"]) == len(summary["phases"]) == len(PHASES)
    for planned, done in zip(plan["phases"], summary["phases"], strict=True):
        assert planned["waves"] == [[0, 1], [2]]
        assert planned["surviving"] == done["surviving_weights"]
        assert planned["phase"]["sparsity"] == pytest.approx(done["sparsity"], abs=1e-3)
        seeds = [candidate["seed"] for candidate in planned["phase"]["candidates"]]
        assert seeds == [candidate["seed"] for candidate in done["candidates"]]
        assert len(set(seeds)) == 3


def test_the_summary_has_dense_soup_best_and_mean(run):
    summary = read_json(run / "summary.json")
    assert (summary["method"], summary["seed"], summary["goal_sparsity"]) == ("sms", 0, 0.9)
    assert 0 < summary["dense"]["test_accuracy"] <= 1
    for number, phase in enumerate(summary["phases"], 1):
        found = [candidate["test_accuracy"] for candidate in phase["candidates"]]
        assert phase["phase"] == number
        assert [candidate["index"] for candidate in phase["candidates"]] == [0, 1, 2]
        assert phase["best_candidate"] == max(found)
        assert phase["mean_candidate"] == pytest.approx(sum(found) / 3)
        assert sum(phase["coefficients"].values()) == pytest.approx(1)
        assert 0 < phase["soup"]["test_accuracy"] <= 1
        assert phase == read_json(run / f"phase_{number}" / "soup" / "metrics.json")
    last = summary["phases"][-1]
    assert summary["final"]["test_accuracy"] == last["soup"]["test_accuracy"]


def test_the_journal_tells_the_run_in_order(run):
    events = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    phase = ["candidate"] * 3 + ["soup"]
    assert [event["event"] for event in events] == ["start", "dense", *phase, *phase, "done"]
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)
    for event in events:
        if event["event"] == "candidate":
            place = run / f"phase_{event['phase']}" / f"candidate_{event['index']}"
            assert read_json(place / "metrics.json").items() <= event.items()


def test_only_rank_0_prints(square):
    run, printed = square
    texts = {
        rank: [(printed / str(rank) / f"std{s}.log").read_text() for s in ("out", "err")]
        for rank in range(4)
    }
    assert {rank: texts[rank] for rank in (1, 2, 3)} == {rank: ["", ""] for rank in (1, 2, 3)}
    out, err = texts[0]
    assert err == ""
    assert out.count("soup: ") == 1
    assert str(run / "phase_2" / "soup" / "weights.safetensors") in out
    assert all(word in out for word in ("sparsity", "soup", "best candidate", "mean", "dense"))
    lines = [line for line in out.splitlines() if line.strip()]
    assert len(lines) == len(set(lines))


# Ranks, waves and engines change no bit.


@pytest.mark.parametrize("engine", ENGINES)
def test_four_groups_and_two_waves_give_the_same_bits(engine, by_four, by_two):
    found = all_weights(by_four[0] / engine)
    assert len(found) == 2 * 5
    assert found == all_weights(by_two[0] / engine)


def test_a_single_process_gives_the_bits_of_four_groups(by_four, alone):
    assert all_weights(by_four[0] / "ddp") == all_weights(alone / "ddp")


def test_another_number_of_ranks_measures_the_same(by_four, by_two, alone):
    def measured(base):
        phases = read_json(base / "ddp" / "summary.json")["phases"]
        for phase in phases:
            phase.pop("distances")  # sums of slices: equal up to rounding
            for candidate in phase["candidates"]:
                candidate.pop("seconds")
        return phases

    assert measured(by_four[0]) == measured(by_two[0]) == measured(alone)


# Starting again.


def test_starting_again_changes_no_weights_and_shows_the_table(run, by_two):
    again, before = by_two[0] / "finished", all_weights(run)
    assert all_weights(again) == before
    for name in (*before, "dense/weights.safetensors"):
        assert (again / name).stat().st_mtime_ns == (run / name).stat().st_mtime_ns
    assert f"soup: {again}" in by_two[1].replace("\n", "")
    old, new = read_json(run / "summary.json"), read_json(again / "summary.json")
    assert old == new


def test_a_run_without_its_last_phase_comes_to_the_same_end_on_fewer_ranks(by_two, run):
    assert all_weights(by_two[0] / "no_phase") == all_weights(run)


@pytest.mark.parametrize("by", ["by_four", "by_two"])
def test_only_what_is_missing_of_a_phase_is_made_again(by, run, request):
    again = request.getfixturevalue(by)[0] / "no_piece"
    assert all_weights(again) == all_weights(run)
    made = {
        name
        for name in all_weights(run)
        if (again / name).stat().st_mtime_ns != (run / name).stat().st_mtime_ns
    }
    assert made == {f"phase_2/{name}/weights.safetensors" for name in ("soup", "candidate_1")}


def test_a_run_that_lost_a_rank_to_kill_9_ends_and_is_finished_by_the_next_start(
    folder, from_dense, alone
):
    run = folder / "killed"
    arguments = main_arguments(run, from_dense, FOUR)
    with launched(MAIN, arguments, folder / "logs", ranks=2) as launch:
        wait_for(lambda: list(run.glob("phase_1/candidate_*")))
        os.kill(launch.worker(1), signal.SIGKILL)
        assert launch.end(timeout=60).status != 0
    assert not (run / "phase_2" / "soup").exists()
    finished = start(run, from_dense, FOUR, ranks=2)
    assert finished.status == 0, finished
    assert all_weights(run) == all_weights(alone / "ddp")


# Rules, diagnostics, divergence, methods.


def test_the_greedy_soup_scores_no_worse_than_its_best_candidate(by_four):
    for phase in read_json(by_four[0] / "greedy" / "summary.json")["phases"]:
        found = [candidate["validation_accuracy"] for candidate in phase["candidates"]]
        assert phase["soup"]["validation_accuracy"] >= max(found)
        assert sum(phase["coefficients"].values()) == pytest.approx(1)


def test_the_greedy_soup_has_the_same_bits_on_any_number_of_ranks(by_four, by_two):
    assert all_weights(by_four[0] / "greedy") == all_weights(by_two[0] / "greedy")


def test_the_loss_barrier_is_measured_on_request_only(by_four):
    asked, plain = (read_json(by_four[0] / n / "summary.json") for n in ("broken", "ddp"))
    assert all(phase["distances"]["loss_barrier_max"] >= 0 for phase in asked["phases"])
    assert all("loss_barrier_max" not in phase["distances"] for phase in plain["phases"])


def test_a_candidate_that_diverges_is_left_out_and_named(by_four):
    run = by_four[0] / "broken"
    for phase in read_json(run / "summary.json")["phases"]:
        assert [c["diverged"] for c in phase["candidates"]] == [False, True, False]
        assert phase["candidates"][1]["test_accuracy"] is None
        assert phase["coefficients"] == {"0": 0.5, "2": 0.5}
        place = run / f"phase_{phase['phase']}"
        assert_is_mean(weights(place / "soup"), [weights(place / f"candidate_{i}") for i in (0, 2)])
        assert not (place / "candidate_1" / "weights.safetensors").exists()
        assert read_json(place / "candidate_1" / "metrics.json")["diverged"]
    assert "diverged: candidate 1 of phase 1" in by_four[1]


def test_a_candidate_that_diverges_under_clipping_is_left_out_too(folder, from_dense):
    run = folder / "clipped"
    finished = start(
        run,
        from_dense,
        "pretrain.clip_norm=1.0",
        "candidates.count=2",
        "candidates.vary={learning_rate: [0.1, 1e20]}",
    )
    assert finished.status == 0, finished
    for phase in read_json(run / "summary.json")["phases"]:
        assert [candidate["diverged"] for candidate in phase["candidates"]] == [False, True]


def test_a_phase_whose_candidates_all_diverge_fails_and_says_so(folder, from_dense):
    run = folder / "hopeless"
    settings = (from_dense, "retrain.learning_rate=1e20", "candidates.count=2")
    finished = start(run, *settings, ranks=2, timeout=60)
    assert finished.status != 0
    assert "phase 1: every candidate diverged" in finished.err
    said = [line for line in finished.err.splitlines() if line.startswith("error")]
    assert len(said) == 1, finished
    assert "retrain.learning_rate" in said[0]
    assert not (run / "phase_1" / "soup").exists()


def test_pretraining_that_diverges_stops_before_anything_is_pruned(folder):
    run = folder / "diverged"
    finished = start(run, "pretrain.learning_rate=1e20", "pretrain.epochs=1")
    assert finished.status == 1
    assert finished.err.startswith("error: the dense weights are not finite")
    assert not (run / "dense").exists()
    assert not (run / "phase_1").exists()


def test_imp_runs_in_a_plain_process_and_its_soup_is_its_candidate(folder, from_dense):
    run = folder / "imp"
    finished = start(run, from_dense, "method.name=imp")
    assert finished.status == 0, finished
    for phase in PHASES:
        place = run / f"phase_{phase}"
        assert [path.name for path in place.glob("candidate_*")] == ["candidate_0"]
        assert_is_mean(weights(place / "soup"), [weights(place / "candidate_0")])
    assert finished.err == ""


def test_imp_m_times_trains_one_candidate_m_times_as_long(alone):
    for phase in PHASES:
        (place,) = (alone / "imp_m_times" / f"phase_{phase}").glob("candidate_*")
        assert [epoch["epoch"] for epoch in read_json(place / "metrics.json")["epochs"]] == [
            1,
            2,
            3,
        ]


def test_the_dense_method_prunes_nothing(dense_run):
    assert not list(dense_run.glob("phase_*"))
    assert read_json(dense_run / "summary.json")["phases"] == []
    assert torch.count_nonzero(weights(dense_run / "dense")["conv3.weight"]) == 16 * 32 * 9
