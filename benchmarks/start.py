"""How long things take to start: commands, a rank until its first training step, the demo.

python benchmarks/start.py

Whole processes, from outside. What they start with is in the same run: Python alone, click, torch.
Takes about a minute, half of it for the demo.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import NoReturn

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone, not installed

from benchmarks.rows import ROOT, Row, Target, report
from benchmarks.turns import ENVIRONMENT, Turns, in_turn

CLI, MAIN = ("-m", "sms_dist.cli.main"), str(ROOT / "launcher" / "main.py")
QUICK = {  # fractions of a second
    "python": ("-c", "pass"),
    "click": ("-c", "import click"),
    "--help": (*CLI, "--help"),
}
SLOW = {  # seconds
    "torch": ("-c", "import torch"),
    "optimizer": ("-c", "import torch, torch._dynamo"),  # which the first of torch.optim imports
    "plan": (*CLI, "plan", "--config", "configs/digits_sms.yaml"),
}
LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", MAIN)
DEMO = (*LAUNCH, "--config", "configs/demo.yaml")  # as make demo


def run(*words: str) -> None:
    """Python with these arguments, to its end."""
    environment = os.environ | ENVIRONMENT
    command = [sys.executable, *words]
    subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=True)


def demo() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run(*DEMO, "--run-dir", folder)


def timed(commands: dict[str, tuple[str, ...]], turns: int) -> Turns:
    return in_turn({name: partial(run, *words) for name, words in commands.items()}, turns)


def end_with_first_step(folder: Path) -> NoReturn:
    """A run of one rank, as the launcher starts it, that is over after its first training step."""
    from sms_dist.engines.ddp import DdpEngine
    from sms_dist.start.rank import main as launch

    step = DdpEngine.step

    def last_step(*arguments: object) -> NoReturn:
        step(*arguments)  # type: ignore[arg-type]
        os._exit(0)

    DdpEngine.step = last_step  # type: ignore[method-assign, assignment]
    launch(["--run-dir", str(folder / str(os.getpid()))])
    raise AssertionError("it has trained nothing")


def rows(quick: Turns, slow: Turns) -> list[Row]:
    def seconds(what: str, turns: Turns, name: str, at_most: float) -> Row:
        return Row("start", what, "", "s", turns.seconds[name], Target(at_most=at_most))

    def times(what: str, turns: Turns, name: str, baseline: str) -> Row:
        python = "python -c '" + {**QUICK, **SLOW}[baseline][1] + "'"
        return Row("start", what, python, "x its time", turns.times(name, baseline))

    first_step = "a rank until its first training step, digits"
    return [
        seconds("sms-dist --help", quick, "--help", 0.3),
        times("sms-dist --help", quick, "--help", "python"),
        times("sms-dist --help", quick, "--help", "click"),
        seconds("sms-dist plan", slow, "plan", 4),
        Row("start", first_step, "", "s", slow.seconds["first step"]),
        times(first_step, slow, "first step", "torch"),
        times(first_step, slow, "first step", "optimizer"),
    ]


@click.command()
@click.option("--turns", default=5, show_default=True, help="Of what takes fractions of a second.")
@click.option("--slow-turns", default=3, show_default=True, help="Of what imports torch.")
@click.option("--demo/--no-demo", "has_demo", default=True, help="Also run the demo, once.")
@click.option("--worker", type=Path, hidden=True)
@click.option("--json", "file", type=Path, help="File to write.")
def main(
    turns: int, slow_turns: int, has_demo: bool, worker: Path | None, file: Path | None
) -> None:
    if worker:
        end_with_first_step(worker)
    with tempfile.TemporaryDirectory() as folder:
        slow = {**SLOW, "first step": (__file__, "--worker", folder)}
        found = rows(timed(QUICK, turns), timed(slow, slow_turns))
    if has_demo:
        start = time.perf_counter()
        demo()
        taken = [time.perf_counter() - start]
        found.append(Row("start", "the demo, installed", "", "s", taken, Target(at_most=60)))
    report(found, file)


if __name__ == "__main__":
    main()
