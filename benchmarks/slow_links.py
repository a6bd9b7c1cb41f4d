"""Four hosts with a candidate each and a slow network between them: how fast they train.

python benchmarks/slow_links.py            (as root, with iproute2; Linux network namespaces)

One run on four hosts of this machine. Before every other phase all links get 50 ms of delay and
10 Mbit/s (tc netem), before the others they are as fast as memory: so both ways have turns in the
same processes. Steps a second are those of the training of a phase; bytes are counted at the hosts'
interfaces while all four train. A minute and a half on two cores.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone, not installed

from benchmarks.rows import ROOT, Row, Target, report
from sms_dist.records.progress import read_all

HOSTS = 4
SWITCH = "sms_slow_0"
NAMES = [f"sms_slow_{i}" for i in range(1, HOSTS + 1)]
ADDRESS = "10.79.0.{}"
PORT = 29600
DELAY, RATE = "50ms", "10mbit"
LOOK = 0.2  # seconds
PATIENCE = 1800.0
SETTINGS = (
    "data.name=digits",
    "data.batch_size=64",
    "pretrain.epochs=1",
    "pretrain.ranks=1",
    "pruning.goal_sparsity=0.9",
    f"candidates.count={HOSTS}",
    "records.tensorboard=false",
)


def missing() -> str | None:
    """Why there can be no hosts here."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    lacking = [name for name in ("ip", "tc") if shutil.which(name) is None]
    return f"{', '.join(lacking)} of iproute2 is not installed" if lacking else None


@contextmanager
def hosts() -> Iterator[None]:
    """Namespaces on a bridge; taken away again, whatever happens, and those that were left over."""
    _remove()
    try:
        _ip("netns", "add", SWITCH)
        _ip("-n", SWITCH, "link", "add", "br0", "type", "bridge")
        _ip("-n", SWITCH, "link", "set", "br0", "up")
        for i, name in enumerate(NAMES, 1):
            port = f"port{i}"
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("link", "add", "name", "eth0", "netns", name, "type", "veth",
                "peer", "name", port, "netns", SWITCH)  # fmt: skip
            _ip("-n", name, "addr", "add", f"{ADDRESS.format(i)}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", SWITCH, "link", "set", port, "master", "br0", "up")
        yield
    finally:
        _remove()


def shape(is_slow: bool) -> None:
    """Of what leaves a host."""
    for name in NAMES:
        words = ["tc", "-n", name, "qdisc"]
        subprocess.run([*words, "del", "dev", "eth0", "root"], capture_output=True)
        if is_slow:
            netem = ["netem", "delay", DELAY, "rate", RATE, "limit", "100000"]
            subprocess.run([*words, "add", "dev", "eth0", "root", *netem], check=True)


def sent() -> int:
    """Bytes that all hosts have sent."""
    total = 0
    for name in NAMES:
        told = _ip("-n", name, "-s", "-j", "link", "show", "dev", "eth0")
        total += json.loads(told)[0]["stats64"]["tx"]["bytes"]
    return total


