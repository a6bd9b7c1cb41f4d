"""The `sms-dist` command: its verbs, and that every mistake is one line and exit status 2."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from sms_dist import data
from sms_dist.cli.amounts import bytes_text
from sms_dist.cli.commands import doctor, run
from sms_dist.cli.main import cli
from sms_dist.config import DataConfig
from sms_dist.data.prepare.writer import labelled, write

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))
CLUSTER = str(REPOSITORY / "slurm" / "clusters" / "example_cpu.yaml")
BAD = [  # settings, what the line says
    (["sed=1"], "sed is not a key, did you mean seed?"),
    (["pruning.phasess=1"], "pruning.phasess is not a key, did you mean phases?"),
    (["seed=x"], "seed='x' should be a valid integer"),
    (["data.name=5"], "data.name=5 should be a valid string; write it in quotes"),
    (["seed"], "--set seed: write key.path=value"),
    (["pruning.goal_sparsity=1.0"], "pruning.goal_sparsity=1.0 should be less than 1"),
    (["pruning.goal_sparsity=1.5"], "pruning.goal_sparsity=1.5 should be less than 1"),
    (["pruning.goal_sparsity=0.0"], "pruning.goal_sparsity=0.0 should be greater than 0"),
    (["pruning.goal_sparsity=0.99999"], "pruning.goal_sparsity=0.99999 leaves none of the 23824"),
    (["pruning.phases=0"], "pruning.phases=0 should be greater than or equal to 1"),
    (["engine.ranks_per_candidate=3"], "data.batch_size=16 must be a multiple of 3"),
    (["engine.ranks_per_candidate=8"], "must divide the 4 ranks; try 1, 2, 4"),
    (["pretrain.ranks=5"], "pretrain.ranks=5 is more than there are ranks (4)"),
    (["method.name=smss"], "method.name=smss is not known, did you mean sms?"),
    (["model.name=resnet21"], "model.name=resnet21 is not known, did you mean resnet20?"),
    (["data.name=digit"], "data.name=digit is not known, did you mean digits?"),
    (["retrain.schedule=alr"], "retrain.schedule=alr is not known, did you mean allr?"),
    (["soup.rule=unifrm"], "soup.rule=unifrm is not known, did you mean uniform?"),
    (["pruning.allocation=glob"], "pruning.allocation=glob is not known, did you mean global?"),
    (["engine.name=dp"], "engine.name=dp is not known, did you mean ddp?"),
    (["model.name=wrn20"], "takes 3x32x32 images, data.name=digits_distorted gives 1x12x12"),
    (["pretrain.epochs=0"], "retrain.schedule=llr needs the learning rates of pretraining"),
    (["data.train_samples=9999"], "data.train_samples=9999, but data.name=digits_distorted has"),
]


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def refusal(*arguments: str | Path) -> str:
    """The one line with which the command refuses."""
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)
    assert result.stderr.startswith("error: ")
    return result.stderr


def sets(settings: Sequence[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def verbs(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The words of all verbs, those of groups included."""
    found = []
    for name, command in group.commands.items():
        found.append((*path, name))
        found += verbs(command, (*path, name)) if isinstance(command, click.Group) else []
    return found


