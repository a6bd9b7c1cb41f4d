"""On a real Slurm of virtual nodes: submitted jobs finish, also those that are interrupted."""

from __future__ import annotations

import pytest
from launching import MAIN, last_soup, launch_forked, read_json
from slurm_cluster import Unavailable, slurm
from slurm_runs import arguments, submitted

from sms_dist.cli.slurm import jobs
from sms_dist.run.paths import RunPaths


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    try:
        with slurm(tmp_path_factory.mktemp("slurm")) as found:
            yield found
    except Unavailable as reason:
        pytest.skip(f"no Slurm here: {reason}")


@pytest.mark.timeout(600)
def test_a_job_that_is_requeued_makes_the_bits_of_a_plain_run(cluster, tmp_path) -> None:
    asked = submitted(cluster, tmp_path / "asked")
    asked.wait_for("dense", "manifest.json")
    cluster.call("scancel", "--signal=USR1", "--batch", asked.job)  # as before the time limit
    finished = launch_forked(MAIN, arguments(tmp_path / "plain"), tmp_path / "logs", timeout=300)
    assert finished.status == 0, finished
    end = asked.end()
    assert (end.state, end.restarts) == ("COMPLETED", 1), str(asked)

    assert asked.soup() == last_soup(tmp_path / "plain")
    logs = [path.name for path in (asked.folder / "logs").glob("*.log")]
    assert [node for node in (0, 1) if not any(f"-{asked.job}-{node}-" in n for n in logs)] == []
    assert "the time is nearly up: the ranks are asked to stop" in asked.log(), str(asked)
    assert "back into the queue" in asked.log(), str(asked)
    assert len(asked.events("stopped")) == 1
    assert [event["resumed"] for event in asked.events("start")] == [False, True]
    kinds = [line.kind for line in jobs.recorded(RunPaths(asked.folder))]
    assert kinds == ["submit", "requeue"]
    starts = read_json(asked.folder / "environment.json")["starts"]
    assert all(
        f"{asked.folder}/snapshot/sms_dist/start/__main__.py" in s["command"] for s in starts
    )
    assert not (asked.folder / "stop").exists()
