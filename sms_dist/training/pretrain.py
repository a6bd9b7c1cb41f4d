"""Training the dense model: all ranks as one data-parallel group."""

from __future__ import annotations

from dataclasses import dataclass

from sms_dist.distributed.collectives import broadcast_state_
from sms_dist.distributed.engines import make_engine
from sms_dist.distributed.engines.base import Job
from sms_dist.distributed.topology import first_ranks
from sms_dist.schedules.pretraining import pretraining_rates
from sms_dist.schedules.retraining import History
from sms_dist.training.loop import Epoch, Training, Watcher, train
from sms_dist.training.workbench import State, Workbench, full_precision


@dataclass(frozen=True)
class Dense:
    """Dense weights and how they were trained."""

    state: State
    history: History | None  # None: not known
    epochs: list[Epoch]


def pretrain(bench: Workbench, watcher: Watcher) -> Dense:
    """Train the model from its initial weights. Every rank must call, also those that look on."""
    config, at = bench.config, bench.at
    rates = pretraining_rates(config.pretrain, bench.loaders.train.num_steps)
    axis = first_ranks(at, bench.pretrain_ranks)
    model, epochs = bench.new_model(), []
    state = model.state_dict()
    if axis is not None and rates:
        engine = make_engine(
            Job(model, {}, axis, at, config.engine, config.pretrain, config.data.batch_size)
        )
        training = Training(
            loader=bench.loaders.train,
            rates=rates,
            seed=config.seed,
            purpose="pretrain",
            phase=0,
            label_smoothing=config.pretrain.label_smoothing,
            device=at.device,
        )
        epochs = train(engine, training, axis, watcher)
        state |= engine.weights()
        engine.close()
    state = full_precision(state)
    broadcast_state_(state, at.world)
    return Dense(state, History(tuple(rates), config.pretrain.epochs) if rates else None, epochs)