def start(folder: Path, num_phases: int, epochs: int, stack: ExitStack) -> None:
    """A launcher on each host; all that they have started ends with the stack."""
    settings = (*SETTINGS, f"pruning.phases={num_phases}", f"retrain.epochs={epochs}")
    words = [word for setting in settings for word in ("--set", setting)]
    for node, name in enumerate(NAMES):
        place = (
            f"--node-rank={node}",
            f"--master-addr={ADDRESS.format(1)}",
            f"--master-port={PORT}",
        )
        torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={HOSTS}"]
        run = [str(ROOT / "launcher" / "main.py"), *words, "--run-dir", str(folder / "run")]
        own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "eth0"}
        with (folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", name, *torchrun, *place, "--nproc-per-node=1", *run],
                env=os.environ | own | {"CUDA_VISIBLE_DEVICES": ""},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        stack.callback(_end, process)


class Watched:
    """A run under way, and what was counted while all its groups trained."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self.rates: dict[int, list[float]] = {}  # phase -> bytes a second of all hosts
        self._last: tuple[int, float, int] | None = None

    def num_soups(self) -> int:
        return sum(event["event"] in ("dense", "soup") for event in self.events())

    def events(self) -> list[dict]:
        journal = self._run / "journal.jsonl"
        lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
        return [json.loads(line) for line in lines]

    def look(self) -> None:
        """Between two looks at which all groups are in the middle of the same training."""
        phase, last = self._phase(), self._last
        now = None if phase is None else (phase, time.monotonic(), sent())
        self._last = now
        if now and last and now[0] == last[0]:
            rate = (now[2] - last[2]) / (now[1] - last[1])
            self.rates.setdefault(now[0], []).append(rate)

    def _phase(self) -> int | None:
        """In which all groups train, and none is about to end."""
        told = read_all(self._run / "progress").values()
        busy = [
            one.phase for one in told if one.stage == "retrain" and 0 < one.epoch < one.num_epochs
        ]
        return busy[0] if len(busy) == HOSTS and len(set(busy)) == 1 else None


def watched(folder: Path, num_phases: int) -> Watched:
    """Look on until the run is done; before each phase the links change."""
    run, done = Watched(folder / "run"), 0
    end = time.monotonic() + PATIENCE
    while not (folder / "run" / "summary.json").exists():
        if time.monotonic() > end:
            raise SystemExit((folder / f"{NAMES[0]}.log").read_text()[-3000:])
        if run.num_soups() > done:
            done += 1
            shape(is_slow=done <= num_phases and _is_slow(done))
        run.look()
        time.sleep(LOOK)
    return run


def rows_of(run: Watched, num_steps: int) -> list[Row]:
    speeds: dict[int, float] = {}  # phase -> steps a second of the slowest group
    for event in run.events():
        if event["event"] == "candidate":
            speed = num_steps / event["seconds"]
            speeds[event["phase"]] = min(speed, speeds.get(event["phase"], speed))
    slow = [phase for phase in speeds if _is_slow(phase)]
    ratios = [
        speeds[phase] / statistics.mean(speeds[each] for each in (phase - 1, phase + 1))
        for phase in slow
        if phase + 1 in speeds
    ]
    moved = [statistics.mean(run.rates[phase]) / HOSTS for phase in slow if phase in run.rates]
    steps = statistics.median(speeds[phase] for phase in slow)
    note = (
        f"{steps:.0f} steps/s of each group; an all-reduce of the gradients would send "
        f"{steps * GRADIENTS / 1e6:.0f} MB/s"
    )
    what = f"four groups, {DELAY} and {RATE} between their hosts"
    return [
        Row("slow links", f"steps/s, {what}", "fast links", "x", ratios, Target(at_least=0.97)),
        Row("slow links", "sent by each host while all train", "", "kB/s",
            [rate / 1000 for rate in moved], Target(at_most=5), note),
    ]  # fmt: skip


GRADIENTS = 4 * (23_824 + 234)  # bytes of digits_cnn's


@click.command()
@click.option("--phases", default=7, show_default=True, help="Odd; every other one is slow.")
@click.option("--epochs", default=80, show_default=True, help="Of a candidate in each phase.")
@click.option("--json", "file", type=Path, help="Write the rows there.")
def main(phases: int, epochs: int, file: Path | None) -> None:
    reason = missing()
    if reason is not None:
        click.echo(f"slow links: skipped, {reason}")
        return
    with tempfile.TemporaryDirectory(prefix="slow_links_") as name, ExitStack() as stack:
        folder = Path(name)
        stack.enter_context(hosts())
        start(folder, phases, epochs, stack)
        run = watched(folder, phases)
        rows = rows_of(run, num_steps=epochs * _steps_per_epoch(run))
    report(rows, file)


def _is_slow(phase: int) -> bool:
    return phase % 2 == 0


def _steps_per_epoch(run: Watched) -> int:
    plan = json.loads((run._run / "plan.json").read_text())
    return int(plan["sizes"]["steps_per_epoch"])


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _remove() -> None:
    for name in [*NAMES, SWITCH]:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
