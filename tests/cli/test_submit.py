"""`sms-dist submit`: the script, the copy it runs, what is written down, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fake_slurm import fake_slurm, told

from sms_dist.base.shipped import package_files
from sms_dist.cli.main import cli
from sms_dist.cli.slurm import jobs
from sms_dist.cli.slurm.requeue import is_stuck, mark
from sms_dist.cli.slurm.submission import take
from sms_dist.config.file import load
from sms_dist.run.paths import RunPaths

REPOSITORY = Path(__file__).resolve().parents[2]
CLUSTER = REPOSITORY / "slurm" / "clusters" / "example_cpu.yaml"


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["submit", *map(str, arguments)])


def submitted(folder: Path, *arguments: str | Path) -> Result:
    return call("--cluster", CLUSTER, "--run-dir", folder, *arguments)


def refusal(*arguments: str | Path) -> str:
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)
    return result.stderr


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    fake_slurm(tmp_path / "bin", monkeypatch)
    return tmp_path / "bin"


def test_dry_run_prints_the_script_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text("name: x")
    words = ("--cluster", CLUSTER, "--config", "x.yaml", "--set", "seed=1", "--dry-run")
    result = call(*words)
    assert result.exit_code == 0, result.stderr
    folder = tmp_path / "runs" / "x"
    assert f"\nRUN_DIR={folder}\nCODE={folder}/snapshot\n" in result.stdout
    assert f"#SBATCH --output={folder}/logs/" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["x.yaml"]


def test_submit_hands_the_dry_runs_script_to_sbatch(slurm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    assert submitted(folder).stdout == "Submitted batch job 7\n"
    file = folder / "logs" / "job.sbatch"
    assert told(slurm) == [f"--parsable {file}"]
    assert file.read_text() == submitted(folder, "--dry-run").stdout
    (line,) = jobs.recorded(RunPaths(folder))
    assert (line.job, line.kind) == ("7", "submit")


def test_the_job_runs_a_whole_copy_of_the_code(slurm: Path, tmp_path: Path) -> None:
    assert submitted(tmp_path / "r").exit_code == 0
    copy = tmp_path / "r" / "snapshot"
    listed = {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()}
    assert listed - {"config.yaml", "origin.json"} == package_files().keys()
    assert {
        "sms_dist/share/data/digits.yaml",
        "sms_dist/share/configs/demo.yaml",
        "sms_dist/share/slurm/template.sbatch",
        "sms_dist/share/slurm/clusters/example_cpu.yaml",
    } <= listed
    # From a folder that has a package of the same name, as a clone has: the copy runs.
    (tmp_path / "sms_dist").mkdir()
    (tmp_path / "sms_dist" / "__init__.py").write_text("raise SystemExit('not the copy')")
    shown = subprocess.run(
        [sys.executable, copy / "sms_dist" / "start" / "__main__.py", "--help"],
        env={"PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "Run an experiment" in shown.stdout
    code = "from sms_dist.data import card; print(card.__file__, *card.names())"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(copy)},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    file, *cards = found.stdout.split()
    assert (file, "digits" in cards) == (f"{copy}/sms_dist/data/card.py", True)


def test_a_job_takes_the_modules_along_that_its_configuration_names(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "losses_of_mine.py").write_text("def focal(outputs, targets): ...")
    (tmp_path / "rules_of_mine" / "deep").mkdir(parents=True)
    for name in ("__init__", "rules", "deep/__init__"):
        (tmp_path / "rules_of_mine" / f"{name}.py").write_text("def mean(scores, score_of): ...")
    (tmp_path / "my.yaml").write_text(
        "pretrain: {loss: 'losses_of_mine:focal', optimizer: 'torch.optim:RMSprop'}\n"
        "soup: {rule: 'rules_of_mine.rules:mean'}"
    )
    done = submitted(tmp_path / "r", "--config", tmp_path / "my.yaml")
    assert done.exit_code == 0, done.output
    copy = tmp_path / "r" / "snapshot"
    own = {str(path.relative_to(copy)) for path in copy.rglob("*.py")} - package_files().keys()
    assert own == {
        "losses_of_mine.py",
        "rules_of_mine/__init__.py",
        "rules_of_mine/rules.py",
        "rules_of_mine/deep/__init__.py",
    }


@pytest.mark.parametrize("text", ['it\'s; $(x) `y` "z"', "{a: [1, 'b, c']}", "\\n%j\t|&"])
def test_settings_reach_the_job_unchanged(text: str, slurm: Path, tmp_path: Path) -> None:
    setting = f"data.path={json.dumps('/' + text)}"
    assert submitted(tmp_path / "r", "--set", setting).exit_code == 0
    assert load(tmp_path / "r" / "snapshot" / "config.yaml") == load(None, [setting])


def test_the_first_copy_is_kept_unless_a_fresh_one_is_wanted(slurm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    submitted(folder)
    marked = folder / "snapshot" / "sms_dist" / "start" / "rank.py"
    marked.write_text("# the first\n")
    again = submitted(folder)
    assert f"the code of the first submission is kept: {folder}/snapshot" in again.stderr
    assert (again.exit_code, marked.read_text()) == (0, "# the first\n")
    assert submitted(folder, "--fresh-code").stderr == ""
    assert marked.read_text() == (REPOSITORY / "sms_dist" / "start" / "rank.py").read_text()
    assert sorted(path.name for path in folder.iterdir()) == ["logs", "snapshot"]


def test_other_settings_than_those_of_the_copy_are_refused(slurm: Path, tmp_path: Path) -> None:
    words = ("--cluster", CLUSTER, "--run-dir", tmp_path / "r", "--set")
    assert call(*words, "seed=1").exit_code == 0
    line = refusal(*words, "seed=2")
    assert "submitted with other settings (seed: 1 -> 2); --fresh-code takes those of now" in line
    assert call(*words, "seed=2", "--fresh-code").exit_code == 0
    assert load(tmp_path / "r" / "snapshot" / "config.yaml").seed == 2


def test_a_run_of_another_configuration_is_refused(slurm: Path, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "config.yaml").write_text("seed: 1")
    words = ("--cluster", CLUSTER, "--run-dir", tmp_path / "r")
    assert "holds a run with another configuration (seed: 1 -> 0)" in refusal(*words)
    assert "another configuration" in refusal(*words, "--fresh-code")


def test_a_copy_that_could_not_be_finished_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / f".snapshot.{1}.tmp").mkdir()  # of a start that was killed
    assert take(tmp_path / "run" / "snapshot", None, has_code=True, is_fresh=False)
    assert not take(tmp_path / "run" / "snapshot", None, has_code=True, is_fresh=False)


def test_a_second_job_of_a_run_is_refused_while_the_first_is_there(
    slurm: Path, tmp_path: Path
) -> None:
    submitted(tmp_path / "r")
    (slurm / "queue").write_text("3\n7\n")
    line = refusal("--cluster", CLUSTER, "--run-dir", tmp_path / "r")
    assert f"job 7 of {tmp_path}/r is in the queue already" in line
    assert "scancel 7" in line
    (slurm / "queue").write_text("3\n77\n")
    assert submitted(tmp_path / "r").stdout == "Submitted batch job 8\n"


def test_a_chain_is_one_job_after_the_other(slurm: Path, tmp_path: Path) -> None:
    result = submitted(tmp_path / "r", "--chain", "3", "--after", "5", "--after", "6_1")
    file = tmp_path / "r" / "logs" / "job.sbatch"
    hopeless = "--kill-on-invalid-dep=yes"
    assert told(slurm) == [
        f"--parsable --dependency=afterok:5:6_1 {hopeless} {file}",
        f"--parsable --dependency=afterany:7 {hopeless} {file}",
        f"--parsable --dependency=afterany:8 {hopeless} {file}",
    ]
    assert "#SBATCH --no-requeue" in file.read_text()
    assert result.stdout.count("Submitted batch job") == 3
    assert [line.job for line in jobs.recorded(RunPaths(tmp_path / "r"))] == ["7", "8", "9"]


def test_what_is_no_job_is_refused_as_a_dependency(slurm: Path, tmp_path: Path) -> None:
    for text in ("x", "7;touch x", "7:8", "--help", ""):
        line = refusal("--cluster", CLUSTER, "--run-dir", tmp_path / "r", f"--after={text}")
        assert "is not the number of a job" in line
    assert not (tmp_path / "r").exists()


def test_a_submission_takes_back_a_request_to_stop(slurm: Path, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "stop").touch()
    assert submitted(tmp_path / "r").exit_code == 0
    assert not (tmp_path / "r" / "stop").exists()


def test_submit_says_why_it_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--cluster", CLUSTER, "--run-dir", tmp_path / "r")
    fake_slurm(tmp_path / "bin", monkeypatch, "echo 'invalid\naccount' >&2; exit 3")
    assert "(status 3): invalid account" in refusal(*words, "--fresh-code")
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\necho something else\n")
    assert "answered 'something else' instead of a job's number" in refusal(*words, "--fresh-code")
    (tmp_path / "bin" / "sbatch").unlink()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert "sbatch is not installed here" in refusal(*words, "--fresh-code")
    (tmp_path / "file").touch()
    assert "cannot be used: Not a directory" in refusal(*words[:-1], tmp_path / "file")


def test_submit_refuses_what_could_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("{nodes: 3, min_nodes: 2, ranks_per_node: 2}")
    words = ("--cluster", "c.yaml", "--set")
    line = refusal(*words, "engine.ranks_per_candidate=4")
    assert "engine.ranks_per_candidate=4 must divide the 6 ranks; try 1, 2, 3, 6" in line
    line = refusal(*words, "engine.ranks_per_candidate=3", "--set", "data.batch_size=48")
    assert "engine.ranks_per_candidate=3 must divide the 4 ranks" in line
    assert "job_name='a+é'" in refusal(*words, "name=a+é")
    assert "--cluster no.yaml: there is no such file" in refusal("--cluster", "no.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]


def test_three_starts_in_a_row_that_bring_nothing_are_enough() -> None:
    assert not is_stuck(["a"])
    assert not is_stuck(["a", "a", "a"])
    assert is_stuck(["a", "a", "a", "a"])
    assert is_stuck(["b", "a", "a", "a", "a"])
    assert not is_stuck(["a", "a", "b", "a", "a"])


def test_only_what_lasts_counts_as_progress(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    seen = [mark(paths)]

    def point_at(steps: int) -> str:
        return json.dumps({"identity": {}, "sha256": "", "document": {"steps": steps}})

    def is_new() -> bool:
        seen.append(mark(paths))
        return seen[-1] not in seen[:-1]

    paths.journal.write_text("start\n")
    assert not is_new()
    for slot, steps in (("a", 10), ("b", 20)):
        point = paths.recovery("dense") / slot / "rank_0.json"
        point.parent.mkdir(parents=True)
        point.write_text(point_at(steps))
        assert is_new()
    (paths.recovery("dense") / "a" / "rank_0.json").write_text(point_at(20))
    assert not is_new()  # the same place saved again
    for folder in (paths.dense, paths.candidate(1, 0), paths.soup(1)):
        folder.mkdir(parents=True)
        assert not is_new()
        (folder / "manifest.json").touch()
        assert is_new()


def test_a_torn_line_about_a_job_is_left_out(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    assert jobs.recorded(paths) == []
    jobs.record(paths, "7", "submit")
    with (paths.logs / "jobs.jsonl").open("ab") as file:
        file.write(b'{"time": "20')
    assert [line.job for line in jobs.recorded(paths)] == ["7"]
    assert re.fullmatch(r"\d{4}-.*\+00:00", jobs.recorded(paths)[0].time)
