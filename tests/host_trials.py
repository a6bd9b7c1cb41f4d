"""Four hosts, of which one is lost, cut off or holds the store: what becomes of a run, and when.

    python tests/host_trials.py [--folder DIR] [lost] [cut] [first]     (as root, with iproute2)

Every trial has to end with the soup of an undisturbed run, to the bit, and must not train again
what was finished. Prints a line for each thing that happened, with the seconds since the harm.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

sys.path.insert(0, str(Path(__file__).resolve().parent / "distributed"))

from hosts import Host, network, torchrun
from launching import MAIN, last_soup, main_arguments

SILENCE = 10
SETTINGS = (
    "candidates.count=6",
    "retrain.epochs=24",
    "data.validation=0.0",
    "pretrain.ranks=1",  # else the dense bits depend on the number of hosts
    "records.every_seconds=2",
    f"engine.silence_seconds={SILENCE}",
)
PATIENCE = 300
PORT = 29500


class Trial:
    """A run on four hosts, as torchrun starts it when three are enough."""

    def __init__(self, name: str, hosts: list[Host], folder: Path) -> None:
        self.name, self.hosts, self.folder = name, hosts, folder
        self.run = folder / name / "run"
        self.run.parent.mkdir(parents=True)
        self._harmed = time.monotonic()
        self._number = 0

    def start(self, host: Host) -> None:
        is_first = int(host is self.hosts[0])
        options = (
            "--nnodes=3:4",
            "--nproc-per-node=1",
            "--max-restarts=10",
            "--rdzv-backend=c10d",
            f"--rdzv-endpoint={self.hosts[0].address}:{PORT + self._number}",
            f"--rdzv-id={self.name}{self._number}",
            f"--rdzv-conf=is_host={is_first},last_call_timeout=5",
            f"--local-addr={host.address}",
        )
        arguments = main_arguments(self.run, *SETTINGS)
        command = torchrun(*options, script=MAIN, arguments=arguments)
        # Else torchrun (2.13) does not tell a host that comes later where the ranks meet.
        host.start(command, self.log(host), TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")

    def start_all(self) -> None:
        """A new start on all hosts."""
        self._number += 1
        for host in self.hosts:
            self.start(host)

    def log(self, host: Host) -> Path:
        return self.run.parent / f"{host.name}.log"

    def tell(self, what: str) -> None:
        print(f"{self.name}: {time.monotonic() - self._harmed:5.1f} s  {what}", flush=True)

    def harm(self, what: str) -> None:
        self._harmed = time.monotonic()
        self.tell(f"{what}; {len(self.finished())} candidates are finished")

    def when(self, condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
        """Wait for it and tell when it came."""
        end = time.monotonic() + patience
        while not condition():
            if time.monotonic() > end:
                raise SystemExit(f"{self.name}: not within {patience} s: {what}")
            time.sleep(0.1)
        self.tell(what)

    def finished(self) -> dict[str, int]:
        """Candidates that are stored -> when their files were written."""
        files = self.run.glob("phase_*/candidate_*/manifest.json")
        return {str(file.relative_to(self.run)): file.stat().st_mtime_ns for file in files}

    def starts(self) -> list[int]:
        """The number of ranks of each start so far."""
        return [event["ranks"] for event in self.events() if event["event"] == "start"]

    def events(self) -> list[dict]:
        journal = self.run / "journal.jsonl"
        lines = journal.read_text().splitlines() if journal.exists() else []
        return [json.loads(line) for line in lines]

    def said(self) -> list[str]:
        """Lines that name a fault."""
        logs = [self.log(host) for host in self.hosts]
        texts = [log.read_text(errors="replace") for log in logs if log.exists()]
        return [line for text in texts for line in text.splitlines() if line.startswith("error: ")]

    def wait_for_candidates(self, number: int) -> None:
        self.when(lambda: len(self.finished()) >= number, f"{number} candidates are finished")

    def end(self, earlier: dict[str, int], soup: str | None) -> str:
        """Wait for the end; the last soup's hash, which has to be this one."""
        self.when(lambda: (self.run / "summary.json").exists(), "the run is finished")
        for host in self.hosts:
            assert host.process is not None
            self.when(lambda h=host: h.process.poll() is not None, f"{host.name} has ended", 90)
            host.kill()
        kept = {name: when for name, when in self.finished().items() if name in earlier}
        assert kept == earlier, "finished candidates were trained again"
        mine = last_soup(self.run)
        assert soup in (None, mine), "another soup than that of the undisturbed run"
        self.tell(f"starts with {self.starts()} ranks; soup {mine[:12]}")
        return mine


