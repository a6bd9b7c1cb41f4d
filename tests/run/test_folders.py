"""Folders are listed while others take them away."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sms_dist.base.files import entries
from sms_dist.cli.slurm.requeue import mark
from sms_dist.cli.status import RunStatus
from sms_dist.run.paths import RunPaths

POINT = "recovery/dense/a/rank_0.json"


def test_what_is_there_is_listed_by_name(tmp_path) -> None:
    for name in ("b", "a", ".c", "a.json"):
        (tmp_path / name).touch()
    assert [path.name for path in entries(tmp_path)] == [".c", "a", "a.json", "b"]
    assert entries(tmp_path, "*.json") == [tmp_path / "a.json"]


def test_what_is_no_folder_has_nothing_in_it(tmp_path) -> None:
    (tmp_path / "file").touch()
    assert entries(tmp_path / "file") == entries(tmp_path / "none") == []


def vanish(event: str, arguments: tuple) -> None:
    """An audit hook: what is about to be listed or opened goes at the last moment."""
    if event in ("os.listdir", "os.scandir", "open") and GOING.pop(str(arguments[0]), None):
        path = Path(arguments[0])
        path.rename(path.with_name(".gone"))


GOING: dict[str, bool] = {}  # path -> True
sys.addaudithook(vanish)  # for the rest of this process: there is no way to remove it


@pytest.fixture
def run(tmp_path) -> Path:
    (tmp_path / POINT).parent.mkdir(parents=True)
    (tmp_path / POINT).write_text("{")
    (tmp_path / "progress").mkdir()
    (tmp_path / "plan.json").write_text("{")
    return tmp_path


READERS = {
    "status": RunStatus,
    "requeue": lambda run: mark(RunPaths(run)),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "name", ["recovery", "recovery/dense", "recovery/dense/a", POINT, "progress", "plan.json"]
)
def test_a_run_is_looked_at_while_a_part_of_it_goes(run, name, reader) -> None:
    GOING[str(run / name)] = True
    try:
        READERS[reader](run)
    finally:
        GOING.clear()


def test_what_went_away_is_not_called_damaged(run) -> None:
    assert RunStatus(run).damaged
    GOING[str(run / "plan.json")] = True
    assert not RunStatus(run).damaged
    assert not GOING
