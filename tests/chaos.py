"""Kills runs at random moments, starts them again, and compares the soups with undisturbed ones.

python tests/chaos.py --kills 200 --engine both --target any

A kill is SIGKILL of a random rank, of torchrun's agent, or of all processes at once. After each one
everything that had to end must be gone, and the run folder be readable.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "distributed"), str(HERE / "trials")]

from campaign import Campaign, Result  # noqa: E402
from chances import TARGETS  # noqa: E402
from patience import TrialError  # noqa: E402
from tables import markdown, mean_std, span  # noqa: E402
from variants import CHOICES, VARIANTS  # noqa: E402


def outcomes(results: list[Result]) -> str:
    header = ["engine", "kills", "of ranks (restarted by the agent)", "of agents",
              "of all at once", "runs", "equal sha256", "orphans", "faults"]  # fmt: skip
    rows = []
    for result in results:
        kills = Counter(kill.target for kill in result.kills)
        by_agent = sum(kill.by_agent for kill in result.kills)
        runs = len(result.run_seconds) + result.num_unfinished
        orphans = sum(kill.orphans for kill in result.kills)
        rows.append([result.variant, len(result.kills), f"{kills['rank']} ({by_agent})",
                     kills["agent"], kills["host"], runs, result.num_equal, orphans,
                     len(result.faults)])  # fmt: skip
    return markdown(header, rows)


def stages(results: list[Result]) -> str:
    hits = Counter((result.variant, kill.stage) for result in results for kill in result.kills)
    names = sorted({stage for _, stage in hits})
    rows = [[r.variant, *(hits[r.variant, name] for name in names)] for r in results]
    return markdown(["kills in", *names], rows)


def times(results: list[Result]) -> str:
    header = ["engine", "undisturbed, s", "of it start-up, s", "lost per kill, s",
              "until ranks work again, s", "dead within, s: min / median / max",
              "training to do again, s", "steps to do again"]  # fmt: skip
    rows = []
    for result in results:
        again = [kill.seconds_again for kill in result.kills if kill.seconds_again is not None]
        steps = [seconds * result.steps_per_second for seconds in again]
        rows.append([result.variant, mean_std(result.reference_seconds),
                     f"{result.start_seconds:.2f}", f"{result.seconds_lost:.2f}",
                     mean_std(kill.back_seconds for kill in result.kills),
                     span(kill.gone_seconds for kill in result.kills), mean_std(again, 3),
                     mean_std(steps, 1)])  # fmt: skip
    return markdown(header, rows)


def say(line: str) -> None:
    click.echo(line, err=True)


@click.command()
@click.option("--kills", default=200, show_default=True, help="Of all engines together.")
@click.option("--engine", type=click.Choice(list(CHOICES)), default="both", show_default=True)
@click.option("--target", type=click.Choice(list(TARGETS)), default="any", show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of moments and victims.")
@click.option(
    "--references", default=2, show_default=True, help="Undisturbed runs, of each engine."
)
@click.option("--folder", type=Path, help="New folder for the runs. [default: a temporary one]")
@click.option("--json", "document", type=Path, help="File for the results.")
@click.option("--minutes", default=120.0, show_default=True, help="At most.")
def main(
    kills: int, engine: str, target: str, seed: int, references: int, folder: Path | None,
    document: Path | None, minutes: float,
) -> None:  # fmt: skip
    """Kill runs, and see that they come to the same end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # and so end what was started
    folder = (folder or Path(tempfile.mkdtemp(prefix="chaos_"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    document, end = document or folder / "chaos.json", time.monotonic() + 60 * minutes
    names, results = CHOICES[engine], list[Result]()
    for place, name in enumerate(names):
        share = kills // len(names) + (place < kills % len(names))
        try:
            campaign = Campaign(
                VARIANTS[name], folder / name, TARGETS[target], seed, references, say
            )
        except TrialError as error:
            sys.exit(f"{name}: {error}")
        results.append(campaign.result)
        while not campaign.is_over(share) and time.monotonic() < end:
            campaign.run(share)
            document.write_text(json.dumps([asdict(r) for r in results], indent=1) + "\n")
    click.echo("\n\n".join([outcomes(results), stages(results), times(results)]))
    click.echo(f"\nresults: {document}")
    made = sum(len(result.kills) for result in results)
    sys.exit(made < kills or any(result.faults for result in results))


if __name__ == "__main__":
    main()