def has_ended(host: Host) -> bool:
    return host.process is not None and host.process.poll() is not None


def undisturbed(trial: Trial) -> str:
    trial.harm("nothing happens")
    trial.start_all()
    return trial.end({}, None)


def under_way(trial: Trial) -> dict[str, int]:
    """All hosts train their second candidate or a later one; those that are finished."""
    trial.start_all()
    trial.wait_for_candidates(1)
    time.sleep(1)
    return trial.finished()


def lost(trial: Trial, soup: str) -> None:
    """The last host is killed, and comes back later."""
    last = trial.hosts[-1]
    earlier = under_way(trial)
    trial.harm("host 4 is killed")
    last.kill()
    trial.when(trial.said, "it is missed")
    trial.tell(trial.said()[0])
    trial.when(lambda: trial.starts()[-1] == 3, "goes on with 3 hosts")
    trial.wait_for_candidates(len(earlier) + 2)
    earlier = trial.finished()
    trial.harm("host 4 is back")
    trial.start(last)
    trial.when(lambda: trial.starts()[-1] == 4, "goes on with 4 hosts")
    trial.end(earlier, soup)


def cut(trial: Trial, soup: str) -> None:
    """The last host's network is cut, and mended later."""
    last = trial.hosts[-1]
    earlier = under_way(trial)
    trial.harm("host 4 is cut off")
    last.cut()
    trial.when(lambda: len(trial.said()) >= 2, "both sides have missed the other")
    for line in trial.said():
        trial.tell(line)
    trial.when(lambda: trial.starts()[-1] == 3, "goes on with 3 hosts")
    trial.wait_for_candidates(len(earlier) + 2)
    earlier = trial.finished()
    trial.tell(f"torchrun on host 4 has {'ended' if has_ended(last) else 'not ended'}")
    trial.harm("host 4 is connected again")
    last.join()
    time.sleep(5)
    if has_ended(last):
        trial.start(last)
    trial.when(lambda: trial.starts()[-1] == 4, "goes on with 4 hosts")
    trial.end(earlier, soup)


def first(trial: Trial, soup: str) -> None:
    """The first host, where the store is, is killed."""
    earlier = under_way(trial)
    trial.harm("host 1 is killed")
    trial.hosts[0].kill()
    trial.when(trial.said, "it is missed")
    for line in trial.said():
        trial.tell(line)
    for host in trial.hosts[1:]:
        trial.when(lambda h=host: has_ended(h), f"everything on {host.name} has ended")
    trial.harm("all are started again")
    trial.start_all()
    trial.when(lambda: len(trial.starts()) == 2, "goes on")
    trial.end(earlier, soup)


TRIALS = {"lost": lost, "cut": cut, "first": first}


def main() -> None:
    parser = argparse.ArgumentParser(description="Four hosts, one of which comes to harm.")
    parser.add_argument("trials", nargs="*", help=f"of {', '.join(TRIALS)}; default: all")
    parser.add_argument("--folder", type=Path, help="for runs and logs; default: a new one")
    chosen = parser.parse_args()
    trials = [TRIALS[name] for name in chosen.trials or TRIALS]
    folder = chosen.folder or Path(mkdtemp(prefix="host_trials_"))
    print(f"silence limit {SILENCE} s; runs and logs: {folder}")
    with network(4) as hosts:
        soup = undisturbed(Trial("undisturbed", hosts, folder))
        for trial in trials:
            trial(Trial(trial.__name__, hosts, folder), soup)


if __name__ == "__main__":
    main()
