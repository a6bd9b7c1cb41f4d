"""A pruned model with a batch in memory, and its training: as written by hand, and by an engine."""

from __future__ import annotations

import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone, not installed

from sms_dist import data, models
from sms_dist.base.randomness import Stream
from sms_dist.config import (
    DataConfig,
    EngineConfig,
    ModelConfig,
    PretrainConfig,
    RecordsConfig,
    RetrainConfig,
)
from sms_dist.data.loader import Batch, Loader, Step
from sms_dist.engines import make_engine
from sms_dist.engines.base import Engine, Job
from sms_dist.engines.optimizers import optimizer_settings
from sms_dist.mesh.topology import Topology
from sms_dist.pruning.mask import Mask, prunable_names
from sms_dist.run.checkpoint_files import RankCheckpoints
from sms_dist.run.logbook import GroupWatcher
from sms_dist.run.progress import ProgressWriter
from sms_dist.tasks.classification import Classification
from sms_dist.training.checkpoints import Checkpointer
from sms_dist.training.loop import Training, TrainingLoss, train
from sms_dist.training.retrain import WeightAverage

SHAPE, NUM_CLASSES, RATE = (3, 32, 32), 10, 0.05
SGD = optimizer_settings(PretrainConfig(momentum=0.9, weight_decay=5e-4))  # Nesterov


@dataclass(frozen=True)
class Setting:
    """What is trained, by the ranks of one group."""

    model: str
    batch: int  # of all ranks together
    sparsity: float
    steps: int  # of one call of what `by_hand` and `by_us` give
    mesh: Topology
    options: dict[str, Any] = field(default_factory=dict)

    def new(self) -> tuple[nn.Module, Mask]:
        """The same bits at every call; which weights survive is drawn."""
        config = ModelConfig(name=self.model, options=self.options)
        model = models.build(config, SHAPE, NUM_CLASSES, seed=1, data_name="cifar10")
        parameters, drawn = dict(model.named_parameters()), torch.Generator().manual_seed(2)
        shapes = {name: parameters[name].shape for name in prunable_names(model)}
        mask = {n: torch.rand(s, generator=drawn) >= self.sparsity for n, s in shapes.items()}
        device = self.mesh.device
        return model.to(device), {name: kept.to(device) for name, kept in mask.items()}

    def share(self) -> tuple[Tensor, Tensor]:
        """My part of the batch."""
        axis, drawn = self.mesh.data, torch.Generator().manual_seed(3)
        images = torch.randn(self.batch, *SHAPE, generator=drawn)
        targets = torch.randint(NUM_CLASSES, (self.batch,), generator=drawn)
        both = (t.tensor_split(axis.size)[axis.rank] for t in (images, targets))
        images, targets = (tensor.to(self.mesh.device) for tensor in both)
        return images, targets


class InMemory(Loader):
    """Every step has the same batch."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting.batch * setting.steps, setting.batch)
        images, targets = setting.share()
        self._batch = Batch((images,), targets, setting.batch, setting.batch)

    def _order(self, order: Stream) -> Tensor:
        return torch.arange(self.num_samples)

    def _batches(self, steps: Iterable[Step], augmentation: Stream | None) -> Iterator[Batch]:
        return (self._batch for _ in steps)


def by_hand(setting: Setting) -> tuple[nn.Module, Callable[[], None]]:
    """What one writes without us; DDP with the same settings as ours."""
    model, mask = setting.new()
    parameters = dict(model.named_parameters())
    kept = [(parameters[name], kept.float()) for name, kept in mask.items()]
    wrapped, (images, targets) = model, setting.share()
    for parameter, ones in kept:
        parameter.data.mul_(ones)
    if setting.mesh.data.size > 1:
        warnings.simplefilter("ignore", FutureWarning)  # not every torch has the newer name
        wrapped = DistributedDataParallel(
            model, broadcast_buffers=False, gradient_as_bucket_view=True
        )
    optimizer = torch.optim.SGD(
        model.parameters(), lr=RATE, momentum=0.9, weight_decay=5e-4, nesterov=True
    )

    def run() -> None:
        for _ in range(setting.steps):
            optimizer.zero_grad()
            F.cross_entropy(wrapped(images), targets).backward()
            for parameter, ones in kept:
                parameter.grad.mul_(ones)
            optimizer.step()
        finish(setting)

    return model, run


def engine_of(setting: Setting, **engine: Any) -> tuple[nn.Module, Engine]:
    model, mask = setting.new()
    mesh, config = setting.mesh, EngineConfig(**engine)
    return model, make_engine(Job(model, mask, mesh.data, mesh, config, SGD, setting.batch))


def by_us(setting: Setting, engine: Engine) -> Callable[[], None]:
    """An epoch in the training loop, with everything that is there in a run."""
    mesh, steps, config = setting.mesh, setting.steps, DataConfig(name="digits")

    def run() -> None:
        folder = Path(tempfile.mkdtemp())  # a new one: else it would go on from its end
        points = RankCheckpoints(folder / "points", mesh.data.rank, {})
        progress = ProgressWriter(folder, 0) if mesh.is_leader else None
        training = Training(
            engine=engine,
            loader=InMemory(setting),
            rates=(RATE,) * steps,
            loss=TrainingLoss(Classification(data.info(config), config)),
            seed=0,
            purpose="retrain",
            phase=1,
            axis=mesh.data,
            device=mesh.device,
            watcher=GroupWatcher(progress, None, 1, steps),
            checkpointer=Checkpointer(
                points, mesh.data, mesh.control, RecordsConfig(), mesh.device
            ),
            follower=WeightAverage(RetrainConfig(), engine.weights),
        )
        train(training)
        finish(setting)
        shutil.rmtree(folder)

    return run


def finish(setting: Setting) -> None:
    """Wait for the device."""
    if setting.mesh.device.type == "cuda":
        torch.cuda.synchronize()
