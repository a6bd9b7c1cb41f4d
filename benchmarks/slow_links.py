"""Four hosts with a candidate each and a slow network between them: how fast they train.

python benchmarks/slow_links.py            (as root, with iproute2; Linux network namespaces)

One run on four hosts of this machine. In every other phase all frames between them are 50 ms late
and leave with 10 Mbit/s, in the others they pass at once: so both ways have turns in the same
processes. Steps a second are those of the training of a phase; bytes are counted between the hosts
while all four train. A minute and a half on two cores.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone, not installed

from benchmarks.rows import ROOT, Row, Target, report
from benchmarks.slow_switch import Switch, address, switched
from sms_dist.records import journal
from sms_dist.records.progress import read_all

HOSTS = 4
PORT = 29600
DELAY, RATE = 0.05, 10e6  # seconds, bits a second
LOOK = 0.2  # seconds
GRADIENTS = 4 * (23_824 + 234)  # bytes of digits_cnn's
SETTINGS = (
    "data.name=digits",
    "data.batch_size=64",
    "pretrain.epochs=1",
    "pretrain.ranks=1",
    "pruning.goal_sparsity=0.9",
    f"candidates.count={HOSTS}",
    "records.tensorboard=false",
)


@dataclass
class Watched:
    """A run under way, and what was counted while all its groups trained."""

    folder: Path
    rates: dict[int, list[float]] = field(default_factory=dict)  # phase -> bytes a second in all
    last: tuple[int, float, int] | None = None  # phase, time, bytes

    def events(self, name: str) -> list[Mapping[str, Any]]:
        found = journal.read(self.folder / "journal.jsonl")
        return [event for event in found if event["event"] == name]

    def phase_to_come(self) -> int:
        return len(self.events("dense")) + len(self.events("soup"))

    def look(self, num_bytes: int) -> None:
        """Count between two looks at which all groups are in the middle of the same training."""
        phase, last = self._phase(), self.last
        self.last = now = None if phase is None else (phase, time.monotonic(), num_bytes)
        if now and last and now[0] == last[0]:
            rate = (now[2] - last[2]) / (now[1] - last[1])
            self.rates.setdefault(now[0], []).append(rate)

    def _phase(self) -> int | None:
        busy = [
            group.phase
            for group in read_all(self.folder / "progress").values()
            if group.stage == "retrain" and 0 < group.epoch < group.num_epochs
        ]
        return busy[0] if len(busy) == HOSTS and len(set(busy)) == 1 else None


def start(names: Sequence[str], folder: Path, words: Sequence[str], stack: ExitStack) -> None:
    """A launcher on each host; all that they have started ends with the stack."""
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "eth0"}
    for node, name in enumerate(names):
        torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={HOSTS}"]
        place = [f"--node-rank={node}", f"--master-addr={address(0)}", f"--master-port={PORT}"]
        run = [str(ROOT / "launcher" / "main.py"), *words, "--run-dir", str(folder / "run")]
        with (folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", name, *torchrun, *place, "--nproc-per-node=1", *run],
                env=os.environ | own | {"CUDA_VISIBLE_DEVICES": ""},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        stack.callback(_end, process)


def watched(switch: Switch, folder: Path, patience: float) -> Watched:
    """Look on until the run is done; the links change before each phase."""
    run, end = Watched(folder / "run"), time.monotonic() + patience
    while not (folder / "run" / "summary.json").exists():
        if time.monotonic() > end:
            logs = "\n".join(log.read_text()[-2000:] for log in folder.glob("*.log"))
            raise SystemExit(f"{logs}\nnot done after {patience:.0f} s")
        is_slow = _is_slow(run.phase_to_come())
        switch.delay, switch.rate = (DELAY, RATE) if is_slow else (0.0, None)
        run.look(sum(switch.sent))
        time.sleep(LOOK)
    return run


def rows_of(run: Watched, num_steps: int) -> list[Row]:
    speeds: dict[int, float] = {}  # phase -> steps a second of all groups, on the average
    for phase in {event["phase"] for event in run.events("candidate")}:
        own = [event["seconds"] for event in run.events("candidate") if event["phase"] == phase]
        speeds[phase] = num_steps / statistics.mean(own)
    slow = [phase for phase in speeds if _is_slow(phase) and phase + 1 in speeds]
    ratios = [speeds[k] / statistics.mean((speeds[k - 1], speeds[k + 1])) for k in slow]
    moved = [statistics.mean(run.rates[phase]) / HOSTS / 1000 for phase in slow]
    fast = [statistics.mean(run.rates[phase]) / HOSTS / 1000 for phase in (1, 3)]
    steps = statistics.median(speeds[phase] for phase in slow)
    note = (
        f"with fast links {statistics.mean(fast):.2g} kB/s; {steps:.0f} steps/s of each group, "
        f"whose gradients would be {2 * steps * GRADIENTS / 1e6:.0f} MB/s"
    )
    what = f"four groups, {1000 * DELAY:.0f} ms and {RATE / 1e6:.0f} Mbit/s between their hosts"
    speed = Row("slow links", f"steps/s, {what}", "fast links", "x", ratios, Target(at_least=0.97))
    sent = "sent by each host while all of them train"
    return [speed, Row("slow links", sent, "", "kB/s", moved, Target(at_most=2), note)]


@click.command()
@click.option("--phases", default=7, show_default=True, help="Odd; every other one is slow.")
@click.option("--epochs", default=80, show_default=True, help="Of a candidate in each phase.")
@click.option("--patience", default=600.0, show_default=True, help="Seconds, for all of it.")
@click.option("--json", "file", type=Path, help="Write the rows there.")
def main(phases: int, epochs: int, patience: float, file: Path | None) -> None:
    settings = (*SETTINGS, f"pruning.phases={phases}", f"retrain.epochs={epochs}")
    words = [word for setting in settings for word in ("--set", setting)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # nothing is left behind
    with tempfile.TemporaryDirectory(prefix="slow_links_") as name, ExitStack() as stack:
        folder = Path(name)
        try:
            switch, names = stack.enter_context(switched("sms_slow_", HOSTS))
        except OSError as error:
            click.echo(f"slow links: skipped, {error}")
            return
        start(names, folder, words, stack)
        run = watched(switch, folder, patience)
        plan = json.loads((folder / "run" / "plan.json").read_text())
        rows = rows_of(run, epochs * plan["sizes"]["steps_per_epoch"])
    report(rows, file)


def _is_slow(phase: int) -> bool:
    return phase % 2 == 0 and phase > 0


def _end(process: subprocess.Popen[bytes]) -> None:
    """The launcher, and its ranks, which have its session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    main()
