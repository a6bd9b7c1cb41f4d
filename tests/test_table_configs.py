"""The commands in the headers of configs/ are right: what is copied from there runs."""

from __future__ import annotations

import re
import shlex
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click import Command

from sms_dist.cli.commands.report import report
from sms_dist.cli.commands.sweep import sweep
from sms_dist.cli.grid import SweepRun, sweep_runs
from sms_dist.cli.plan import planned
from sms_dist.config.compare import differences
from sms_dist.config.file import load
from sms_dist.data.card import names
from sms_dist.reports.tables import TABLES

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
ALL = sorted(CONFIGS.glob("*.yaml"))
OF_PAPER = (1, 2, *range(4, 18))  # table 3 is the pretraining of all others


def commands(text: str, verb: str, program: str = "sms-dist ") -> list[list[str]]:
    """The arguments of all `sms-dist verb` in the comments of a file, "\\" continuing a line."""
    comments = [line[1:].strip() for line in text.splitlines() if line.startswith("#")]
    lines = "\n".join(comments).replace("\\\n", "").splitlines()
    start = f"{program}{verb} "
    return [shlex.split(line.removeprefix(start)) for line in lines if line.startswith(start)]


HEADERS = [path for path in ALL if commands(path.read_text(), "sweep")]
LAUNCHED = [path for path in ALL if commands(path.read_text(), "torchrun", "")]
BORROWED = re.compile(r"cp -r runs/(\w+)/dense-model_\* runs/(\w+)/")


def options(command: Command, words: list[str]) -> dict[str, Any]:
    """The arguments as the command itself reads them."""
    return command.make_context(str(command.name), list(words)).params


@cache
def grid(path: Path, words: tuple[str, ...]) -> list[SweepRun]:
    """The runs of one sweep in a header with its first seed, all of them planned."""
    given = options(sweep, [re.sub(r"^(seed=\d+)[,\d]*$", r"\1", word) for word in words])
    assert given["config_file"] == Path("configs") / path.name
    return sweep_runs(
        path,
        given["settings"],
        to=given["to"],
        num_ranks=given["nproc"],
        is_sharing=given["is_sharing"],
    )


def test_a_command_is_read_over_several_lines() -> None:
    text = "# Says:\n#   sms-dist sweep --set 'a={b: 1}' \\\n#       --jobs 2\n# more\nname: x\n"
    assert commands(text, "sweep") == [["--set", "a={b: 1}", "--jobs", "2"]]
    assert commands(text, "report") == []


@pytest.mark.parametrize("path", HEADERS, ids=lambda path: path.stem)
def test_the_sweeps_of_a_header_plan_and_keep_out_of_each_others_folders(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where no earlier runs are
    found: dict[Path, SweepRun] = {}
    for words in commands(path.read_text(), "sweep"):
        for task in grid(path, tuple(words)):
            other = found.setdefault(task.folder, task)
            assert differences(other.config, task.config) == [], f"both in {task.folder}"
            assert other is task or task.point.is_dense, f"{task.folder} comes twice"


@pytest.mark.parametrize("path", HEADERS, ids=lambda path: path.stem)
def test_the_report_of_a_header_reads_the_folders_of_its_sweeps(path: Path) -> None:
    reports = [options(report, words) for words in commands(path.read_text(), "report")]
    assert reports
    for given in reports:
        assert given["folders"][0] == Path("runs") / path.stem
        assert all((CONFIGS / f"{folder.name}.yaml").is_file() for folder in given["folders"])
        kind, number = path.stem.split("_")[:2]
        assert given["name"] == str(int(number)) if kind == "table" else given["is_plotting"]
        assert given["name"] in TABLES


@pytest.mark.parametrize("path", LAUNCHED, ids=lambda path: path.stem)
def test_the_launch_line_of_a_header_plans_on_its_ranks(path: Path) -> None:
    for words in commands(path.read_text(), "torchrun", ""):
        assert words[words.index("--config") + 1] == f"configs/{path.name}"
        given = [value for word, value in pairwise(words) if word == "--set"]
        settings = [s for s in given if "SOURCE" not in s and "folder:" not in s]  # of the user
        num_ranks = launcher_option(words, "nnodes") * launcher_option(words, "nproc-per-node")
        found = planned(load(path, settings), num_ranks)
        assert found.plan.num_groups <= found.config.candidates.count  # none is idle


def launcher_option(words: list[str], name: str) -> int:
    """Of torchrun; 1 where it is not given."""
    found = [word.partition("=")[2] for word in words if word.startswith(f"--{name}=")]
    return int(found[0]) if found else 1


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_a_header_prepares_the_data_that_the_file_reads(path: Path) -> None:
    data = load(path).data
    for words in commands(path.read_text(), "data prepare"):
        assert words[0] == data.name
        assert words[words.index("--to") + 1] == data.path
    is_embedded = data.name in ("digits", "digits_distorted")
    assert data.name in names()
    assert is_embedded or data.path is not None


@pytest.mark.parametrize(
    "path", [p for p in HEADERS if BORROWED.search(p.read_text())], ids=lambda path: path.stem
)
def test_dense_models_that_a_header_borrows_are_those_it_would_train(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ((lender, borrower),) = BORROWED.findall(path.read_text())
    assert borrower == path.stem
    theirs, own = dense_models(CONFIGS / f"{lender}.yaml"), dense_models(path)
    assert own
    assert own.keys() <= theirs.keys()
    for name, task in own.items():
        assert differences(theirs[name].config, task.config) == []


def dense_models(path: Path) -> dict[str, SweepRun]:
    """Of all sweeps of a header, by the names of their folders."""
    found = [task for words in commands(path.read_text(), "sweep") for task in shared(path, words)]
    return {task.folder.name: task for task in found}


def shared(path: Path, words: list[str]) -> list[SweepRun]:
    return [task for task in grid(path, tuple(words)) if task.point.is_dense]


@pytest.mark.parametrize("number", OF_PAPER)
def test_every_table_has_a_full_and_a_small_version(number: int) -> None:
    names = {file.stem for file in CONFIGS.glob(f"table_{number:02d}_*.yaml")}
    assert f"table_{number:02d}_small" in names
    assert len(names) > 1


def test_every_configuration_of_the_paper_says_how_it_is_run() -> None:
    ours = {*CONFIGS.glob("table_*.yaml"), *CONFIGS.glob("figure_*.yaml")}
    assert ours == set(HEADERS)