def without(modules: set[str], *calls: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Makes the calls in a fresh interpreter, which fails if one of the modules gets imported."""
    code = f"""
import sys
from sms_dist.cli.main import cli
for call in {[list(map(str, words)) for words in calls]}:
    try:
        cli(call, standalone_mode=True)
    except SystemExit as end:
        assert not end.code, call
assert not {modules} & sys.modules.keys()
"""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("words", verbs(cli), ids=" ".join)
def test_every_verb_has_help_with_an_example(words: tuple[str, ...]) -> None:
    result = call(*words, "--help")
    assert result.exit_code == 0
    assert f"Example: sms-dist {' '.join(words)} " in result.stdout


def test_version_is_the_packages() -> None:
    from sms_dist import __version__

    assert call("--version").stdout == f"sms-dist, version {__version__}\n"


def test_help_imports_no_torch() -> None:
    calls = [(), ("plan",), ("measure",), ("submit",), ("data", "check")]
    done = without({"torch", "deepspeed"}, *[(*words, "--help") for words in calls])
    assert done.returncode == 0, done.stderr


def test_a_plan_imports_no_compiler() -> None:
    words = ["plan", *sets(["data.name=cifar10", "model.name=resnet18"])]
    done = without({"torch._dynamo"}, ["plan"], words)
    assert done.returncode == 0, done.stderr


def test_help_does_not_even_import_the_configuration() -> None:
    done = without({"pydantic", "rich"}, ("--help",), ("plan", "--help"))
    assert done.returncode == 0, done.stderr
    assert "AssertionError" in without({"click"}, ("--help",)).stderr


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_plans_without_its_data(path: Path) -> None:
    result = call("plan", "--config", path, "--set", "data.path=/nowhere", "--ranks", "2")
    assert result.exit_code == 0, result.stderr
    assert path.stem in result.stdout


def test_plan_shows_phases_in_80_columns() -> None:
    words = ["plan", "--ranks", "2", *sets(["data.name=cifar10", "model.name=wrn20"])]
    lines = call(*words).stdout.splitlines()
    table = [line for line in lines if line.startswith(" ")]
    assert max(map(len, table)) <= 80
    assert table[-2].split() == ["3", "90.00%", "2,678,443", "3", "2", "28,130", "27.0", "MB"]


def test_plan_adds_up_epochs_and_steps() -> None:
    vary = "candidates.vary={epochs: [1, 2, 3]}"
    document = json.loads(call("plan", "--json", "--ranks", "2", "--set", vary).stdout)
    assert [item["steps"] for item in document["phases"]] == [[162, 324, 486]] * 3
    assert document["totals"] == {
        "pretrain_epochs": 30,
        "pretrain_steps": 30 * 162,
        "retrain_epochs": 3 * 6,
        "retrain_steps": 3 * 6 * 162,
        "retrain_steps_in_a_row": 3 * 4 * 162,  # group 0 trains candidates 0 and 2
    }


def test_plan_says_in_words_that_dense_has_no_phases() -> None:
    result = call("plan", "--set", "method.name=dense", "--set", "pretrain.from=runs/dense")
    assert "method.name=dense has no phases" in result.stdout
    assert "pretraining  none: from runs/dense" in result.stdout


def test_plan_is_for_one_group_unless_told() -> None:
    result = call("plan", "--json", "--set", "engine.ranks_per_candidate=4")
    assert json.loads(result.stdout)["num_ranks"] == 4


@pytest.mark.parametrize(("settings", "message"), BAD, ids=lambda value: str(value)[:40])
def test_bad_input_is_one_line_before_anything_starts(
    settings: list[str], message: str, tmp_path: Path
) -> None:
    words = [*sets(settings), "--set", f"records.root={tmp_path / 'runs'}"]
    assert message in refusal("plan", "--ranks", "4", *words)
    assert message in refusal("run", "--nproc", "4", *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no such file"),
        ("a: [", "is not YAML"),
        ("- a", "is not a mapping of keys to values"),
        ("\x00", "is not YAML"),
        ("candidates: {vary: {epochs: [1]}}", "epochs has 1 values for candidates.count=3"),
        ('name: "a\\nb"', "name='a\\nb' should match pattern"),
    ],
)
@pytest.mark.parametrize("verb", ["plan", "run"])
def test_bad_file_is_named(verb: str, text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    if text is not None:
        path.write_text(text)
    line = refusal(verb, "--config", path)
    assert message in line
    assert str(path) in line or "should match" in line or "vary" in line


def test_one_rank_needs_no_torchrun() -> None:
    assert run.command(1, ["--set", "a=b c"])[1:] == [
        str(REPOSITORY / "sms_dist" / "start" / "__main__.py"),
        *("--set", "a=b c"),
    ]
    command = run.command(3, ["--run-dir", "r"])
    assert command[2:4] == ["--standalone", "--nproc-per-node=3"]
    main = REPOSITORY / "sms_dist" / "start" / "__main__.py"
    assert command[-3:] == [str(main), "--run-dir", "r"]


def started(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sms_dist.cli.main", "run", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_run_leads_to_a_soup(tmp_path: Path) -> None:
    small = ["data.train_samples=128", "pretrain.epochs=1", "retrain.epochs=1", "pruning.phases=1"]
    small += ["candidates.count=1", "records.tensorboard=false", "data.name=digits"]
    done = started("--run-dir", str(tmp_path / "r"), *sets(small))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r" / "phase_1" / "soup" / "weights.safetensors").is_file()


def test_refusal_of_several_ranks_keeps_its_exit_status(tmp_path: Path) -> None:
    nowhere = ["data.name=cifar10", "model.name=resnet20", f"data.path={tmp_path / 'nowhere'}"]
    done = started("--nproc", "2", "--run-dir", str(tmp_path / "r"), *sets(nowhere))
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert f"data.path={tmp_path / 'nowhere'} is no folder" in errors[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "r").exists()


def test_doctor_says_what_is_broken(tmp_path: Path) -> None:
    result = call("doctor", "--set", f"records.root={tmp_path / 'new' / 'runs'}")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0, result.output
    assert all(line.startswith("ok       ") for line in lines)
    assert lines[-2].startswith("ok       all-reduce of one rank on ")
    assert lines[-1] == "ok       model digits_cnn: 23,824 prunable weights"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    result = call("doctor", "--set", f"records.root={tmp_path / 'file' / 'runs'}")
    problems = [line for line in result.stdout.splitlines() if not line.startswith("ok ")]
    assert result.exit_code == 1
    assert len(problems) == 1
    assert problems[0].startswith(f"problem  {tmp_path}/file is no folder; records.root=")
    assert "--run-dir" in problems[0]


@pytest.mark.parametrize("setting", ["0", "two", "", "-1"])
def test_doctor_wants_a_number_of_threads(setting: str) -> None:
    with pytest.raises(ValueError, match="is no number of threads; export OMP_NUM_THREADS=1"):
        doctor.threads(setting)
    assert doctor.threads("4") == "OMP_NUM_THREADS=4"
    assert doctor.threads(None)


def test_data_is_prepared_and_checked(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    images = np.zeros((4, 3, 32, 32), dtype=np.uint8)
    samples = [(f"{i:06d}", image, i) for i, image in enumerate(images)]
    splits = {"train": labelled(samples), "test": labelled(samples[:1])}
    classes = data.described(DataConfig(name="cifar10")).classes
    write(source, "cifar10", classes, splits, 100, lambda line: None)
    words = ("data", "prepare", "cifar10", "--from", source, "--to", target)
    result = call(*words, "--samples-per-shard", "3")
    assert (result.exit_code, result.stdout.count("\n")) == (0, 3), result.output
    sheet = tmp_path / "sheet.png"
    result = call("data", "check", target, "--sheet", sheet)
    assert result.stdout.endswith(f"ok       {target}\n"), result.output
    assert re.search(r"truck +│ +0 │ +0 │", result.stdout)
    assert re.search(r"airplane +│ +1 │ +1 │", result.stdout)
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert "index.json is there already" in refusal("data", "index", target, "--name", "cifar10")
    (target / "index.json").unlink()
    assert call("data", "index", target, "--name", "cifar10").exit_code == 0
    assert "is not an empty folder" in refusal(*words)
    shard = target / "cifar10-train-000001.tar"
    shard.write_bytes(shard.read_bytes()[:-1])
    result = call("data", "check", target)
    assert result.exit_code == 1
    assert result.stdout.endswith(f"problem  {shard} differs from what was written (sha256)\n")
    assert result.stdout.count("note     channel") == 3  # all pixels are 0, 1, 2 or 3


def test_data_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    words = ("--from", tmp_path, "--to", tmp_path / "new")
    assert "name=digits is no set of images on disk" in refusal("data", "prepare", "digits", *words)
    assert "samples_per_shard=0" in refusal(
        "data", "prepare", "cifar10", *words, "--samples-per-shard", "0"
    )
    assert "say with --name which data set it is" in refusal("data", "check", tmp_path)
    (tmp_path / "index.json").write_text("{")
    assert "index.json" in refusal("data", "check", tmp_path)


@pytest.mark.parametrize(
    ("num", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_345_678, "12.3 MB"), (10**19, "10000.0 PB")],
)
def test_bytes_are_readable(num: int, text: str) -> None:
    assert bytes_text(num) == text
