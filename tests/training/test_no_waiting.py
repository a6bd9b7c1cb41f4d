"""A training step asks the device for no number: the host would wait for all that came before."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sms_dist import data
from sms_dist.config import DataConfig, EngineConfig, PretrainConfig
from sms_dist.data.augment import crop_flip
from sms_dist.data.dataset import Split
from sms_dist.data.loader import Pixels
from sms_dist.data.resident import Resident
from sms_dist.engines import make_engine
from sms_dist.engines.base import Job
from sms_dist.engines.optimizers import optimizer_settings
from sms_dist.mesh.topology import Axis, Topology
from sms_dist.pruning.mask import prunable_names
from sms_dist.tasks.classification import Classification
from sms_dist.training.loop import Training, TrainingLoss, train

aten = torch.ops.aten
WAITING = {
    aten._local_scalar_dense.default,  # .item(), float(tensor), if tensor
    aten.nonzero.default,  # and indexing by flags
    aten.masked_select.default,
    aten.equal.default,
}
ALONE, CPU = Axis(None, 0, 1), torch.device("cpu")
HERE = Topology(ALONE, ALONE, ALONE, None, CPU)
CASES = {
    "sgd": ({}, {}),
    "clipped": ({"clip_norm": 0.1}, {}),
    "in pieces": ({}, {"accumulation": 2}),
    "bf16": ({}, {"precision": "bf16"}),
}


class NoWaiting(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in WAITING, f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


class Nobody:
    """Watches, keeps and follows nothing."""

    def last(self, is_sharded):
        return None

    def step(self, *arguments):
        pass

    epoch = after_step = after_update = finish = after_epoch = step


def model() -> nn.Module:
    torch.manual_seed(1)
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
    return nn.Sequential(*layers)


def trained(optimizer, engine) -> None:
    images = torch.randint(256, (32, 1, 8, 8), dtype=torch.uint8)
    split = Split(images, torch.randint(10, (32,)))
    net = model()
    mask = {n: torch.rand(net.get_parameter(n).shape) < 0.5 for n in prunable_names(net)}
    settings = optimizer_settings(PretrainConfig(**optimizer))
    job = Job(net, mask, ALONE, HERE, EngineConfig(**engine), settings, 16)
    training = Training(
        engine=make_engine(job),
        loader=Resident(split, 16, Pixels((0.5,), (0.3,), CPU), crop_flip, CPU),
        rates=(0.1, 0.1),
        seed=0,
        purpose="retrain",
        phase=1,
        loss=TrainingLoss(Classification(data.info(DataConfig()), DataConfig()), 0.1),
        axis=ALONE,
        device=CPU,
        watcher=Nobody(),
        checkpointer=Nobody(),
        follower=Nobody(),
    )
    with NoWaiting():
        epochs = train(training)
    assert len(epochs) == 1


@pytest.mark.parametrize("case", CASES)
def test_a_step_waits_for_no_number(case):
    trained(*CASES[case])


@pytest.mark.parametrize(
    "ask", [float, bool, torch.nonzero, lambda t: t[t > 0], lambda t: torch.equal(t, t)]
)
def test_the_guard_sees_who_waits(ask):
    one = torch.ones(())
    with NoWaiting(), pytest.raises(AssertionError, match="waits for the device"):
        ask(one)
