"""`sms-dist sweep`: what is run, skipped, resumed and told, with real runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sms_dist.cli.grid import sweep_runs
from sms_dist.cli.main import cli
from sms_dist.cli.sweep import _Children, result
from sms_dist.run import journal
from sms_dist.run.paths import RunPaths

REPOSITORY = Path(__file__).resolve().parents[2]
CLUSTER = str(REPOSITORY / "slurm" / "clusters" / "example_cpu.yaml")
SMALL = (
    *("data.name=digits", "data.train_samples=128", "pretrain.epochs=1", "retrain.epochs=1"),
    *("pruning.phases=1", "candidates.count=2", "records.tensorboard=false"),
)


def words(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def refusal(*arguments: str | Path) -> str:
    result = call("sweep", *arguments)
    assert result.exit_code == 2, result.output
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)
    return result.stderr


def started(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sms_dist.cli.main", "sweep", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A test run in the background has Ctrl-C ignored, and hands that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def starts(folder: Path) -> int:
    """How often a run was started."""
    return sum(event.event == "start" for event in journal.read(folder / "journal.jsonl"))


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sequence[str], str]:
    """A finished sweep of 2 methods that share a dense model: folder, its arguments, its output."""
    to = tmp_path_factory.mktemp("swept")
    arguments = [*words(*SMALL, "method.name=sms,imp"), "--share-dense", "--to", str(to)]
    process = started(*arguments, "--jobs", "2")
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    return to, arguments, output


def test_points_run_after_the_dense_model_they_share(
    swept: tuple[Path, Sequence[str], str],
) -> None:
    to, _, output = swept
    assert sorted(path.name for path in to.iterdir()) == ["dense-model", "imp", "sms"]
    first, *others = output.splitlines()[:3]
    assert first.startswith("[1/3] dense model ")
    assert {line.split()[1] for line in others} == {"method.name=sms", "method.name=imp"}
    assert all(line.split()[-2] == "accuracy" for line in (first, *others))
    assert all(line.split()[-1].endswith("%") for line in (first, *others))
    assert output.splitlines()[-1] == "3 done"
    weights = [
        (to / name / "dense" / "weights.safetensors").read_bytes()
        for name in ("dense-model", "sms", "imp")
    ]
    assert weights[0] == weights[1] == weights[2]
    assert "phase" in (to / "sms" / "logs" / "sweep.log").read_text()


def test_a_finished_point_is_told_by_its_score(tmp_path: Path) -> None:
    def told(**summary: object) -> str:
        paths = RunPaths(tmp_path)
        head = {"method": "sms", "seed": 0, "goal_sparsity": 0.9, "dense": {}, "phases": []}
        paths.summary.write_text(json.dumps({**head, **summary}))
        (run,) = sweep_runs(None, (), to=tmp_path, num_ranks=1, is_sharing=False)
        return result(replace(run, folder=tmp_path))

    assert told(score="accuracy", final={"test_accuracy": 0.5}) == "accuracy 50.00%"
    assert told(score="miou", final={"test_miou": 0.5}) == "mIoU 50.00%"
    assert told(score="bleu", final={"test_bleu": 25.0}) == "BLEU 25.00"
    assert told(score="bleu", final={"test_bleu": None}) == "BLEU -"
    assert told(score="bleu", final={}) == "BLEU -"
    assert told(score=[], final={}) == "-"


def test_what_is_done_is_skipped(swept: tuple[Path, Sequence[str], str]) -> None:
    to, arguments, _ = swept
    result = call("sweep", *arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "3 skipped"
    assert "method.name=sms  skipped" in result.stdout
    assert [starts(to / name) for name in ("dense-model", "sms", "imp")] == [1, 1, 1]


def test_what_is_not_finished_goes_on(swept: tuple[Path, Sequence[str], str]) -> None:
    to, arguments, _ = swept
    before = (to / "imp" / "summary.json").read_text()
    (to / "imp" / "summary.json").unlink()
    assert "unfinished" in call("sweep", *arguments, "--dry-run").stdout
    process = started(*arguments)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert output.splitlines()[-1] in ("2 skipped, 1 done", "1 done, 2 skipped")
    assert (to / "imp" / "summary.json").read_text() == before
    assert starts(to / "imp") == 2


def test_a_sweep_can_be_reported(swept: tuple[Path, Sequence[str], str]) -> None:
    result = call("report", swept[0], "--format", "csv")
    rows = [line.split(",")[0] for line in result.stdout.splitlines()]
    assert rows == ["method", "dense", "SMS (uniform)", "IMP"]


def test_a_folder_of_another_configuration_is_refused(
    swept: tuple[Path, Sequence[str], str],
) -> None:
    arguments = swept[1]
    line = refusal(*arguments, "--set", "retrain.warmup=0.2")
    assert "point 1 of 2 (method.name=sms): the run folder" in line
    assert "retrain.warmup: 0.1 -> 0.2" in line
    assert "--to" in line


def test_a_failure_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    bad = tmp_path / "nowhere"
    arguments = words(*SMALL, f"pretrain.from={bad},null")
    process = started(*arguments, "--to", tmp_path / "to", "--jobs", "2")
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    lines = output.splitlines()
    assert {line.split()[2] for line in lines[:2]} == {"failed", "done"}
    assert lines[2] in ("1 failed, 1 done", "1 done, 1 failed")
    assert lines[3].startswith(
        f"failed: pretrain.from={bad}: error: pretrain.from={bad} is no file or folder of weights"
    )
    assert lines[3].endswith("logs/sweep.log)")
    assert lines[4] == "the same command goes on with what is not done"


def test_points_of_a_failed_dense_model_are_not_started(tmp_path: Path) -> None:
    data = ("data.name=cifar10", "model.name=resnet20", f"data.path={tmp_path / 'nowhere'}")
    process = started(*words(*data), "--share-dense", "--to", tmp_path / "to")
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert "1 failed, 1 not started" in output.splitlines()
    assert not (tmp_path / "to" / "single").exists()


def test_ctrl_c_stops_the_children_and_says_how_to_go_on(tmp_path: Path) -> None:
    arguments = words("pretrain.epochs=500", "records.tensorboard=false", "seed=0,1")
    process = started(*arguments, "--to", tmp_path)
    log = tmp_path / "seed0" / "logs" / "sweep.log"
    deadline = time.monotonic() + 60
    try:
        while not (log.is_file() and "pretrain" in log.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=60)[0]
    finally:
        process.terminate()  # a failure must not leave 500 epochs behind
    assert process.returncode == 75, output
    assert "1 stopped, 1 not started" in output
    assert "the same command goes on" in output
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(tmp_path / "seed0") not in listed


def test_a_second_signal_ends_a_child_that_does_not_stop() -> None:
    children = _Children()
    deaf = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    children._processes.append(deaf)
    assert deaf.stdout is not None
    assert deaf.stdout.readline() == b"ready\n"
    with children.signals():
        os.kill(os.getpid(), signal.SIGTERM)
        assert children.is_stopping
        assert deaf.poll() is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert deaf.wait(60) == -signal.SIGKILL
    deaf.stdout.close()


def test_dry_run_prints_the_grid_and_commands_and_leaves_nothing(tmp_path: Path) -> None:
    to = tmp_path / "to"
    result = call(
        "sweep", *words("seed=0,1", "method.name=sms,imp"), "--to", to, "--dry-run", "--nproc", "2"
    )
    assert result.exit_code == 0, result.output
    commands = [line for line in result.stdout.splitlines() if line.startswith("sms-dist run")]
    assert commands[0] == (
        f"sms-dist run --set seed=0 --set method.name=sms --run-dir {to}/seed0_sms --nproc 2"
    )
    assert len(commands) == 4
    assert list(tmp_path.iterdir()) == []


def test_folders_are_below_the_configured_root(tmp_path: Path) -> None:
    result = call("sweep", *words("seed=0,1", f"records.root={tmp_path}", "name=x"), "--dry-run")
    assert f"--run-dir {tmp_path}/x/seed0 " in result.stdout


def test_mistakes_are_one_line_before_anything_starts(tmp_path: Path) -> None:
    to = ("--to", tmp_path / "to")
    assert "point 1 of 2 (sed=0): sed is not a key, did you mean seed?" in refusal(
        *words("sed=0,1"), *to
    )
    assert "point 2 of 2 (method.name=smss): method.name=smss is not known" in refusal(
        *words("method.name=sms,smss"), *to
    )
    assert "has an empty value" in refusal(*words("seed=0,,1"), *to)
    line = refusal(*words("seed=0,00"), *to)
    assert "two points have the run folder" in line
    assert "seed=0; and seed=00" in line
    assert "must divide the 3 ranks" in refusal(
        *words("engine.ranks_per_candidate=1,2"), *to, "--nproc", "3"
    )
    assert "--submit and --cluster go together" in refusal("--submit", *to)
    assert "the cluster file says how many ranks" in refusal(
        "--submit", "--cluster", CLUSTER, "--nproc", "2", *to
    )
    (tmp_path / "file").touch()
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
    assert f"{tmp_path / 'file'} is no folder" in refusal(
        *words("seed=0,1"), "--to", tmp_path / "file"
    )
