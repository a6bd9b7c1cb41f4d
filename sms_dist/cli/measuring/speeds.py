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
from sms_dist.experiment.start import PhaseState, common_start
from sms_dist.mesh.collectives import from_first, gather_json, sum_
from sms_dist.mesh.topology import Topology
from sms_dist.methods import recipe
from sms_dist.methods.phases import Candidate, Phase
from sms_dist.models.weights import bare_state
from sms_dist.pruning.mask import full_mask
from sms_dist.run.logbook import GroupWatcher
from sms_dist.run.progress import ProgressWriter
from sms_dist.run.recovery import RecoveryPoints
from sms_dist.run.schema import DenseMetrics, Epoch
from sms_dist.schedules.learning_rate import History
from sms_dist.training.batch_norm import recompute_
from sms_dist.training.checkpoints import Checkpointer
from sms_dist.training.context import Context
from sms_dist.training.evaluation import evaluate
from sms_dist.training.retrain import Start, retrain

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

    def __init__(self, context: Context, config: Config, folder: Path, seconds: float) -> None:
        """`config`: that which is measured, with a rank for a candidate; `seconds`: of each part,
        about."""
        self._context = replace(context, config=config, recipe=recipe(config))
        self._folder, self._seconds = folder, seconds
        self._model = self._context.new_model()

    def trained(self, share: int, steps: int) -> Trained:
        """Steps of batch_size / share samples, at most `steps` an epoch."""
        size = max(1, self._context.config.data.batch_size // share)
        loader = self._context.loaders.train
        steps = min(steps, loader.num_steps)
        # Like the real ones, which may be smaller than the batch.
        own = Excerpt(loader, size, max(1, loader.num_samples * steps // loader.num_steps // share))
        start_peak(self._context.mesh.device)
        once = self._epochs(own, size, 2)
        seconds = self._epochs(own, size, self._enough(once * own.num_steps) + 1)
        samples = own.num_samples / own.num_steps
        return Trained(samples, seconds, peak(self._context.mesh.device))

    def evaluated(self) -> float:
        """Seconds of a sample."""
        context = self._context
        loader = self._some(context.loaders.test)
        alone = context.mesh.data
        work = lambda: evaluate(context.task, self._model, loader, alone)  # noqa: E731
        return self._repeated(work) / loader.num_samples

    def batch_norm(self) -> float:
        """Seconds of a sample."""
        context = self._context
        loader = self._some(context.loaders.train)
        work = lambda: recompute_(self._model, loader, context.mesh.data, context.mesh.device)  # noqa: E731
        return self._repeated(work) / loader.num_samples

    @property
    def batch_norm_values(self) -> int:
        """Running means and variances."""
        layers = [m for m in self._model.modules() if isinstance(m, _BatchNorm)]
        return 2 * sum(layer.num_features for layer in layers if layer.track_running_stats)

    def link(self) -> Link | None:
        """Between two ranks, as all of them add up gradients; None if there is one."""
        mesh = self._context.mesh
        if mesh.world.size == 1:
            return None
        model = torch.zeros(sum(p.numel() for p in self._model.parameters()), device=mesh.device)
        small = self._repeated(lambda: sum_(model[:1], mesh.world))
        large = self._repeated(lambda: sum_(model, mesh.world))
        return measured_link(mesh.world.size, small, large, 4 * model.numel())

    def _epochs(self, loader: Loader, size: int, num: int) -> float:
        """Seconds of a step, without the first epoch, in a training of so many."""
        context = self._context
        data = context.config.data.model_copy(update={"batch_size": size})
        config = context.config.model_copy(update={"data": data})
        context = replace(context, config=config, loaders=replace(context.loaders, train=loader))
        start = _start(context)
        changes = {"epochs": num, "schedule": "clr", "swa_from": None}
        candidate = Candidate(0, 0, config.retrain.model_copy(update=changes))
        watcher = self._stopwatch(num, loader.num_steps)
        points = RecoveryPoints(self._folder / "points", context.mesh.world.rank, {})
        keeper = Checkpointer(
            points, context.mesh.data, context.mesh.control, config.records, context.mesh.device
        )
        wait(context.mesh)
        retrain(context, start, candidate, watcher, keeper)
        watcher.close()
        return (watcher.ends[-1] - watcher.ends[0]) / ((num - 1) * loader.num_steps)

    def _stopwatch(self, epochs: int, steps: int) -> Stopwatch:
        rank, has_boards = self._context.mesh.world.rank, self._context.config.records.tensorboard
        board = self._folder / "boards" / f"{rank}" if has_boards else None
        return Stopwatch(ProgressWriter(self._folder / "progress", rank), board, epochs, steps)

    def _some(self, loader: Loader) -> Excerpt:
        size = self._context.config.data.batch_size
        return Excerpt(loader, size, BATCHES * size)

    def _repeated(self, work: Callable[[], object]) -> float:
        """Mean seconds, after one time that does not count."""
        work()
        once = _timed(self._context.mesh, work, 1)
        return _timed(self._context.mesh, work, self._enough(once))

    def _enough(self, seconds: float) -> int:
        """Times of so many seconds each that are enough to tell; the same on all ranks."""
        mesh = self._context.mesh
        times = max(1, min(MOST_EPOCHS, round(self._seconds / max(seconds, 1e-6))))
        return from_first(lambda: times, mesh.world, mesh.device)


def wait(mesh: Topology) -> None:
    """Until all ranks are here: they work at the same time. Every rank must call."""
    gather_json(None, mesh.world, mesh.device)


def _timed(mesh: Topology, work: Callable[[], object], times: int) -> float:
    wait(mesh)
    _finish(mesh)
    start = time.perf_counter()
    for _ in range(times):
        work()
    _finish(mesh)
    return (time.perf_counter() - start) / times


def _finish(mesh: Topology) -> None:
    if mesh.device.type == "cuda":
        torch.cuda.synchronize()


def _start(context: Context) -> Start:
    """Of the first phase: a model that is pruned and not trained is as fast as any other."""
    state = {name: tensor.clone() for name, tensor in bare_state(context.new_model()).items()}
    history = History((0.01,), 1)  # any rate will do
    dense = DenseModel(state, history, DenseMetrics(metrics={}), kept=state)
    standing = PhaseState(state, full_mask(state, context.prunable))
    return common_start(context, _phase(context), standing, dense)


def _phase(context: Context) -> Phase:
    """With the method's sparse training rule, under a schedule that needs no pretraining."""
    phases = context.recipe.phases
    if not phases:
        raise ValueError(f"method.name={context.config.method.name} retrains nothing")
    return replace(phases[0], first_epoch=None)
