"""Kills runs at random moments, starts them again, and compares the soups with undisturbed ones.

python tests/chaos.py --kills 200 --engine both --target any

A reference runs undisturbed first. Then runs are killed, again and again, until they are finished.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "distributed"), str(HERE / "trials")]

from chances import TARGETS, Chances  # noqa: E402
from disturbed import Disturbed, started, tails  # noqa: E402
from inspection import damages, differences, fingerprint, remains  # noqa: E402
from life import Kill  # noqa: E402
from moments import Durations, Observer  # noqa: E402
from patience import Patience, TrialError, wait_until  # noqa: E402
from tables import markdown, mean_std, span  # noqa: E402
from variants import CHOICES, VARIANTS, Variant  # noqa: E402

MOST_FAILURES = 3  # runs that come to no end, after which there is no use in more of them
NUM_REFERENCES = 2


@dataclass
class Result:
    """Of one variant."""

    variant: str
    reference_seconds: list[float]
    reference_start_seconds: float  # of which until the ranks worked
    training_steps_per_second: float
    run_seconds: list[float] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    num_equal: int = 0  # runs that ended with all bits of the reference

    @property
    def seconds_lost(self) -> float:
        """Per kill: of all finished runs together, over what they take undisturbed."""
        usual = statistics.mean(self.reference_seconds) * len(self.run_seconds)
        return (sum(self.run_seconds) - usual) / max(1, len(self.kills))


@dataclass(frozen=True)
class Reference:
    seconds: float
    durations: Durations
    fingerprint: dict[str, str]


def undisturbed(variant: Variant, folder: Path) -> Reference:
    """A run from its start to its end, looked at as closely as those that are killed."""
    start = time.monotonic()
    observer, patience = Observer(folder, time.time()), Patience(folder)
    with started(variant, folder) as launch:

        def has_ended() -> bool:
            observer.look()
            return launch.process.poll() is not None

        wait_until(has_ended, patience, pause=0.001)
        seconds = time.monotonic() - start
        if status := launch.process.wait():
            raise TrialError(f"the undisturbed run ended with status {status}")
    found = [*remains(folder), *damages(folder)]
    if found:
        raise TrialError(f"the undisturbed run: {found}")
    return Reference(seconds, observer.durations, fingerprint(folder))


def reference_of(variant: Variant, folder: Path) -> tuple[Reference, Result]:
    """Several of them, which must be equal."""
    found = []
    for number in range(NUM_REFERENCES):
        found.append(undisturbed(variant, folder / f"reference_{number}"))
        click.echo(f"{variant.name}: undisturbed {found[-1].seconds:.1f} s", err=True)
    if any(one.fingerprint != found[0].fingerprint for one in found):
        raise TrialError(f"{variant.name}: two undisturbed runs differ")
    first = found[0].durations
    seconds = [one.seconds for one in found]
    return found[0], Result(variant.name, seconds, first.typical("start"), first.steps_per_second)


def campaign(variant: Variant, num_kills: int, targets: tuple[str, ...], seed: int, folder: Path,
             max_seconds: float) -> Result:  # fmt: skip
    """Runs are killed until so many kills were made, or the time is over."""
    reference, result = reference_of(variant, folder)
    chances = Chances(random.Random(f"{seed} {variant.name}"), reference.durations, targets)
    end, number, num_failures = time.monotonic() + max_seconds, 0, 0

    def tell(kill: Kill) -> None:
        again = "" if kill.seconds_again is None else f", {kill.seconds_again:.2f} s to do again"
        who = f"rank {kill.rank}" if kill.target == "rank" else kill.target
        place = f"{variant.name} run {number}: {who} in {kill.stage} of phase {kill.phase}"
        click.echo(f"{place}, gone after {kill.gone_seconds:.2f} s{again}", err=True)

    while len(result.kills) < num_kills and num_failures < MOST_FAILURES:
        if time.monotonic() > end:
            result.faults.append(f"only {len(result.kills)} of {num_kills} kills in the time given")
            break
        run_folder = folder / f"run_{number}"
        run = Disturbed(variant, run_folder, chances, num_kills - len(result.kills), tell)
        try:
            result.run_seconds.append(run.run())
            wrong = [*differences(run_folder, reference.fingerprint), *remains(run_folder)]
            wrong += damages(run_folder)
        except TrialError as failure:
            num_failures += 1
            wrong = [f"{failure}\n{tails(run_folder)}"]
        result.kills += run.kills
        result.num_equal += not wrong
        found = [f"{variant.name} run {number}: {fault}" for fault in (*run.faults, *wrong)]
        for fault in found:
            click.echo(f"FAULT {fault}", err=True)
        result.faults += found
        number += 1
    return result


def tables(results: list[Result]) -> str:
    return f"{_outcomes(results)}\n\n{_stages(results)}\n\n{_times(results)}"


def _outcomes(results: list[Result]) -> str:
    header = ["engine", "kills", "of ranks (by agent)", "of agents", "of all at once", "runs",
              "equal sha256", "orphans", "faults"]  # fmt: skip
    rows = []
    for result in results:
        kills = Counter(kill.target for kill in result.kills)
        by_agent = sum(kill.by_agent for kill in result.kills)
        ranks = f"{kills['rank']} ({by_agent})"
        runs, orphans = len(result.run_seconds), sum(kill.orphans for kill in result.kills)
        rows.append([result.variant, len(result.kills), ranks, kills["agent"], kills["host"], runs,
                     result.num_equal, orphans, len(result.faults)])  # fmt: skip
    return markdown(header, rows)


def _stages(results: list[Result]) -> str:
    hits = Counter((r.variant, kill.stage) for r in results for kill in r.kills)
    stages = sorted({stage for _, stage in hits})
    rows = [[r.variant, *(hits[r.variant, stage] for stage in stages)] for r in results]
    return markdown(["kills in", *stages], rows)


def _times(results: list[Result]) -> str:
    header = ["engine", "undisturbed, s", "of it start-up, s", "lost per kill, s",
              "of it until ranks work again, s", "dead within, s: min / median / max",
              "training done again, s", "steps done again"]  # fmt: skip
    rows = []
    for r in results:
        again = [kill.seconds_again for kill in r.kills if kill.seconds_again is not None]
        steps = [seconds * r.training_steps_per_second for seconds in again]
        rows.append([r.variant, mean_std(r.reference_seconds), f"{r.reference_start_seconds:.2f}",
                     f"{r.seconds_lost:.2f}", mean_std(kill.back_seconds for kill in r.kills),
                     span(kill.gone_seconds for kill in r.kills), mean_std(again, 3),
                     mean_std(steps, 1)])  # fmt: skip
    return markdown(header, rows)


@click.command()
@click.option("--kills", default=200, show_default=True, help="Of all engines together.")
@click.option("--engine", type=click.Choice(list(CHOICES)), default="both", show_default=True)
@click.option("--target", type=click.Choice(list(TARGETS)), default="any", show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of moments and victims.")
@click.option("--folder", type=Path, help="New folder for the runs. [default: a temporary one]")
@click.option("--json", "document", type=Path, help="File for the results.")
@click.option("--minutes", default=60.0, show_default=True, help="At most, for each engine.")
def main(
    kills: int, engine: str, target: str, seed: int, folder: Path | None, document: Path | None,
    minutes: float,
) -> None:  # fmt: skip
    """Kill runs, and see that they come to the same end."""
    folder = (folder or Path(tempfile.mkdtemp(prefix="chaos_"))).resolve()
    names, results = CHOICES[engine], []
    for place, name in enumerate(names):
        share = kills // len(names) + (place < kills % len(names))
        chosen = TARGETS[target]
        try:
            found = campaign(VARIANTS[name], share, chosen, seed, folder / name, 60 * minutes)
        except TrialError as failure:
            sys.exit(f"{name}: {failure}")
        results.append(found)
    document = document or folder / "chaos.json"
    document.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")
    click.echo(f"{tables(results)}\n\nresults: {document}")
    sys.exit(any(result.faults for result in results))


if __name__ == "__main__":
    main()
