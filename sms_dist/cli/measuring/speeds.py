"""Seconds of steps, evaluation and batch norm, in the code that a run goes through."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from sms_dist.cli.forecast.links import Link, measured_link
from sms_dist.cli.measuring.memory import peak, start_peak
from sms_dist.config import Config
from sms_dist.data.loader import Excerpt, Loader
from sms_dist.experiment.dense import DenseModel
from sms_dist.experiment.start import Standing, common_start
from sms_dist.mesh.collectives import from_first, gather_json, sum_
from sms_dist.mesh.topology import Topology
from sms_dist.methods import recipe
from sms_dist.methods.phases import Candidate, Phase
from sms_dist.models.state import bare_state
from sms_dist.pruning.mask import full_mask
from sms_dist.run.logbook import GroupWatcher
from sms_dist.run.progress import ProgressWriter
from sms_dist.run.recovery import RecoveryPoints
from sms_dist.run.schema import DenseMetrics, Epoch
from sms_dist.schedules.retraining import History
from sms_dist.training.batch_norm import recompute_
from sms_dist.training.evaluation import evaluate
from sms_dist.training.recovery import Keeper
from sms_dist.training.retrain import Start, retrain
from sms_dist.training.workbench import Workbench

SMALL_SHARE = 4  # of a batch: a fourth of it tells what a step costs, however few its samples are
MOST_EPOCHS = 200
BATCHES = 16  # of a split that are measured at a time


class Stopwatch(GroupWatcher):
    """Looks at the clock after each epoch, when all of it has been done on the device too."""

    def __init__(self, progress: ProgressWriter, folder: Path | None, epochs: int, steps: int):
        super().__init__(progress, folder, epochs, steps)
        self.ends: list[float] = []

    def epoch(self, epoch: Epoch) -> None:
        super().epoch(epoch)
        self.ends.append(time.perf_counter())


@dataclass(frozen=True)
class Trained:
    """On a share of a batch."""

    samples: float  # of each step
    seconds: float  # of each step
    peak_bytes: int  # of the process


class Speeds:
    """Measures on all ranks at once, as they will work; every rank must call every method."""

    def __init__(self, bench: Workbench, config: Config, folder: Path, seconds: float) -> None:
        """`config`: that which is measured, with a rank for a candidate; `seconds`: of each part,
        about."""
        self._bench = replace(bench, config=config, recipe=recipe(config))
        self._folder, self._seconds = folder, seconds
        self._model = self._bench.new_model()

    def trained(self, share: int, steps: int) -> Trained:
        """Steps of batch_size / share samples, at most `steps` an epoch."""
        size = max(1, self._bench.config.data.batch_size // share)
        loader = self._bench.loaders.train
        steps = min(steps, loader.num_steps)
        # Like the real ones, which may be smaller than the batch.
        own = Excerpt(loader, size, max(1, loader.num_samples * steps // loader.num_steps // share))
        start_peak(self._bench.at.device)
        once = self._epochs(own, size, 2)
        seconds = self._epochs(own, size, self._enough(once * own.num_steps) + 1)
        samples = own.num_samples / own.num_steps
        return Trained(samples, seconds, peak(self._bench.at.device))

    def evaluated(self) -> float:
        """Seconds of a sample."""
        bench = self._bench
        loader = self._some(bench.loaders.test)
        alone = bench.at.data
        work = lambda: evaluate(bench.task, self._model, loader, alone)  # noqa: E731
        return self._repeated(work) / loader.num_samples

    def batch_norm(self) -> float:
        """Seconds of a sample."""
        bench = self._bench
        loader = self._some(bench.loaders.train)
        work = lambda: recompute_(self._model, loader, bench.at.data, bench.at.device)  # noqa: E731
        return self._repeated(work) / loader.num_samples

    @property
    def batch_norm_values(self) -> int:
        """Running means and variances."""
        layers = [m for m in self._model.modules() if isinstance(m, _BatchNorm)]
        return 2 * sum(layer.num_features for layer in layers if layer.track_running_stats)

    def link(self) -> Link | None:
        """Between two ranks, as all of them add up gradients; None if there is one."""
        at = self._bench.at
        if at.world.size == 1:
            return None
        model = torch.zeros(sum(p.numel() for p in self._model.parameters()), device=at.device)
        small = self._repeated(lambda: sum_(model[:1], at.world))
        large = self._repeated(lambda: sum_(model, at.world))
        return measured_link(at.world.size, small, large, 4 * model.numel())

    def _epochs(self, loader: Loader, size: int, num: int) -> float:
        """Seconds of a step, without the first epoch, in a training of so many."""
        bench = self._bench
        data = bench.config.data.model_copy(update={"batch_size": size})
        config = bench.config.model_copy(update={"data": data})
        bench = replace(bench, config=config, loaders=replace(bench.loaders, train=loader))
        start = _start(bench)
        changes = {"epochs": num, "schedule": "clr", "swa_from": None}
        candidate = Candidate(0, 0, config.retrain.model_copy(update=changes))
        watcher = self._stopwatch(num, loader.num_steps)
        points = RecoveryPoints(self._folder / "points", bench.at.world.rank, {})
        keeper = Keeper(points, bench.at.data, bench.at.control, config.records, bench.at.device)
        wait(bench.at)
        retrain(bench, start, candidate, watcher, keeper)
        watcher.close()
        return (watcher.ends[-1] - watcher.ends[0]) / ((num - 1) * loader.num_steps)

    def _stopwatch(self, epochs: int, steps: int) -> Stopwatch:
        rank, has_boards = self._bench.at.world.rank, self._bench.config.records.tensorboard
        board = self._folder / "boards" / f"{rank}" if has_boards else None
        return Stopwatch(ProgressWriter(self._folder / "progress", rank), board, epochs, steps)

    def _some(self, loader: Loader) -> Excerpt:
        size = self._bench.config.data.batch_size
        return Excerpt(loader, size, BATCHES * size)

    def _repeated(self, work: Callable[[], object]) -> float:
        """Mean seconds, after one time that does not count."""
        work()
        once = _timed(self._bench.at, work, 1)
        return _timed(self._bench.at, work, self._enough(once))

    def _enough(self, seconds: float) -> int:
        """Times of so many seconds each that are enough to tell; the same on all ranks."""
        at = self._bench.at
        times = max(1, min(MOST_EPOCHS, round(self._seconds / max(seconds, 1e-6))))
        return from_first(lambda: times, at.world, at.device)


def wait(at: Topology) -> None:
    """Until all ranks are here: they work at the same time. Every rank must call."""
    gather_json(None, at.world, at.device)


def _timed(at: Topology, work: Callable[[], object], times: int) -> float:
    wait(at)
    _finish(at)
    start = time.perf_counter()
    for _ in range(times):
        work()
    _finish(at)
    return (time.perf_counter() - start) / times


def _finish(at: Topology) -> None:
    if at.device.type == "cuda":
        torch.cuda.synchronize()


def _start(bench: Workbench) -> Start:
    """Of the first phase: a model that is pruned and not trained is as fast as any other."""
    state = {name: tensor.clone() for name, tensor in bare_state(bench.new_model()).items()}
    history = History((0.01,), 1)  # any rate will do
    dense = DenseModel(state, history, DenseMetrics(metrics={}), kept=state)
    standing = Standing(state, full_mask(state, bench.prunable))
    return common_start(bench, _phase(bench), standing, dense)


def _phase(bench: Workbench) -> Phase:
    """With the method's sparse training rule, under a schedule that needs no pretraining."""
    phases = bench.recipe.phases
    if not phases:
        raise ValueError(f"method.name={bench.config.method.name} retrains nothing")
    return replace(phases[0], first_epoch=None)
