"""One training under a sparse training rule, the shape that GSM, DNW, LC, DST and STR share."""

from __future__ import annotations

from sms_dist.config import Config
from sms_dist.config_section import Section
from sms_dist.methods.candidates import single
from sms_dist.methods.continued import ORIGINAL
from sms_dist.methods.cycles import after_training
from sms_dist.methods.method import goal_sparsity
from sms_dist.phases import Phase, Recipe, SparseTraining


class StartKeys(Section):
    from_scratch: bool = True
    """train from the initial weights for pretrain.epochs (false: from the dense model for
    retrain.epochs)"""


def exact(config: Config, training: SparseTraining, from_scratch: bool) -> Recipe:
    """Train to exactly the goal, from the initial weights or from the dense model."""
    goal = goal_sparsity(config)
    if from_scratch:
        return _from_scratch(config, goal, training)
    phase = Phase(1, goal, goal, single(config), "uniform", training=training)
    return after_training(config, (phase,))


def uncontrolled(config: Config, training: SparseTraining, means: str) -> Recipe:
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
