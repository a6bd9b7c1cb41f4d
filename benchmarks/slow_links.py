"""Four groups on four hosts with a slow network between them, against four that are isolated.

python benchmarks/slow_links.py            (as root, with iproute2; Linux network namespaces)

One run of four groups, a rank each on a host of its own; all frames between them are 50 ms late and
leave with 10 Mbit/s. On the same hosts four runs of a candidate each, that know nothing of each
other. While both train the same, they have turns: those of the other side are stopped meanwhile.
Each of the isolated tells of its progress and holds a lock, of the run only the first rank does;
so the run has turns with fast links as well. In the phases after that it is left alone, and the
bytes between its hosts are counted. Less than three minutes on two cores.
"""

from __future__ import annotations

import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone, not installed


from benchmarks.rows import ROOT, Row, Target, report
from benchmarks.slow_hosts import LOOK, Team, team
from benchmarks.slow_switch import Switch, address, switched
from sms_dist.run import journal
from sms_dist.run.journal import SoupEvent

HOSTS = 4
PORT = 29600
NUM_PHASES = 3  # turns are taken in the first one, bytes counted in the others
DELAY, RATE = 0.05, 10e6  # seconds, bits a second
BEATS = 6.0  # kB a second: what three ranks and the store tell each other
SETTINGS = (
    "data.name=digits",
    "data.batch_size=64",
    "pretrain.epochs=1",
    "pretrain.ranks=1",
    "pruning.goal_sparsity=0.9",
    "records.tensorboard=false",
)
Commands = list[tuple[list[str], dict[str, str]]]  # words and variables of each rank


@dataclass
class Counted:
    """The bytes that all hosts had sent, at every look."""

    looks: list[tuple[float, int, int | None]] = field(default_factory=list)

    def look(self, num_bytes: int, phase: int | None) -> None:
        """`phase`: that which all groups train, if they do."""
        self.looks.append((time.time(), num_bytes, phase))

    def a_second(self, phase: int) -> float:
        """While all groups were in the middle of their training."""
        own = [(when, count) for when, count, at in self.looks if at == phase]
        return (own[-1][1] - own[0][1]) / (own[-1][0] - own[0][0])

    def between(self, begin: float, end: float) -> int:
        """From one time to another."""
        before, after = (max(n for when, n, _ in self.looks if when <= t) for t in (begin, end))
        return after - before


def joined(folder: Path, settings: Sequence[str]) -> Commands:
    """What starts the ranks of one run, with a host for each."""
    variables = {"MASTER_ADDR": address(0), "MASTER_PORT": str(PORT), "GLOO_SOCKET_IFNAME": "eth0"}
    variables |= {"WORLD_SIZE": str(HOSTS), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    command = _command(folder, [*settings, f"candidates.count={HOSTS}"])
    return [(command, variables | {"RANK": str(rank)}) for rank in range(HOSTS)]


def isolated(folders: Sequence[Path], settings: Sequence[str]) -> Commands:
    """What starts a run of one candidate in each folder."""
    return [
        (_command(each, [*settings, "candidates.count=1", f"seed={i}"]), {})
        for i, each in enumerate(folders)
    ]


def in_turn(
    run: Team, alone: Team, switch: Switch, seconds: float, end: float
) -> dict[str, list[float]]:
    """Speeds of the run against those of the isolated before and after it, and against its own
    while the links are fast; all rest afterwards."""
    ratios: dict[str, list[float]] = {"isolated groups": [], "the same run with fast links": []}
    before = alone.steps_per_second(seconds)
    while before is not None:
        run.check(end)
        switch.delay, switch.rate = 0.0, None
        fast = run.steps_per_second(seconds)
        switch.delay, switch.rate = DELAY, RATE
        own = run.steps_per_second(seconds)
        after = alone.steps_per_second(seconds)
        if fast is None or own is None or after is None:
            break
        isolated_speed = statistics.mean((before, after))
        for found, other in zip(ratios.values(), (isolated_speed, fast), strict=True):
            found.append(own / other)
        before = after
    return ratios


def counted(run: Team, switch: Switch, end: float) -> Counted:
    """Look on until the run is done."""
    found = Counted()
    while not (run.folders[0] / "summary.json").exists():
        run.check(end)
        found.look(sum(switch.sent), run.phase)
        time.sleep(LOOK)
    return found


def rows_of(ratios: Mapping[str, Sequence[float]], found: Counted, folder: Path) -> list[Row]:
    events = journal.read(folder / "journal.jsonl")
    ends = {e.metrics.phase: e.seconds or 0.0 for e in events if isinstance(e, SoupEvent)}
    phases = range(2, NUM_PHASES + 1)
    rates = [found.a_second(k) / 1000 for k in phases]
    sent = [found.between(ends[k - 1], ends[k]) / 1000 for k in phases]
    what = f"four groups, {1000 * DELAY:.0f} ms and {RATE / 1e6:.0f} Mbit/s between their hosts"
    training = "sent between all hosts while their groups train"
    against = f"heartbeats alone are {BEATS:.1f} kB/s"
    name, slow = "slow links", Target(at_least=0.97)
    return [
        *(Row(name, f"steps/s, {what}", other, "x", own, slow) for other, own in ratios.items()),
        Row(name, training, "", "kB/s", rates, Target(at_most=1.2 * BEATS), against),
        Row(name, "sent between all hosts in a phase, its soup included", "", "kB", sent),
    ]


@click.command()
@click.option("--epochs", default=120, show_default=True, help="Of a candidate in each phase.")
@click.option("--seconds", default=2.0, show_default=True, help="Of a turn.")
@click.option("--patience", default=300.0, show_default=True, help="Seconds, for all of it.")
@click.option("--json", "file", type=Path, help="Write the rows there.")
def main(epochs: int, seconds: float, patience: float, file: Path | None) -> None:
    settings = [*SETTINGS, f"pruning.phases={NUM_PHASES}", f"retrain.epochs={epochs}"]
    end = time.monotonic() + patience
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # nothing is left behind
    with tempfile.TemporaryDirectory(prefix="slow_links_") as name, ExitStack() as stack:
        folder, alone_in = Path(name) / "run", [Path(name) / f"alone_{i}" for i in range(HOSTS)]
        try:
            switch, hosts = stack.enter_context(switched("sms_slow_", HOSTS))
        except OSError as error:
            click.echo(f"slow links: skipped, {error}")
            return
        switch.delay, switch.rate = DELAY, RATE
        with team(hosts, isolated(alone_in, settings), alone_in) as alone:
            alone.wait_until_all_train(end)
            alone.rest()
            run = stack.enter_context(team(hosts, joined(folder, settings), [folder]))
            run.wait_until_all_train(end)
            run.rest()
            ratios = in_turn(run, alone, switch, seconds, end)
        run.work()
        rows = rows_of(ratios, counted(run, switch, end), folder)
    report(rows, file)


def _command(folder: Path, settings: Sequence[str]) -> list[str]:
    words = [word for setting in settings for word in ("--set", setting)]
    return [str(ROOT / "launcher" / "main.py"), *words, "--run-dir", str(folder)]


if __name__ == "__main__":
    main()
