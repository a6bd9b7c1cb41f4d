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
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parent.parent
METHODS = ("sms", "imp", "imp_m_times")
ROWS = {
    "SMS (m=3)": ("sms", "soup"),
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


def cell(summaries: list[dict[str, Any]], key: str, phase: int) -> str:
    found = [s["phases"][phase][key] for s in summaries]
    values = [100 * (v["test_accuracy"] if isinstance(v, dict) else v) for v in found]
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.2f} ± {spread:.2f}"


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
        summaries: dict[str, list[dict[str, Any]]] = {method: [] for method in METHODS}
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


def _print(data: str, goal: float, seeds: int, summaries: dict[str, list[dict[str, Any]]]) -> None:
    phases = [phase["sparsity"] for phase in summaries["sms"][0]["phases"]]
    dense = [100 * s["dense"]["test_accuracy"] for s in summaries["sms"]]
    print(f"\n{data}, {100 * goal:.0f} %, n={seeds}, dense {statistics.mean(dense):.2f}\n")
    print("| test accuracy of | " + " | ".join(f"{100 * s:.1f} %" for s in phases) + " |")
    print("|---|" + "---|" * len(phases))
    for title, (method, key) in ROWS.items():
        cells = [cell(summaries[method], key, k) for k in range(len(phases))]
        print(f"| {title} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
