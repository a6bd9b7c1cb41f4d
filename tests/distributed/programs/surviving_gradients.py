"""Gradients in small buckets, in groups of 2 and of 3 ranks, exchanged in several ways.

The argument is a folder: <size>/<way>/<step>/rank_<r>/weights.safetensors are the gradients there.
What is compared with what stands in test_surviving_gradients.py.
"""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sms_dist.engines.surviving_gradients import SurvivingGradients
from sms_dist.mesh import topology
from sms_dist.mesh.topology import Axis, first_ranks
from sms_dist.pruning.hold import Pruned

WAYS = ("dense", "surviving", "apart")
NUM_STEPS = 3  # after the first one DDP makes its buckets anew


class Tangled(nn.Module):
    """Gradients arrive in another order than DDP expects at first."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(24, 10)
        self.middle = nn.Linear(16 * 16, 24)
        self.side = nn.Linear(3 * 8 * 8, 10)
        self.first = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.middle(self.first(images).flatten(1))) + self.side(images.flatten(1))


def mask_of(model: nn.Module) -> dict[str, Tensor]:
    """A tenth survives, of one layer nothing; biases are not pruned."""
    generator = torch.Generator().manual_seed(2)
    parameters = {name: p for name, p in model.named_parameters() if p.dim() > 1}
    mask = {n: torch.rand(p.shape, generator=generator) < 0.1 for n, p in parameters.items()}
    mask["side.weight"].zero_()
    return mask


def train(way: str, axis: Axis, folder: Path) -> None:
    torch.manual_seed(1)
    model = Tangled().to(memory_format=torch.channels_last)  # indexed otherwise than laid out
    mask = mask_of(model)
    wrapped = DistributedDataParallel(
        model, process_group=axis.group, bucket_cap_mb=0.005, gradient_as_bucket_view=True
    )
    if way == "surviving":
        surviving = SurvivingGradients(model, mask, axis)
        wrapped.register_comm_hook(None, lambda _, bucket: surviving.mean(bucket))
    pruned = Pruned({model.get_parameter(name): kept for name, kept in mask.items()})
    pruned.weights_()
    for step in range(NUM_STEPS):
        torch.manual_seed(100 * step + axis.rank)
        wrapped.zero_grad(set_to_none=True)
        with wrapped.no_sync() if way == "apart" else nullcontext():
            wrapped(torch.randn(4, 3, 8, 8)).square().sum().backward()
        pruned.gradients_()
        gradients = {n: p.grad.contiguous() for n, p in model.named_parameters()}
        place = folder / str(axis.size) / way / str(step) / f"rank_{axis.rank}"
        place.mkdir(parents=True)
        safetensors.torch.save_file(gradients, place / "weights.safetensors")


mesh = topology.start(ranks_per_candidate=3, device="cpu")
for axis in (first_ranks(mesh, 2), mesh.world):
    for way in WAYS if axis is not None else ():
        train(way, axis, Path(sys.argv[1]))
topology.stop(mesh)
sys.stdout.flush()
os._exit(0)  # as launcher/main.py: the interpreter's teardown may abort
