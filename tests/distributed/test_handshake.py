"""Ranks that differ say so before they compute together: each of them, in the same words."""

from __future__ import annotations

import platform
import sys
import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from launching import PROGRAMS, launch_forked, read_json

from sms_dist.config import Config
from sms_dist.experiment.checks import check
from sms_dist.experiment.facts import facts
from sms_dist.mesh.handshake import MAX_LINES, compare, differences, ranks_text

HOST = platform.node()
SAME = "install the same everywhere"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of four ranks was told."""
    folder = tmp_path_factory.mktemp("handshakes")
    arguments = [folder / "data", folder / "found.json"]
    finished = launch_forked(PROGRAMS / "handshakes.py", arguments, folder, ranks=4)
    assert finished.status == 0, finished
    return read_json(folder / "found.json")


def told(found, name):
    """What all ranks that were there were told, which is the same."""
    (complaint,) = {values[name] for values in found if name in values}
    return complaint


def test_ranks_that_agree_go_on(found):
    assert told(found, "same") is None
    assert told(found, "after") is None


def test_the_rank_that_differs_is_named_to_all(found):
    assert told(found, "one") == (
        f"ranks do not agree on torch: 2.13.0 (ranks 0-1, 3), 2.12.1 (rank 2 on host {HOST}); "
        "install the same everywhere"
    )


def test_each_difference_is_a_line(found):
    device, version = told(found, "two").splitlines()
    assert device.startswith(
        f"ranks do not agree on device: cuda (ranks 1-3), cpu (rank 0 on host {HOST}); "
    )
    assert version.startswith(
        f"ranks do not agree on torch: 2.13.0 (rank 0), 2.1 (rank 1 on host {HOST}), 2.2 (rank 2"
    )


def test_settings_and_data_that_differ_are_found_and_those_of_a_host_are_not(found):
    settings, data = sorted(told(found, "run").splitlines(), key=lambda line: "data index" in line)
    assert settings == (
        f"ranks do not agree on key data.batch_size: 64 (ranks 0-2), 32 (rank 3 on host {HOST}); "
        "give all ranks the same --config and --set"
    )
    assert data.startswith("ranks do not agree on data index: ")


def test_whoever_comes_late_is_waited_for(found):
    assert told(found, "late") is None


def test_ranks_that_do_not_come_are_named(found):
    assert told(found, "missing") == (
        f"rank 3 of 4 did not come within 2 s; the others are on host {HOST}"
    )
    assert told(found, "first missing").startswith("rank 0 has not compared the ranks within 4 s")


def test_all_hear_the_verdict_before_the_rank_that_holds_the_store_is_gone(tmp_path):
    finished = launch_forked(PROGRAMS / "refused.py", [], tmp_path)
    assert finished.out.split() == ["2", "2", "2"], finished


def test_four_thousand_ranks_are_compared_in_a_moment():
    """With a request for each of them it would be seconds over a network."""
    size, store = 4096, dist.HashStore()
    digest = _digest_posted_by(store, {"torch": "2.13.0"}, size)
    for rank in range(2, size):
        store.set(f"rank {rank}", digest)
    start = time.monotonic()
    compare({"torch": "2.13.0"}, store, 0, size, timedelta(seconds=60))
    assert time.monotonic() - start < 10


def test_ranks_are_told_in_stretches():
    assert ranks_text([6]) == "rank 6"
    assert ranks_text([0, 1, 2, 3, 5, 7, 8]) == "ranks 0-3, 5, 7-8"


def test_hosts_of_those_that_differ_are_named_until_they_are_many():
    hosts = [f"node{rank // 4:02}" for rank in range(64)]

    def line(odd):
        everyone = [{"torch": "2.12" if rank in odd else "2.13"} for rank in range(64)]
        (line,) = differences(everyone, hosts)
        return line

    assert "2.13 (ranks 0-3, 8-63), 2.12 (ranks 4-7 on host node01); install" in line(range(4, 8))
    assert "2.12 (ranks 0-8 on hosts node00, node01, node02)" in line(range(9))
    assert "2.12 (ranks 0-19 on 5 hosts)" in line(range(20))


def test_a_fact_that_a_rank_does_not_know_is_a_difference():
    (line,) = differences([{"code a.py": "1"}, {"code a.py": "1"}, {}], ["a", "a", "b"])
    assert line.startswith("ranks do not agree on code a.py: 1 (ranks 0-1), nothing (rank 2 on ")


def test_very_many_differences_stay_readable():
    everyone = [{f"code {i}.py": f"{i}{rank}" * 100 for i in range(100)} for rank in range(50)]
    lines = differences(everyone, ["a"] * 50)
    assert len(lines) == MAX_LINES + 1
    assert lines[-1] == "ranks do not agree on 80 further facts of 100"
    assert max(map(len, lines)) < 500
    assert "and 46 others" in lines[0]


def test_the_facts_tell_versions_code_settings_and_what_describes_the_data(tmp_path):
    (tmp_path / "shard_0.tar").write_bytes(b"samples")
    config = Config()
    config = config.model_copy(
        update={"data": config.data.model_copy(update={"path": str(tmp_path)})}
    )

    def index():
        return facts(config)["data index"]

    known = facts(config)
    assert known["torch"] == torch.__version__
    assert len(known["code sms_dist/experiment/facts.py"]) == 16
    cards = {"code sms_dist/share/data/digits.yaml", "code sms_dist/start/rank.py", "key seed"}
    assert cards <= known.keys()
    # What is only shown, or is somebody's on one host only, decides nothing.
    assert not [name for name in known if "share/configs" in name or "template" in name]
    assert "data index" not in facts(Config())
    card = tmp_path / "mine.yaml"
    card.write_text("name: mine")
    described = Config.model_validate({"data": {"name": str(card)}})
    before = facts(described)["data card"]
    card.write_text("name: yours")
    assert facts(described)["data card"] != before
    (tmp_path / "shard_1.tar").touch()
    more = index()
    (tmp_path / "card.yaml").write_text("name: a")
    described = index()
    assert len({known["data index"], more, described}) == 3
    assert index() == described
    gone = config.model_copy(update={"data": config.data.model_copy(update={"path": "/gone"})})
    assert facts(gone)["data index"] == "no folder /gone to read"


def _digest_posted_by(store, mine, size):
    """What rank 1 of so many posts, who is alone and soon gives up."""
    with pytest.raises(ValueError, match="rank 0 has not compared"):
        compare(mine, store, 1, size, timedelta(seconds=0.01))
    return store.get("rank 1").decode()


def test_the_facts_tell_code_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", [*sys.path, str(tmp_path)])
    (tmp_path / "rules_of_theirs.py").write_text("def best(scores, score_of): ...")
    config = Config.model_validate({"soup": {"rule": "rules_of_theirs:best"}})
    check(config)
    before = facts(config)["code rules_of_theirs.py"]
    (tmp_path / "rules_of_theirs.py").write_text("def best(scores, score_of): return 1")
    assert facts(config)["code rules_of_theirs.py"] != before
