"""The context of an experiment: configuration, mesh, data, task and model, set up once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sms_dist import data, models
from sms_dist.base.lookup import guarded, is_own_name, own
from sms_dist.config import Config, ModelConfig
from sms_dist.data.dataset import DatasetInfo
from sms_dist.data.loader import Dataset, Loaders
from sms_dist.mesh.collectives import together
from sms_dist.mesh.topology import Topology
from sms_dist.methods import recipe
from sms_dist.methods.phases import Recipe
from sms_dist.methods.plan import check_pretrain_ranks, pretrain_ranks
from sms_dist.models.checkpointing import checkpoint_blocks_
from sms_dist.models.speedup import macs
from sms_dist.pruning.layers import Weight, weights
from sms_dist.pruning.mask import Mask
from sms_dist.soups.states import State as State
from sms_dist.soups.states import bare_state
from sms_dist.soups.vector import SurvivingVector
from sms_dist.tasks import SCORES, make_task
from sms_dist.tasks.base import Task
from sms_dist.training.trial import example, trial, used

FEWEST = {"segmentation": 2}  # samples of a rank, else 1


@dataclass(frozen=True)
class Context:
    config: Config
    recipe: Recipe
    mesh: Topology
    info: DatasetInfo
    loaders: Loaders
    task: Task
    parameters: tuple[str, ...]  # names, in the model's order
    unused: tuple[str, ...]  # those of them that the forward pass does not use
    buffers: Mapping[str, Tensor]  # persistent ones, on the meta device
    weights: tuple[Weight, ...]  # what may be a weight matrix, pruned or not
    macs: Mapping[str, int]  # of one input, by weight
    pretrain_ranks: int

    @property
    def prunable(self) -> tuple[str, ...]:
        """The names of the parameters that are pruned, in the order of layers."""
        return tuple(weight.name for weight in self.weights if weight.is_pruned)

    def effective(self, state: State) -> Mapping[str, Tensor]:
        """Return what layers compute with, by the names of the parameters behind it."""
        pruned = [weight for weight in self.weights if weight.is_pruned]
        if all(weight.is_plain for weight in pruned):
            return state
        model = self.load(state)
        return {weight.name: weight.effective(model).detach() for weight in pruned}

    def new_model(self) -> nn.Module:
        """The bare model with its initial weights, on the device; the same bits on all ranks."""
        return self._built(self.config.model)

    def _built(self, config: ModelConfig) -> nn.Module:
        info = self.info
        model = models.build(
            config,
            info.input_shape,
            info.num_classes,
            seed=self.config.seed,
            data_name=info.name,
            task=info.task,
        )
        if not model.training:  # as pretrained models are handed out; layers may stay so
            model.train()
        # Some engines would give these a gradient of zero, and move them by weight decay.
        for name in self.unused:
            model.get_parameter(name).requires_grad_(False)
        if self.config.engine.gradient_checkpointing:
            checkpoint_blocks_(model, config.name)
        if self.config.engine.channels_last:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model.to(self.mesh.device)

    def comparable(self, metrics: Mapping[str, Any]) -> float:
        """The metric by which candidates are compared, of validation samples: larger is better.

        0 where there are none; then nothing is compared.
        """
        wanted = self.config.soup.score
        if is_own_name(wanted):
            return _own_score(str(wanted), metrics)
        score = SCORES[wanted or self.task.score]
        value: float = metrics.get(f"validation_{score.name}", 0.0)
        return value if score.larger_is_better else -value

    def load(self, state: State) -> nn.Module:
        """The bare model with these tensors; buffers that the state lacks are new."""
        # what the file of initial weights says would be overwritten
        model = self._built(self.config.model.model_copy(update={"weights": None}))
        missing = model.load_state_dict(state, strict=False)
        assert not missing.unexpected_keys, missing
        return model

    def surviving_vector(self, mask: Mask) -> SurvivingVector:
        """Return what travels when candidates with this mask are merged: all their parameters but
        the pruned weights."""
        model = _on_meta(self.config, self.info)
        like = {name: parameter.detach() for name, parameter in model.named_parameters()}
        return SurvivingVector(like, list(like), mask)

    def on_device(self, state: State) -> State:
        return {name: tensor.to(self.mesh.device) for name, tensor in state.items()}


def set_up(config: Config, mesh: Topology) -> Context:
    """Read the data on every rank, where a mistake of one is a mistake of all. All must call."""
    if config.engine.precision == "fp16" and mesh.device.type == "cpu":
        raise ValueError("engine.precision=fp16 needs CUDA; on a CPU use bf16 or fp32")
    dataset = together(lambda: _loaded(config, mesh), mesh.world, mesh.device)
    model = together(lambda: _on_meta(config, dataset.info), mesh.world, mesh.device)
    parameters = tuple(name for name, _ in model.named_parameters())
    loaders = dataset.loaders(config.data.batch_size, mesh.device)
    together(lambda: _check_share(config, loaders, mesh.data.size), mesh.world, mesh.device)
    return Context(
        config=config,
        recipe=recipe(config),
        mesh=mesh,
        info=dataset.info,
        loaders=loaders,
        task=make_task(dataset.info, config.data),
        parameters=parameters,
        unused=together(lambda: trial(config, dataset.info).unused, mesh.world, mesh.device),
        buffers={n: t for n, t in bare_state(model).items() if n not in parameters},
        weights=together(
            lambda: tuple(model_weights(config, dataset.info, model)), mesh.world, mesh.device
        ),
        macs=macs(model, example(dataset.info)),
        pretrain_ranks=together(
            lambda: _pretrain_ranks(config, mesh, loaders), mesh.world, mesh.device
        ),
    )


def _loaded(config: Config, mesh: Topology) -> Dataset:
    """Return the data set, once all ranks have it: a slow host may take hours longer."""
    try:
        return data.load(config.data)
    finally:
        mesh.control.meet()


def _own_score(name: str, metrics: Mapping[str, Any]) -> float:
    """Return what a function of somebody's own makes of the metrics of validation samples."""
    prefix = "validation_"
    known = {k.removeprefix(prefix): v for k, v in metrics.items() if k.startswith(prefix)}
    score = guarded(own(name, "soup.score"), name, "soup.score")
    return float(score(known)) if known else 0.0


