"""Methods that are one training under a sparse training rule."""

from __future__ import annotations

from sms_dist.config import Config
from sms_dist.config.section import Section
from sms_dist.methods.phases import (
    ORIGINAL,
    Phase,
    Recipe,
    SparseTraining,
    after_training,
    goal_sparsity,
    single,
)


class StartKeys(Section):
    from_scratch: bool = True
    """train from the initial weights for pretrain.epochs (false: from the dense model for
    retrain.epochs)"""


def gsm(config: Config, *, from_scratch: bool) -> Recipe:
    """GSM: the weights that matter most get a gradient, others decay (Ding et al., 2019)."""
    return _exact(config, SparseTraining("gsm"), from_scratch)


def dnw(config: Config) -> Recipe:
    """DNW: the largest weights compute, the gradient reaches all (Wortsman et al., 2019)."""
    return _exact(config, SparseTraining("dnw"), from_scratch=True)


def lc(config: Config, *, from_scratch: bool, **numbers: float) -> Recipe:
    """LC: weights drawn ever harder to their pruned selves (Carreira-Perpinan et al., 2018)."""
    return _exact(config, SparseTraining("lc", numbers), from_scratch)


def dst(config: Config, *, alpha: float) -> Recipe:
    """DST: a threshold for each neuron, learned with the weights (Liu et al., 2020)."""
    training = SparseTraining("dst", {"alpha": alpha})
    return _uncontrolled(config, training, "method.alpha")


def str_(config: Config, *, initial: float) -> Recipe:
    """STR: weights shrunk by a learned threshold for each layer (Kusupati et al., 2020)."""
    training = SparseTraining("str", {"initial": initial})
    means = "pretrain.weight_decay and method.initial"
    return _uncontrolled(config, training, means)


def _exact(config: Config, training: SparseTraining, from_scratch: bool) -> Recipe:
    """Train to exactly the goal, from the initial weights or from the dense model."""
    goal = goal_sparsity(config)
    if from_scratch:
        return _from_scratch(config, goal, training)
    phase = Phase(1, goal, goal, single(config), "uniform", training=training)
    return after_training(config, (phase,))


def _uncontrolled(config: Config, training: SparseTraining, means: str) -> Recipe:
    """Train to whatever sparsity follows from `means`; ValueError where one is asked for."""
    if (goal := config.pruning.goal_sparsity) is not None:
        raise ValueError(
            f"pruning.goal_sparsity={goal}: method.name={config.method.name} cannot prune to an "
            f"exact sparsity, it follows from {means}; set pruning.goal_sparsity=null"
        )
    return _from_scratch(config, None, training)


def _from_scratch(config: Config, sparsity: float | None, training: SparseTraining) -> Recipe:
    epochs = config.pretrain.epochs
    if epochs == 0:
        raise ValueError(
            f"pretrain.epochs=0, but they are the training of method.name={config.method.name}; "
            "raise it"
        )
    phase = Phase(
        index=1,
        sparsity=sparsity,
        fraction=1.0 if sparsity is None else sparsity,
        candidates=single(config, epochs=epochs, schedule=ORIGINAL),
        rule="uniform",
        first_epoch=0,
        training=training,
    )
    return Recipe(config.pretrain, 0, (phase,))
