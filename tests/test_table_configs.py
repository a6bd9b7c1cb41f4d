"""The commands in the headers of configs/ are right: what is copied from there runs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from click import Command

from launcher.commands.report import report
from launcher.commands.sweep import sweep
from launcher.sweeping.tasks import Task, tasks
from sms_dist.config_compare import differences
from sms_dist.reports.paper_tables import TABLES

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
OF_PAPER = (1, 2, *range(4, 13), 16, 17)


def commands(text: str, verb: str) -> list[list[str]]:
    """The arguments of all `sms-dist verb` in the comments of a file, "\\" continuing a line."""
    comments = [line[1:].strip() for line in text.splitlines() if line.startswith("#")]
    lines = "\n".join(comments).replace("\\\n", "").splitlines()
    start = f"sms-dist {verb} "
    return [shlex.split(line.removeprefix(start)) for line in lines if line.startswith(start)]


HEADERS = [path for path in sorted(CONFIGS.glob("*.yaml")) if commands(path.read_text(), "sweep")]


def options(command: Command, words: list[str]) -> dict[str, Any]:
    """The arguments as the command itself reads them."""
    return command.make_context(str(command.name), list(words)).params


def grid(path: Path, words: list[str]) -> list[Task]:
    """The runs of one sweep in a header, all of them planned."""
    given = options(sweep, words)
    assert given["config_file"] == Path("configs") / path.name
    return tasks(
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
    found: dict[Path, Task] = {}
    for words in commands(path.read_text(), "sweep"):
        for task in grid(path, words):
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


@pytest.mark.parametrize("number", OF_PAPER)
def test_every_table_has_a_small_version(number: int) -> None:
    assert (CONFIGS / f"table_{number:02d}_small.yaml").is_file()


def test_every_configuration_of_the_paper_says_how_it_is_run() -> None:
    ours = {*CONFIGS.glob("table_*.yaml"), *CONFIGS.glob("figure_*.yaml")}
    assert ours == set(HEADERS)
