"""What all training of an experiment shares: configuration, mesh, data, the model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import data
from data.dataset import DatasetInfo
from data.order import steps_per_epoch
from sms_dist import models
from sms_dist.config import Config
from sms_dist.distributed.collectives import together
from sms_dist.distributed.topology import Topology
from sms_dist.plan import Sizes
from sms_dist.pruning.mask import prunable_names

State = dict[str, Tensor]  # of the bare model: parameters and buffers


@dataclass(frozen=True)
class Workbench:
    config: Config
    at: Topology
    info: DatasetInfo
    loaders: data.Loaders
    parameters: tuple[str, ...]  # names, in the model's order
    prunable: tuple[str, ...]

    def new_model(self) -> nn.Module:
        """The bare model with its initial weights, on the device; the same bits on all ranks."""
        model = models.build(
            self.config.model,
            self.info.input_shape,
            self.info.num_classes,
            seed=self.config.seed,
            data_name=self.info.name,
        )
        return model.to(self.at.device)

    def load(self, state: State) -> nn.Module:
        """The bare model with these tensors; buffers that the state lacks are new."""
        model = self.new_model()
        missing = model.load_state_dict(state, strict=False)
        assert not missing.unexpected_keys, missing
        return model

    def on_device(self, state: State) -> State:
        return {name: tensor.to(self.at.device) for name, tensor in state.items()}


def set_up(config: Config, at: Topology) -> Workbench:
    """Read the data on every rank, where a mistake of one is a mistake of all. All must call."""
    dataset = together(lambda: data.load(config.data), at.world, at.device)
    model = together(lambda: _on_meta(config, dataset.info), at.world, at.device)
    bench = Workbench(
        config=config,
        at=at,
        info=dataset.info,
        loaders=data.loaders(dataset, config.data.batch_size, at.device),
        parameters=tuple(name for name, _ in model.named_parameters()),
        prunable=tuple(prunable_names(model)),
    )
    together(lambda: _check_shares(bench), at.world, at.device)
    return bench


def model_sizes(config: Config, info: DatasetInfo) -> Sizes:
    """What the model and the data contribute to a plan, without memory for weights or images."""
    model = _on_meta(config, info)
    names = set(prunable_names(model))
    counts = {name: p.numel() for name, p in model.named_parameters()}
    num_prunable = sum(n for name, n in counts.items() if name in names)
    num_train, _ = data.split_sizes(info, config.data)
    steps = steps_per_epoch(num_train, config.data.batch_size)
    return Sizes(num_prunable, sum(counts.values()) - num_prunable, steps)


def full_precision(state: State) -> State:
    """Floating-point tensors as fp32, the type of everything that is stored."""
    return {name: t.to(torch.float32) if t.is_floating_point() else t for name, t in state.items()}


def _on_meta(config: Config, info: DatasetInfo) -> nn.Module:
    return models.build_on_meta(
        config.model, info.input_shape, info.num_classes, data_name=info.name
    )


def _check_shares(bench: Workbench) -> None:
    """Every rank must get a sample for every micro-batch of every step."""
    config, loader = bench.config, bench.loaders.train
    smallest = loader.num_samples // loader.num_steps
    ranks = max(config.engine.ranks_per_candidate, config.pretrain.ranks or bench.at.world.size)
    if smallest < ranks * config.engine.accumulation:
        raise ValueError(
            f"data.batch_size={config.data.batch_size}: its steps of {smallest} samples are too "
            f"small for {ranks} ranks x engine.accumulation={config.engine.accumulation}; "
            "raise it, or set pretrain.ranks to fewer ranks"
        )
