"""Long trials on a real Slurm of virtual nodes: what may happen to jobs, and that all ends well.

python tests/slurm_trials.py [NAME ...]     all of them take about ten minutes
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "distributed"))

from launching import TINY, last_soup, wait_for
from slurm_cluster import Slurm, pids_of, slurm
from slurm_runs import CLUSTER, SETTINGS, SubmittedRun, cluster_file, command, plain, submitted

MINUTE = "{nodes: 2, ranks_per_node: 1, time_limit: '1', signal_seconds_before_end: SECONDS}"
LONG = (*SETTINGS, "retrain.epochs=50")  # more than fits into what a minute leaves


class Trials:
    """One cluster for all trials; the bits of undisturbed runs, made once."""

    def __init__(self, cluster: Slurm, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self._known: dict[tuple[str, ...], str] = {}

    def start(self, name: str, *words: str, **options) -> SubmittedRun:
        """On a cluster that has nothing else to do."""
        wait_for(self.cluster.is_idle)
        return submitted(self.cluster, self.folder / name, *words, **options)

    def expected(self, settings=SETTINGS) -> str:
        if settings not in self._known:
            self._known[settings] = plain(self.folder / f"plain_{len(self._known)}", settings)
        return self._known[settings]

    def check(self, run: SubmittedRun, state="COMPLETED", restarts=None, settings=SETTINGS) -> None:
        end = run.end(900)
        print(f"   job {run.job}: {end}")
        assert end.state == state, str(run)
        assert restarts is None or end.restarts == restarts, str(run)
        assert run.soup() == self.expected(settings), str(run)
        print(f"   soup {run.soup()[:16]}, as undisturbed")


def node_failure(trials: Trials) -> None:
    """A node dies with all that runs on it: Slurm requeues the job on the nodes that are left."""
    run = trials.start("node_failure")
    run.wait_for("dense", "manifest.json")
    trials.cluster.kill_node("node2")
    trials.check(run, restarts=1)
    assert "node2" not in trials.cluster.nodes_of(run.job), str(run)
    trials.cluster.start_node("node2")
    trials.cluster.call("scontrol", "update", "nodename=node2", "state=resume")


def fewer_nodes(trials: Trials) -> None:
    """Of four nodes one dies: the job goes on with the three that are left, as min_nodes allows."""
    run = trials.start("fewer_nodes", cluster=CLUSTER.replace("nodes: 2", "nodes: 4, min_nodes: 3"))
    run.wait_for("dense", "manifest.json")
    trials.cluster.kill_node("node4")
    trials.check(run, restarts=1)
    assert [event["ranks"] for event in run.events("start")][:2] == [4, 3], str(run)
    trials.cluster.start_node("node4")
    trials.cluster.call("scontrol", "update", "nodename=node4", "state=resume")


def time_limit(trials: Trials) -> None:
    """A job that needs several times its time limit of a minute."""
    run = trials.start("time_limit", cluster=MINUTE.replace("SECONDS", "30"), settings=LONG)
    trials.check(run, settings=LONG)
    assert "the time is nearly up: the ranks are asked to stop" in run.log(), str(run)


def killed_at_the_limit(trials: Trials) -> None:
    """Ranks that do not stop in time are killed by Slurm at the limit, and the job comes back."""
    run = trials.start("killed_at_the_limit")
    run.wait_for("dense", "manifest.json")
    for pid in pids_of(run.folder, "start/__main__.py"):
        os.kill(pid, signal.SIGSTOP)
    trials.cluster.call("scontrol", "update", f"JobId={run.job}", "TimeLimit=1")
    wait_for(lambda: trials.cluster.job(run.job).restarts == 1, 240)
    assert "the time is up: the ranks are killed" in run.log(), str(run)
    trials.cluster.call("scontrol", "update", f"JobId={run.job}", "TimeLimit=30")
    trials.check(run, restarts=1)


def preemption(trials: Trials) -> None:
    """A job of a more urgent partition takes the nodes: Slurm tells the ranks, not the script."""
    run = trials.start("preemption")
    run.wait_for("dense", "manifest.json")
    urgent = ("--partition=urgent", "--nodes=4", "--exclusive", "--output=/dev/null")
    number = trials.cluster.call("sbatch", "--parsable", *urgent, "--wrap", "sleep 5").strip()
    assert trials.cluster.wait(number, "COMPLETED").state == "COMPLETED"
    trials.check(run, restarts=1)
    assert "asked to stop" not in run.log(), str(run)


def cancelled(trials: Trials) -> None:
    """scancel ends a job for good; submitted again it goes on."""
    run = trials.start("cancelled")
    run.wait_for("dense", "manifest.json")
    trials.cluster.call("scancel", run.job)
    end = run.end()
    print(f"   job {run.job}: {end}")
    assert (end.state, end.restarts) == ("CANCELLED", 0), str(run)
    trials.check(trials.start("cancelled"))


def stopped_by_hand(trials: Trials) -> None:
    """A stop file made by hand ends the job with 75, and it does not come back."""
    run = trials.start("stopped_by_hand")
    run.wait_for("dense", "manifest.json")
    (run.folder / "stop").touch()
    end = run.end()
    print(f"   job {run.job}: {end}")
    assert (end.state, end.exit_code, end.restarts) == ("FAILED", "75:0", 0), str(run)
    trials.check(trials.start("stopped_by_hand"))


def crashed_rank(trials: Trials) -> None:
    """A rank is killed: torchrun starts all ranks again within the job."""
    run = trials.start("crashed_rank")
    run.wait_for("dense", "manifest.json")
    os.kill(pids_of(run.folder, "start/__main__.py")[-1], signal.SIGKILL)
    trials.check(run, restarts=0)
    assert len(run.events("start")) > 1, str(run)


def chain(trials: Trials) -> None:
    """Three jobs that may not be requeued, the first is asked to stop; the last does nothing."""
    run = trials.start("chain", "--chain", "3")
    run.wait_for("dense", "manifest.json")
    trials.cluster.call("scancel", "--signal=USR1", "--batch", run.job)
    numbers = [str(int(run.job) + i) for i in range(3)]
    ends = [trials.cluster.wait(n, "COMPLETED", "FAILED", seconds=300) for n in numbers]
    print("  ", *ends, sep="\n   ")
    assert [end.exit_code for end in ends] == ["75:0", "0:0", "0:0"], str(run)
    assert len(run.events("start")) == 2, str(run)
    assert run.soup() == trials.expected(), str(run)


def arrays(trials: Trials) -> None:
    """A sweep of two methods and two seeds over shared dense models, one command."""
    to = trials.folder / "arrays"
    words = ("sweep", "--submit", "--cluster", cluster_file(trials.cluster), "--to", to)
    grid = ("--set", "method.name=sms,imp", "--set", "seed=0,1", "--share-dense", "--at-most", "2")
    said = command(trials.cluster, *words, *grid, settings=(*TINY, "pretrain.ranks=1"))
    print(f"   {said}", end="")
    points = [to / f"{name}_seed{seed}" for name in ("sms", "imp") for seed in (0, 1)]
    wait_for(lambda: all((point / "summary.json").exists() for point in points), 400)
    for point in points:
        seed = f"seed={point.name[-1]}"
        method = f"method.name={point.name.partition('_')[0]}"
        expected = trials.expected((*TINY, "pretrain.ranks=1", method, seed))
        assert last_soup(point) == expected, point
    wait_for(lambda: not trials.cluster.call("squeue", "-h").strip(), 60)
    again = command(trials.cluster, *words, *grid, settings=(*TINY, "pretrain.ranks=1"))
    assert again.count("done: ") == 6, again


TRIALS: dict[str, Callable[[Trials], None]] = {
    trial.__name__: trial
    for trial in (
        *(node_failure, fewer_nodes, time_limit, killed_at_the_limit, preemption, cancelled),
        *(stopped_by_hand, crashed_rank, chain, arrays),
    )
}


def main() -> None:
    names = sys.argv[1:] or list(TRIALS)
    with tempfile.TemporaryDirectory(prefix="slurm_") as folder:
        root = Path(folder)
        with slurm(root / "cluster") as cluster:
            trials = Trials(cluster, root / "runs")
            for name in names:
                print(f"{name}: {TRIALS[name].__doc__}", flush=True)
                start = time.monotonic()
                TRIALS[name](trials)
                print(f"   {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