def full_precision(state: State) -> State:
    """Floating-point tensors as fp32, the type of everything that is stored."""
    return {name: t.to(torch.float32) if t.is_floating_point() else t for name, t in state.items()}


def _on_meta(config: Config, info: DatasetInfo) -> nn.Module:
    return models.build_on_meta(
        config.model, info.input_shape, info.num_classes, data_name=info.name, task=info.task
    )


def model_weights(config: Config, info: DatasetInfo, model: nn.Module) -> list[Weight]:
    """Return what may be a weight matrix of the model, pruned or not; ValueError where unclear."""
    pruning, json = config.pruning, config.model.model_dump_json()
    # Ours compute with their weights as they are; to look imports torch's compiler.
    refilled = used(json, info).refilled if ":" in config.model.name else ()
    return weights(
        model,
        pruning.keep_dense,
        embeddings=pruning.embeddings,
        multiplied=lambda: used(json, info).multiplied,
        refilled=refilled,
    )


def _pretrain_ranks(config: Config, mesh: Topology, loaders: Loaders) -> int:
    """As configured; else all ranks, as far as a batch feeds each with a few samples."""
    wanted = config.pretrain.ranks
    if wanted is None:
        accumulation = config.engine.accumulation
        return pretrain_ranks(mesh.world.size, _smallest_step(loaders), accumulation)
    check_pretrain_ranks(wanted, mesh.world.size)
    _check_share(config, loaders, wanted)
    return wanted


def _check_share(config: Config, loaders: Loaders, num_ranks: int) -> None:
    """Every rank must get a sample for every micro-batch of every step, of street scenes two: the
    batch norm of what is pooled to a single pixel has nothing to go by with one."""
    smallest, task = _smallest_step(loaders), data.described(config.data).task
    if smallest < num_ranks * config.engine.accumulation * FEWEST.get(task, 1):
        raise ValueError(
            f"data.batch_size={config.data.batch_size} makes steps of {smallest} samples, too few "
            f"for {num_ranks} ranks x engine.accumulation={config.engine.accumulation}; raise it, "
            "or lower engine.ranks_per_candidate or pretrain.ranks"
        )


def _smallest_step(loaders: Loaders) -> int:
    return loaders.train.num_samples // loaders.train.num_steps
