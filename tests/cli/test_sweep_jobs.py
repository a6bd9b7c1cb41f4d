"""`sms-dist sweep --submit`: which arrays, what they wait for, and what is not submitted again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fake_slurm import fake_slurm, told

from sms_dist.cli.main import cli
from sms_dist.cli.slurm import jobs
from sms_dist.config.file import dump, load
from sms_dist.run.paths import RunPaths

CLUSTER = str(Path(__file__).resolve().parents[2] / "slurm" / "clusters" / "example_cpu.yaml")
HOPELESS = "--kill-on-invalid-dep=yes"


def sweep(to: Path, *settings: str, options: Sequence[str] = ()) -> Result:
    words = [word for setting in settings for word in ("--set", setting)]
    arguments = ["sweep", *words, "--to", str(to), "--submit", "--cluster", CLUSTER, *options]
    return CliRunner().invoke(cli, arguments)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    fake_slurm(tmp_path / "bin", monkeypatch)
    return tmp_path / "bin"


def finish(folder: Path) -> None:
    """As if the run was done."""
    config = load(folder / "snapshot" / "config.yaml")
    (folder / "config.yaml").write_text(dump(config))
    (folder / "summary.json").write_text("{}")


def runs(to: Path, array: int) -> list[str]:
    lines = (to / "logs" / f"array_{array}" / "runs.txt").read_text().splitlines()
    return [str(Path(line).relative_to(to)) for line in lines]


def test_all_points_are_one_array(slurm: Path, tmp_path: Path) -> None:
    to = tmp_path / "to"
    result = sweep(to, "seed=0,1,2", options=("--at-most", "2"))
    assert result.stdout == "Submitted batch job 7: 3 points\n", result.output
    file = to / "logs" / "array_1" / "job.sbatch"
    assert told(slurm) == [f"--parsable {file}"]
    assert "#SBATCH --array=0-2%2\n" in file.read_text()
    assert f"\nCODE={to}/snapshot\n" in file.read_text()
    assert runs(to, 1) == ["seed0", "seed1", "seed2"]
    for i in range(3):
        assert load(to / f"seed{i}" / "snapshot" / "config.yaml").seed == i
        (line,) = jobs.recorded(RunPaths(to / f"seed{i}"))
        assert (line.job, line.kind) == (f"7_{i}", "submit")
    assert (to / "snapshot" / "sms_dist" / "start" / "__main__.py").is_file()


def test_what_is_done_or_in_the_queue_is_not_submitted_again(slurm: Path, tmp_path: Path) -> None:
    to = tmp_path / "to"
    sweep(to, "seed=0,1,2")
    (slurm / "queue").write_text("7_1\n")
    finish(to / "seed0")
    result = sweep(to, "seed=0,1,2,3")
    assert result.stdout.splitlines() == [
        "done: seed=0",
        "in the queue: job 7_1, seed=1",
        f"the code of the first submission is kept: {to}/snapshot",
        "Submitted batch job 8: 2 points",
    ]
    assert runs(to, 2) == ["seed2", "seed3"]
    (slurm / "queue").write_text("7_1\n8_0\n8_1\n")
    assert len(sweep(to, "seed=0,1,2,3").stdout.splitlines()) == 4
    assert len(told(slurm)) == 2


def test_points_wait_for_the_dense_models_they_share(slurm: Path, tmp_path: Path) -> None:
    to = tmp_path / "to"
    result = sweep(to, "method.name=sms,imp", "seed=0,1", options=["--share-dense"])
    assert result.stdout.splitlines() == [
        "Submitted batch job 7: 2 dense models",
        "Submitted batch job 8: 4 points that wait for dense models",
    ]
    assert told(slurm)[1] == (
        f"--parsable --dependency=afterok:7 {HOPELESS} {to}/logs/array_2/job.sbatch"
    )
    assert runs(to, 1) == ["dense-model_seed0", "dense-model_seed1"]
    assert len(runs(to, 2)) == 4


def test_a_point_each_waits_for_its_own_dense_model(slurm: Path, tmp_path: Path) -> None:
    sweep(tmp_path / "to", "seed=0,1", options=["--share-dense"])
    assert "--dependency=aftercorr:7 " in told(slurm)[1]


def test_points_whose_dense_model_is_there_do_not_wait(slurm: Path, tmp_path: Path) -> None:
    to = tmp_path / "to"
    sweep(to, "method.name=sms", "seed=0,1", options=["--share-dense"])
    finish(to / "dense-model_seed0")
    (slurm / "queue").write_text("7_1\n")
    result = sweep(to, "method.name=sms,imp", "seed=0,1", options=["--share-dense"])
    assert result.stdout.splitlines()[-2:] == [
        "Submitted batch job 9: 2 points",
        "Submitted batch job 10: 2 points that wait for dense models",
    ]
    assert told(slurm)[2] == f"--parsable {to}/logs/array_3/job.sbatch"
    assert "--dependency=afterok:7_1 " in told(slurm)[3]


def test_dry_run_prints_the_scripts_and_leaves_nothing(slurm: Path, tmp_path: Path) -> None:
    options = ["--share-dense", "--dry-run"]
    result = sweep(tmp_path / "to", "method.name=sms,imp", options=options)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("#!/bin/bash\n") == 2
    assert f"# points that wait for dense models, 1: {tmp_path}/to/imp" in result.stdout
    assert not (tmp_path / "to").exists()


def test_mistakes_are_told_before_anything_is_submitted(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = sweep(tmp_path / "a b", "seed=0,1")
    assert (result.exit_code, "cannot stand in an #SBATCH line" in result.stderr) == (2, True)
    result = CliRunner().invoke(cli, ["sweep", "--at-most", "2"])
    assert result.exit_code == 2
    assert "--at-most and --fresh-code need --submit" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]
