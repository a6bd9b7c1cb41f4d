"""SMS against IMP and IMP_mx from the same dense weights: mean +- std over seeds, on digits.

python benchmarks/digits_five_seeds.py --data digits_distorted
python benchmarks/digits_five_seeds.py --data digits \\
    --set data.batch_size=64 --set retrain.schedule=allr

Finished runs are kept, so that an interrupted benchmark goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parent.parent
METHODS = ("sms", "imp", "imp_m_times")
Runs = dict[str, list[dict[str, Any]]]  # method -> the summary of each seed
SOUP = "SMS (m=3)"
ROWS = {
    SOUP: ("sms", "soup"),
    "best candidate": ("sms", "best_candidate"),
    "mean candidate": ("sms", "mean_candidate"),
    "IMP_3x": ("imp_m_times", "soup"),
    "IMP": ("imp", "soup"),
}


def run(folder: Path, *settings: str) -> dict[str, Any]:
    """One experiment in one process; its summary."""
    command = [sys.executable, str(ROOT / "launcher" / "main.py"), "--run-dir", str(folder)]
    for setting in ("records.tensorboard=false", *settings):
        command += ["--set", setting]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


def accuracies(runs: Runs, row: str, phase: int) -> list[float]:
    """In percent, of each seed."""
    method, key = ROWS[row]
    found = [summary["phases"][phase][key] for summary in runs[method]]
    return [100 * (v["test_accuracy"] if isinstance(v, dict) else v) for v in found]


def cell(values: list[float], form: str = ".2f") -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):{form}} ± {spread:.2f}"


@click.command()
@click.option("--data", default="digits_distorted", show_default=True, help="Data set.")
@click.option("--seeds", default=5, show_default=True, help="How many.")
@click.option("--sparsity", "goals", multiple=True, default=(0.9, 0.95), show_default=True)
@click.option("--out", type=Path, default=Path("runs/five_seeds"), show_default=True)
@click.option("--set", "settings", multiple=True, help="Further settings of all runs.")
def main(
    data: str, seeds: int, goals: tuple[float, ...], out: Path, settings: tuple[str, ...]
) -> None:
    """Print a Markdown table for each goal sparsity."""
    for goal in goals:
        summaries: Runs = {method: [] for method in METHODS}
        for seed in range(seeds):
            common = (f"data.name={data}", f"seed={seed}", *settings)
            dense = out / data / f"dense_{seed}"
            run(dense, *common, "method.name=dense")
            for method in METHODS:
                summaries[method].append(
                    run(
                        out / data / f"{method}_{goal}_{seed}",
                        *common,
                        f"pretrain.from={dense}",
                        f"method.name={method}",
                        f"pruning.goal_sparsity={goal}",
                    )
                )
        _print(data, goal, seeds, summaries)


def _print(data: str, goal: float, seeds: int, runs: Runs) -> None:
    phases = [phase["sparsity"] for phase in runs["sms"][0]["phases"]]
    dense = [100 * s["dense"]["test_accuracy"] for s in runs["sms"]]
    print(f"\n{data}, {100 * goal:.0f} %, n={seeds}, dense {statistics.mean(dense):.2f}")
    _print_table("test accuracy of", list(ROWS), phases, lambda r, k: cell(accuracies(runs, r, k)))
    # Seed by seed: all methods start from the dense weights of their seed.
    others = [row for row in ROWS if row != SOUP]
    _print_table("SMS minus", others, phases, lambda r, k: cell(_gains(runs, r, k), "+.2f"))


def _print_table(
    title: str, rows: list[str], phases: list[float], text: Callable[[str, int], str]
) -> None:
    print(f"\n| {title} | " + " | ".join(f"{100 * s:.1f} %" for s in phases) + " |")
    print("|---|" + "---|" * len(phases))
    for row in rows:
        cells = [text(row, k) for k in range(len(phases))]
        print(f"| {row} | " + " | ".join(cells) + " |", flush=True)


def _gains(runs: Runs, row: str, phase: int) -> list[float]:
    soups, others = accuracies(runs, SOUP, phase), accuracies(runs, row, phase)
    return [soup - other for soup, other in zip(soups, others, strict=True)]


if __name__ == "__main__":
    main()
