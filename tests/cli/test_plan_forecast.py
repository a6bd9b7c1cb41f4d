"""`sms-dist plan --rates`, and `sms-dist measure` that makes the rates."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from sms_dist.cli.forecast.rates import HostRates, Rates, decisive, load_rates, text
from sms_dist.cli.forecast_table import duration

from sms_dist.cli.main import cli
from sms_dist.config.file import load

REPOSITORY = Path(__file__).resolve().parents[2]
CLUSTER = REPOSITORY / "slurm" / "clusters" / "example_cpu.yaml"
CONFIG = REPOSITORY / "configs" / "digits_sms.yaml"


@pytest.fixture
def rates(tmp_path):
    """A file of rates for CONFIG, measured with two processes."""
    host = HostRates(processes=2, sample_seconds=0.001, process_bytes=4 * 10**8)
    found = Rates(configuration=decisive(load(CONFIG)), device="cpu", hosts=(host,))
    path = tmp_path / "rates.yaml"
    path.write_text(text(found, ["how it was measured"]))
    return path


def plan(*words):
    words = ["plan", "--config", str(CONFIG), *map(str, words)]
    return CliRunner(env={"COLUMNS": "80"}).invoke(cli, words)


def test_rates_are_read_as_they_were_written(rates) -> None:
    found = load_rates(rates)
    assert found.hosts[0].sample_seconds == 0.001
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
    assert "not measured with 1 processes" in found["notes"][0]


def test_ranks_that_fill_no_groups_are_left_out(rates) -> None:
    told = plan("--rates", rates, "--ranks", "1..8", "--set", "engine.ranks_per_candidate=2").stdout
    assert "left out     1: no whole number of groups" in told


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
    for place, reason in ((tmp_path, "it is a folder"), (file / "x", f"{file} is no folder")):
        result = CliRunner().invoke(cli, ["measure", "--to", str(place)])
        assert result.exit_code == 2
        assert f"--to {place}: {reason}; name another file" in result.stderr
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
    file.write_text("hosts: [{processes: 8, sample_seconds: 0.0004}]")
    assert plan("--rates", file, "--ranks", "8").exit_code == 0
    file.write_text("hosts: [{processes: 8, sample_seconds: 0.0004, step_secs: 0.1}]")
    assert "is not a key, did you mean step_seconds?" in plan("--rates", file).stderr


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3.14, "3.1 s"), (99.97, "1.7 min"), (7200, "2.0 h"), (3600 * 240, "10.0 d")],
)
def test_times_have_the_digits_that_are_known(seconds, words) -> None:
    assert duration(seconds) == words


def test_measured_rates_make_a_forecast_without_torch(tmp_path) -> None:
    file, settings = tmp_path / "rates.yaml", ["--set", f"records.root={tmp_path / 'runs'}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "sms_dist.cli.main", "measure", *settings, "--to", str(file)]
    quick = ["--seconds", "0.01", "--steps", "4"]
    subprocess.run([*command, *quick], cwd=REPOSITORY, env=environment, check=True, timeout=280)
    (host,) = load_rates(file).hosts
    assert host.processes == 1
    assert host.sample_seconds > 0
    assert host.process_bytes > 0
    assert not list((tmp_path / "runs").iterdir())  # nothing is left of the short run
    code = (
        "import sys; from sms_dist.cli.main import cli\n"
        f"cli(['plan', *{settings}, '--rates', {str(file)!r}], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, timeout=60)
