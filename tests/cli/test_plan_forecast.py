"""`sms-dist plan --rates`: rates of a file, of a run folder, and of `sms-dist measure`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from run_at_work import SECONDS, SETTINGS, RunAtWork

from sms_dist.cli.forecast import Rates
from sms_dist.cli.main import cli
from sms_dist.cli.measure import short_settings
from sms_dist.cli.plan import planned
from sms_dist.cli.rates import decisive, read_rates, text
from sms_dist.config.file import load

REPOSITORY = Path(__file__).resolve().parents[2]
CLUSTER = REPOSITORY / "slurm" / "clusters" / "example_cpu.yaml"
CONFIG = REPOSITORY / "configs" / "digits_sms.yaml"
CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))


@pytest.fixture
def rates(tmp_path):
    """A file of rates for CONFIG, measured with two processes."""
    found = Rates(
        configuration=decisive(load(CONFIG)),
        device="cpu",
        processes=2,
        sample_seconds=0.001,
        process_bytes=4 * 10**8,
    )
    path = tmp_path / "rates.yaml"
    path.write_text(text(found, ["how it was measured"]))
    return path


def plan(*words):
    words = ["plan", "--config", str(CONFIG), *map(str, words)]
    return CliRunner(env={"COLUMNS": "80"}).invoke(cli, words)


def test_rates_are_read_as_they_were_written(rates) -> None:
    found, _ = read_rates(rates, load(CONFIG), None)
    assert found.sample_seconds == 0.001
    assert found.configuration["data.batch_size"] == 64


def test_a_row_for_each_number_of_ranks_in_eighty_columns(rates) -> None:
    told = plan("--rates", rates, "--cluster", CLUSTER, "--ranks", "1..4096").stdout
    rows = [
        line.split() for line in told.splitlines() if line[:6].strip().replace(",", "").isdigit()
    ]
    assert [row[0] for row in rows] == [f"{2**i:,}" for i in range(13)]
    assert [row[2] for row in rows] == ["3", "2", *["1"] * 11]  # waves of three candidates
    assert all(row[-1].startswith("group") for row in rows[2:])
    assert "…" not in told
    assert max(map(len, told.splitlines()[:-2])) <= 80  # the last ones are sentences


def test_phase_by_phase_for_one_number_of_ranks(rates) -> None:
    told = plan("--rates", rates, "--cluster", CLUSTER).stdout  # 2 hosts of 2 ranks
    assert "4 in 4 groups of 1" in told
    assert "forecast " in told
    assert "sensible     3 ranks" in told
    assert "idle: 1 group" in told


def test_the_json_has_what_the_table_has(rates) -> None:
    found = json.loads(plan("--rates", rates, "--ranks", "1,2", "--json").stdout)
    first, second = found["forecasts"]
    assert (first["num_ranks"], first["efficiency"]) == (1, 1.0)
    assert second["seconds"] < first["seconds"]
    assert second["remark"] == "last wave: 1 of 2"
    assert [phase["phase"] for phase in first["phases"]] == [0, 1, 2, 3]
    assert found["num_ranks"] == 1
    assert "measured with 2 processes on a host, not 1" in found["notes"][0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ranks", "1,2"], "--ranks with several numbers needs --rates"),
        (["--rates", "nowhere.yaml"], "--rates nowhere.yaml: there is no such file"),
        (["--set", "data.batch_size=32"], "was measured with data.batch_size=64, not 32"),
        (["--set", "engine.ranks_per_candidate=2", "--ranks", "3"], "must divide the 3 ranks"),
    ],
)
def test_mistakes_are_one_line(words, message, rates) -> None:
    with_rates = [] if "--rates" in words or "1,2" in words else ["--rates", rates]
    result = plan(*with_rates, *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_rates_go_to_a_place_that_can_be_written_or_nothing_is_measured(tmp_path) -> None:
    file = tmp_path / "file"
    file.touch()
    for place, reason in ((tmp_path, "is a folder"), (file / "x", f"{file} is no folder")):
        result = CliRunner().invoke(cli, ["measure", "--to", str(place)])
        assert result.exit_code == 2
        assert reason in result.stderr
        assert f"--to {place}" in result.stderr
        assert result.stderr.count("\n") == 1


def test_a_plan_of_packs_says_what_its_waves_leave_out() -> None:
    settings = ["--set", "engine.name=packed", "--ranks", "2"]
    assert "trains up to 2 candidates at once where a trial finds" in plan(*settings).stdout
    assert "packs" not in plan(*settings, "--set", "engine.packing=loop").stdout
    assert "packs" not in plan("--ranks", "2").stdout


@pytest.mark.parametrize("numbers", ["x", "1,,2", "0", "1...4", "-1", "4..x", "99999999"])
def test_what_is_no_list_of_numbers_is_refused(numbers) -> None:
    assert plan("--ranks", numbers).exit_code == 2


def test_rates_by_hand_need_no_more_than_the_time_of_a_sample(tmp_path) -> None:
    file = tmp_path / "rates.yaml"
    file.write_text("sample_seconds: 0.0004")
    assert plan("--rates", file, "--ranks", "8").exit_code == 0
    file.write_text("{sample_seconds: 0.0004, phase_secs: 0.1}")
    assert "is not a key, did you mean phase_seconds?" in plan("--rates", file).stderr
    file.write_text("{phase_seconds: 0.1}")
    wanted = f"error: --rates {file}: sample_seconds is missing; give it a value\n"
    assert plan("--rates", file).stderr == wanted


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_has_a_short_run_that_can_be_measured(path) -> None:
    config = load(path, ["data.path=/nowhere"])
    ranks = 2 * config.engine.ranks_per_candidate
    short = load(path, ["data.path=/nowhere", *short_settings(config, ranks, 5)])
    plan = planned(short, ranks).plan
    assert plan.sizes.steps_per_epoch in (4, 5, 6)
    for item in plan.phases:
        assert [steps // plan.sizes.steps_per_epoch for steps in item.steps] == [1] * 4 + [3] * 2


def test_measured_rates_make_a_forecast(tmp_path) -> None:
    file, runs = tmp_path / "rates.yaml", tmp_path / "runs"
    settings = ["--set", f"records.root={runs}", "--set", "data.name=digits"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "sms_dist.cli.main", "measure", *settings, "--to", str(file)]
    subprocess.run(
        [*command, "--steps", "4"], cwd=REPOSITORY, env=environment, check=True, timeout=280
    )
    rates, _ = read_rates(file, load(settings=settings[1::2]), None)
    assert rates.processes == 1
    assert 0 < rates.sample_seconds < 1
    assert rates.start_seconds > 0
    assert rates.process_bytes > 10**7
    assert not list(runs.iterdir())  # nothing is left of the short run
    assert CliRunner().invoke(cli, ["plan", *settings, "--rates", str(file)]).exit_code == 0


AROUND = 12.0  # seconds of each phase, that its candidates do not take
WAVES = 3  # of five candidates in two groups
WAY_TO_DENSE = 45.0  # seconds from the start to the dense model
EPOCH = 1293  # samples
MEASURED = (EPOCH + 144 + 360) / 3  # batch norm, validation, testing: in trained samples
PER_SAMPLE = SECONDS / (2 * EPOCH + MEASURED)


class FinishedRun(RunAtWork):
    """Two ranks in two groups, two phases of five candidates, at times that are chosen."""

    def __init__(self, folder: Path, *settings: str) -> None:
        super().__init__(folder, "pretrain.epochs=1", "pretrain.ranks=1", *settings)
        for index in range(1, 5):
            self.candidate(2, index)
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


def of_run(run, *words, settings=()):
    own = [*SETTINGS, "pretrain.epochs=1", "pretrain.ranks=1", *settings]
    options = [word for setting in own for word in ("--set", setting)]
    return CliRunner().invoke(
        cli, ["plan", *options, "--rates", str(run.paths.root), *map(str, words)]
    )


def forecast(run, ranks=2, settings=()):
    result = of_run(run, "--ranks", ranks, "--json", settings=settings)
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)["forecasts"]
    return found


def test_the_forecast_of_a_run_from_itself_is_what_it_took(run) -> None:
    dense, *phases = forecast(run)["phases"]
    assert dense["training"] == pytest.approx(PER_SAMPLE * (EPOCH + MEASURED))
    assert [phase["training"] for phase in phases] == pytest.approx([WAVES * SECONDS] * 2)
    assert [p["seconds"] for p in phases] == pytest.approx([WAVES * SECONDS + AROUND] * 2, abs=0.01)


@pytest.mark.parametrize(
    ("changes", "ranks", "times"),
    [
        (("candidates.count=10",), 2, 5 / 3),  # 5 waves, not 3
        (("candidates.count=12",), 2, 2),
        (("retrain.epochs=4",), 2, (4 * EPOCH + MEASURED) / (2 * EPOCH + MEASURED)),
        ((), 5, 1 / 3),
    ],
)
def test_more_of_the_same_takes_as_much_longer(run, changes, ranks, times) -> None:
    phase = forecast(run, ranks, changes)["phases"][1]
    assert phase["training"] == pytest.approx(times * WAVES * SECONDS)


def test_a_group_of_two_is_told_apart_from_the_gradients_that_it_sends(tmp_path) -> None:
    run = FinishedRun(tmp_path / "pairs", "engine.ranks_per_candidate=2")
    own = ["engine.ranks_per_candidate=2"]
    assert forecast(run, 2, own)["phases"][1]["training"] == pytest.approx(5 * SECONDS)
    alone = forecast(run, 1, ["engine.ranks_per_candidate=1"])["phases"][1]["training"]
    assert 5 * SECONDS < alone < 2 * 5 * SECONDS  # twice, without what is sent


def test_candidates_of_two_lengths_tell_apart_what_is_no_training(run) -> None:
    """Trained for one epoch and for two: a third of the longer time is around the steps."""
    short, epoch = SECONDS * 2 / 3, SECONDS / 3
    for phase in (1, 2):
        for index in (0, 1):
            shutil.rmtree(run.paths.candidate(phase, index))
            run.candidate(phase, index, short, num_epochs=1)
    longer = forecast(run, settings=["retrain.epochs=4"])["phases"][1]["training"]
    assert longer == pytest.approx(WAVES * (SECONDS + 2 * epoch))


def test_what_a_run_does_not_tell_is_said(run) -> None:
    told = of_run(run, "--ranks", 2).stdout
    assert f"the run {run.paths.root}: 10 candidates on 2 ranks, cpu" in told
    assert "does not record the memory of activations" in told


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
        (_garbage("plan.json"), "plan.json is not JSON"),
        (_garbage("environment.json"), "environment.json is not JSON"),
        (_garbage("packing.json"), "packing.json is not JSON"),
        (_garbage("journal.jsonl"), "an unknown number of ranks"),
        (_garbage("config.yaml"), "config.yaml is not YAML"),
        (_garbage("phase_1/candidate_3/metrics.json"), "candidate_3/metrics.json"),
        (_endless, "phase_1/candidate_0/metrics.json"),
        (lambda run: run.paths.plan.unlink(), "plan.json: there is no such file"),
        (lambda run: run.paths.config.unlink(), "is neither a file nor a run folder"),
        (_packed, "its candidates trained together in packs"),
        (_other_ranks, "it was started with 2 and 4 ranks"),
        (_nothing_done, "has no candidate that is done yet"),
    ],
)
def test_a_folder_that_tells_nothing_is_refused_in_one_line(run, damage, message) -> None:
    damage(run)
    result = of_run(run)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_rates_of_another_batch_size_are_refused(run) -> None:
    result = of_run(run, settings=["data.batch_size=32"])
    assert result.exit_code == 2
    assert "was measured with data.batch_size=64, not 32" in result.stderr
