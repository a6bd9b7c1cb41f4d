"""`sms-dist plan --rates runs/x`: forecasts from what a run has recorded, without measuring."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from run_at_work import SECONDS, SETTINGS, RunAtWork, epochs

from sms_dist.cli.main import cli
from sms_dist.run.schema import DenseMetrics

AROUND = 7.0  # seconds of each phase, that its candidates do not take
WAVES = 3  # of five candidates in two groups
DENSE_SECONDS, WAY_TO_DENSE = 42.0, 45.0  # an epoch of 21 steps; from the start to the dense model


class FinishedRun(RunAtWork):
    """Two ranks in two groups, two phases of five candidates, at times that are chosen."""

    def __init__(self, folder: Path, *settings: str) -> None:
        super().__init__(folder, "pretrain.epochs=1", "pretrain.ranks=1", *settings)
        for index in range(1, 5):
            self.candidate(2, index)
        shutil.rmtree(self.paths.dense)
        metrics = {"test_accuracy": 0.9}
        dense = DenseMetrics(metrics=metrics, epochs=epochs(1), seconds=DENSE_SECONDS)
        self.store(self.paths.dense, dense)
        self.paths.journal.unlink()
        self.tell_times()

    def tell_times(self, num_ranks: int = 2) -> None:
        phase = WAVES * SECONDS + AROUND
        times = {"start": 0.0, "dense": WAY_TO_DENSE}
        seconds = [*times.values(), WAY_TO_DENSE + phase, WAY_TO_DENSE + 2 * phase]
        soup = {"sparsity": 0.5, "score": "accuracy", "soup": {}, "candidates": []}
        soups = [{"phase": 1, **soup}, {"phase": 2, **soup}]
        facts = [{"ranks": num_ranks, "groups": 2}, {}, *soups]
        for name, when, more in zip([*times, "soup", "soup"], seconds, facts, strict=True):
            time = f"2026-01-01T00:{int(when) // 60:02}:{when % 60:06.3f}+00:00"
            with self.paths.journal.open("a") as file:
                file.write(json.dumps({"time": time, "event": name, **more}) + "\n")


@pytest.fixture
def run(tmp_path):
    return FinishedRun(tmp_path / "run")


def call(run, *words, settings=()):
    own = [*SETTINGS, "pretrain.epochs=1", "pretrain.ranks=1", *settings]
    options = [word for setting in own for word in ("--set", setting)]
    return CliRunner().invoke(
        cli, ["plan", *options, "--rates", str(run.paths.root), *map(str, words)]
    )


def forecast(run, ranks=2, settings=()):
    result = call(run, "--ranks", ranks, "--json", settings=settings)
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)["forecasts"]
    return found


def test_the_forecast_of_a_run_from_itself_is_what_it_took(run) -> None:
    dense, *phases = forecast(run)["phases"]
    assert dense["training"] == pytest.approx(DENSE_SECONDS)
    assert dense["seconds"] == pytest.approx(WAY_TO_DENSE, abs=0.01)
    assert [phase["training"] for phase in phases] == pytest.approx([WAVES * SECONDS] * 2)
    assert [p["seconds"] for p in phases] == pytest.approx([WAVES * SECONDS + AROUND] * 2, abs=0.01)


@pytest.mark.parametrize(
    ("changes", "ranks", "times"),
    [
        (("candidates.count=10",), 2, 5 / 3),  # 5 waves, not 3
        (("candidates.count=12",), 2, 2),
        (("retrain.epochs=4",), 2, 2),
        ((), 5, 1 / 3),
    ],
)
def test_more_of_the_same_takes_as_much_longer(run, changes, ranks, times) -> None:
    phase = forecast(run, ranks, changes)["phases"][1]
    assert phase["training"] == pytest.approx(times * WAVES * SECONDS)


def test_a_group_of_two_is_told_apart_from_the_gradients_that_it_sends(tmp_path) -> None:
    run = FinishedRun(tmp_path / "pairs", "engine.ranks_per_candidate=2")
    shutil.rmtree(run.paths.journal.parent / "dense")  # its own pretraining ran on one rank
    own = ["engine.ranks_per_candidate=2"]
    assert forecast(run, 2, own)["phases"][1]["training"] == pytest.approx(5 * SECONDS)
    alone = forecast(run, 1, ["engine.ranks_per_candidate=1"])["phases"][1]["training"]
    assert 5 * SECONDS < alone < 2 * 5 * SECONDS  # twice, without what is sent


def test_a_last_wave_that_is_not_full_has_a_pace_of_its_own(run) -> None:
    for phase in (1, 2):
        shutil.rmtree(run.paths.candidate(phase, 4))
        run.candidate(phase, 4, SECONDS / 2)
    assert forecast(run)["phases"][1]["training"] == pytest.approx(2.5 * SECONDS)
    assert forecast(run, ranks=1)["phases"][1]["training"] == pytest.approx(5 * SECONDS / 2)


def test_what_a_run_does_not_tell_is_said(run) -> None:
    told = call(run, "--ranks", 2).stdout
    assert f"the run {run.paths.root}: 10 candidates on 2 ranks, cpu" in told
    assert "memory is that of the weights alone" in told


def test_a_phase_that_was_interrupted_says_nothing_of_what_is_around(run) -> None:
    start, dense, first, second = run.paths.journal.read_text().splitlines()
    late = second.replace("2026", "2027")
    run.paths.journal.write_text("\n".join([start, dense, first, start, late, ""]))
    assert forecast(run)["phases"][2]["seconds"] == pytest.approx(WAVES * SECONDS + AROUND, abs=0.1)


def _garbage(name):
    return lambda run: (run.paths.root / name).write_text("{ not JSON")


def _packed(run) -> None:
    run.paths.packing.write_text('{"num_groups": 2, "packing": "vmap"}')


def _other_ranks(run) -> None:
    run.tell_times(num_ranks=4)


def _endless(run) -> None:
    path = run.paths.candidate(1, 0) / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": 1e300}))


def _nothing_done(run) -> None:
    for folder in run.paths.root.glob("phase_*"):
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_garbage("plan.json"), "is damaged: plan.json: not JSON"),
        (_garbage("environment.json"), "is damaged: environment.json: not JSON"),
        (_garbage("packing.json"), "is damaged: packing.json: not JSON"),
        (_garbage("journal.jsonl"), "an unknown number of ranks"),
        (_garbage("config.yaml"), "is damaged: config.yaml: "),
        (_garbage("phase_1/candidate_3/metrics.json"), "candidate_3/metrics.json: not JSON"),
        (_endless, "phase_1/candidate_0/metrics.json: seconds"),
        (lambda run: run.paths.plan.unlink(), "is damaged: plan.json: there is no such file"),
        (lambda run: run.paths.config.unlink(), "is neither a file nor a run folder"),
        (_packed, "trained its candidates in packs"),
        (_other_ranks, "was started with 2 and with 4 ranks"),
        (_nothing_done, "has no candidate that is done yet"),
    ],
)
def test_a_folder_that_tells_nothing_is_refused_in_one_line(run, damage, message) -> None:
    damage(run)
    result = call(run)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_rates_of_another_batch_size_are_refused(run) -> None:
    result = call(run, settings=["data.batch_size=32"])
    assert result.exit_code == 2
    assert "was measured with data.batch_size=64, not 32" in result.stderr
