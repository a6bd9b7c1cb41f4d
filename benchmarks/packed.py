"""Candidates that train together in one process, against the same ones one after another.

python benchmarks/packed.py [--turns 3] [--json FILE]

`loop` is the engine's way where stacks do not pay: the code of the baseline, so its ratio shows the
noise. `auto` is whichever of the two its trial has chosen. What the trial takes, once in a run, is
told beside it and not counted. Takes about a minute on a quiet machine.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone, not installed

from benchmarks.rows import Row, Target, report
from benchmarks.turns import in_turn
from sms_dist import data, models
from sms_dist.base.randomness import stream
from sms_dist.config import DataConfig, EngineConfig, ModelConfig, PretrainConfig
from sms_dist.data.dataset import Split
from sms_dist.data.loader import Pixels
from sms_dist.data.resident import Resident
from sms_dist.engines import make_engine
from sms_dist.engines.base import Job
from sms_dist.engines.optimizers import optimizer_settings
from sms_dist.mesh.topology import Axis, Topology, by_itself
from sms_dist.pruning.mask import full_mask, prunable_names
from sms_dist.stacks.choice import Trial, trial_batch, try_stack
from sms_dist.stacks.engine import StackEngine
from sms_dist.stacks.loop import train_together
from sms_dist.tasks.classification import Classification
from sms_dist.training.loop import Training, TrainingLoss, train

SPARSITY, CLASSES = 0.9, 10
BASELINE = "one after another with ddp"
TARGET = Target(at_most=1.05)


@dataclass(frozen=True)
class Case:
    """So many candidates of a model, each with so many steps."""

    model: str
    shape: tuple[int, int, int]
    batch_size: int
    count: int
    steps: int

    def __str__(self) -> str:
        return f"m={self.count} {self.model}, batch {self.batch_size}"


CASES = (
    Case("digits_cnn", (1, 8, 8), 32, count=3, steps=40),
    Case("digits_cnn", (1, 8, 8), 32, count=8, steps=15),
    Case("digits_cnn", (1, 8, 8), 128, count=3, steps=20),
    Case("resnet20", (3, 32, 32), 32, count=3, steps=3),
    Case("resnet20", (3, 32, 32), 16, count=8, steps=2),
)


class Nobody:
    """Watches, keeps and follows nothing."""

    def last(self, is_sharded: bool) -> None:
        return None

    def _nothing(self, *arguments: object) -> None:
        pass

    step = epoch = after_step = finish = after_epoch = _nothing


class Candidates:
    """The candidates of a case, made anew for every training."""

    def __init__(self, case: Case, mesh: Topology, engine: EngineConfig) -> None:
        self._case, self._mesh, self._engine = case, mesh, engine
        self._alone = Axis(None, 0, 1)
        num = case.batch_size * case.steps
        pixels = torch.randint(0, 256, (num, *case.shape), dtype=torch.uint8)
        split = Split(pixels, torch.randint(0, CLASSES, (num,)))
        channels = case.shape[0]
        normal = Pixels((0.5,) * channels, (0.3,) * channels, mesh.device)
        self._loader = Resident(split, case.batch_size, normal, None, mesh.device)
        self._loss = TrainingLoss(Classification(data.info(DataConfig()), DataConfig()))

    def one_by_one(self) -> None:
        for place in range(self._case.count):
            train(self.training(make_engine(self.job(place)), place))

    def together(self) -> None:
        places = range(self._case.count)
        lengths = [self._case.steps] * self._case.count
        engine = StackEngine([self.job(place) for place in places], lengths)
        trainings = {place: self.training(engine.place(place), place) for place in places}
        assert sorted(train_together(engine, trainings)) == list(places)

    def trial(self) -> Trial:
        jobs = [self.job(place) for place in range(self._case.count)]
        batches = [trial_batch(self._loader, job, seed, 1) for seed, job in enumerate(jobs)]
        return try_stack(jobs, batches, self._loss)

    def job(self, place: int) -> Job:
        case, mesh = self._case, self._mesh
        config = ModelConfig(name=case.model)
        built = models.build(config, case.shape, CLASSES, seed=place, data_name="random images")
        model = built.to(mesh.device)
        full = full_mask(dict(model.named_parameters()), prunable_names(model))
        address = stream(0, "benchmark mask").generator()
        mask = {
            name: (torch.rand(kept.shape, generator=address) > SPARSITY).to(mesh.device)
            for name, kept in full.items()
        }
        axis, optimizer = self._alone, optimizer_settings(PretrainConfig())
        return Job(model, mask, axis, mesh, self._engine, optimizer, case.batch_size)

    def training(self, engine, place: int) -> Training:  # type: ignore[no-untyped-def, type-arg]
        nobody: Any = Nobody()
        return Training(
            engine=engine,
            loader=self._loader,
            rates=[0.01] * self._case.steps,
            loss=self._loss,
            seed=place,
            purpose="retrain",
            phase=1,
            axis=self._alone,
            device=self._mesh.device,
            watcher=nobody,
            checkpointer=nobody,
            follower=nobody,
        )


def measured(case: Case, mesh: Topology, engine: EngineConfig, turns: int) -> list[Row]:
    candidates = Candidates(case, mesh, engine)
    begin = time.perf_counter()
    trial = candidates.trial()
    seconds = time.perf_counter() - begin
    ways: dict[str, Callable[[], object]] = {
        BASELINE: candidates.one_by_one,
        "loop": candidates.one_by_one,
        "vmap": candidates.together,
    }
    found = in_turn(ways, turns)
    chosen = "vmap" if trial.is_worth_it else "loop"
    told = f"chose {chosen} in {seconds:.1f} s"
    rows = [_row(case, "auto", found.times(chosen, BASELINE), TARGET, told)]
    return rows + [_row(case, way, found.times(way, BASELINE)) for way in ("vmap", "loop")]


def _row(
    case: Case, way: str, values: list[float], target: Target | None = None, note: str = ""
) -> Row:
    return Row("packed", f"{case}: {way}", BASELINE, "x its time", values, target, note)


@click.command()
@click.option("--turns", default=3, show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--threads", default=1, show_default=True, help="Of the process, on a CPU.")
@click.option("--json", "file", type=Path, help="Keep the rows in this file.")
def main(turns: int, precision: str, threads: int, file: Path | None) -> None:
    engine = EngineConfig(name="packed", precision=precision, threads=threads)
    mesh = by_itself(engine.device, engine.threads)
    report([row for case in CASES for row in measured(case, mesh, engine, turns)], file)


if __name__ == "__main__":
    main()
