"""Ranks that meet, and ranks that are asked to stop while they wait for each other."""

from __future__ import annotations

import pytest
from launching import PROGRAMS, launch_forked, read_json

RANKS = range(4)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("control")
    finished = launch_forked(PROGRAMS / "control.py", [folder], folder, ranks=len(RANKS))
    assert finished.status == 0, finished
    return [read_json(folder / f"{rank}.json") for rank in RANKS]


def test_ranks_that_all_come_meet(found):
    assert [each["all come"] for each in found] == ["met"] * 4
    assert [each["some are late"] for each in found] == ["met"] * 4


def test_ranks_that_wait_stop_when_another_one_is_asked_to(found):
    assert [each.get("one asks to stop") for each in found] == ["stopped"] * 3 + [None]


def test_every_rank_hears_why(found):
    assert [each["why"] for each in found] == ["SIGTERM"] * 4
