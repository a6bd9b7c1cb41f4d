"""Masked training steps of a compiled model (engine.compile) against the same ones eagerly.

python benchmarks/compiled.py [--mode default] [--json FILE]          (60 to 90 s on a CPU)

Both are the training loop of a run, with all that watches and counts, on a batch in memory. The
first candidate of a process waits for code to be made; the second one, a new engine and a new
model, takes it over. `--mode` may be given several times: on a GPU also reduce-overhead.
The code is made from nothing, in a cache of its own. That one step makes the same weights of both,
but for rounding, and leaves what is pruned at zero, is checked first.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import masked
import torch
from masked import Setting, by_us, engine_of
from rows import Row, report
from turns import in_turn

from sms_dist.mesh import topology
from sms_dist.mesh.topology import Topology

EAGER = "the same engine, eager"


@dataclass(frozen=True)
class Case:
    model: str
    shape: tuple[int, int, int]
    batch: int
    steps: int  # that are timed together

    def __str__(self) -> str:
        return f"{self.model}, batch {self.batch}"


CASES = (
    Case("digits_cnn", (1, 8, 8), 64, steps=100),
    Case("resnet20", (3, 32, 32), 64, steps=3),
)


def measured(
    case: Case, modes: tuple[str, ...], precision: str, turns: int, mesh: Topology
) -> list[Row]:
    masked.SHAPE = case.shape
    setting = Setting(case.model, case.batch, 0.9, case.steps, mesh)
    ways: dict[str, Callable[[], object]] = {
        EAGER: by_us(setting, engine_of(setting, precision=precision)[1])
    }
    waits = {}
    for mode in modes:
        waits[mode] = [_first_step(setting, mode, precision) for _ in range(2)]
        _check(setting, mode, precision)
        ways[mode] = by_us(setting, engine_of(setting, precision=precision, compile=mode)[1])
    found = in_turn(ways, turns)
    rows = []
    for mode, (first, second) in waits.items():
        what = f"{case}, {mode}"
        eager = 1000 * sorted(found.seconds[EAGER])[turns // 2] / case.steps
        note = f"first step of the first candidate {first:.1f} s, of the second {second:.2f} s; "
        note += f"{eager:.3g} ms a step eagerly"
        rows.append(
            Row("compiled", what, EAGER, "x its time", found.times(mode, EAGER), None, note)
        )
    return rows


def _first_step(setting: Setting, mode: str, precision: str) -> float:
    """Seconds of a new candidate until its first step is done."""
    start = time.perf_counter()
    one = Setting(setting.model, setting.batch, setting.sparsity, 1, setting.mesh)
    by_us(one, engine_of(one, precision=precision, compile=mode)[1])()
    return time.perf_counter() - start


def _check(setting: Setting, mode: str, precision: str) -> None:
    """One step eagerly and one compiled are the same, but for rounding."""
    one = Setting(setting.model, setting.batch, setting.sparsity, 1, setting.mesh)
    models = []
    for compile_ in ("eager", mode):
        model, engine = engine_of(one, precision=precision, compile=compile_)
        by_us(one, engine)()
        models.append(model)
    tolerance = 1e-4 if precision == "fp32" else 3e-2
    for own, wanted in zip(models[1].parameters(), models[0].parameters(), strict=True):
        torch.testing.assert_close(own, wanted, rtol=tolerance, atol=tolerance)
    weights = dict(models[1].named_parameters())
    for name, kept in one.new()[1].items():
        assert not torch.count_nonzero(weights[name][~kept]), (
            f"{name} has pruned weights that moved"
        )


@click.command()
@click.option("--mode", "modes", multiple=True, default=("default",), show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--threads", default=1, show_default=True, help="Of the process, on a CPU.")
@click.option("--turns", default=5, show_default=True)
@click.option("--json", "file", type=Path, help="Keep the rows in this file.")
def main(
    modes: tuple[str, ...], precision: str, threads: int, turns: int, file: Path | None
) -> None:
    mesh = topology.start(threads=threads)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        report([r for case in CASES for r in measured(case, modes, precision, turns, mesh)], file)
    topology.stop(mesh)


if __name__ == "__main__":
    main()
