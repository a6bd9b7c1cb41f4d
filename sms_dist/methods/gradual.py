"""Gradual pruning while training: the shape that GMP and DPF share.

`pretrain.epochs` is the whole training. It is cut into pruning.phases + 1 equal intervals; at each
cut the sparsity follows the cubic schedule, and training goes on with the original learning rates.
Momentum starts anew after a cut, as in every phase.
"""

from __future__ import annotations

from collections.abc import Callable

from sms_dist.config import Config
from sms_dist.config_section import Natural, Section
from sms_dist.methods.candidates import Candidates, several, single
from sms_dist.methods.continued import ORIGINAL, check_fixed_epochs
from sms_dist.methods.method import goal_sparsity
from sms_dist.phases import Phase, Recipe, SparseTraining
from sms_dist.schedules.sparsity import cubic, fraction_pruned


class CopiesKeys(Section):
    copies_from: Natural | None = None
    """the first epoch, counted from 0, at whose pruning step copies are made (null: from the middle
    of pretrain.epochs on)"""


def gradual(config: Config, training: SparseTraining) -> Recipe:
    """One candidate between pruning steps."""
    return _recipe(config, training, lambda k, start, epochs: _one(config, epochs))


def gradual_sms(config: Config, training: SparseTraining, copies_from: int | None) -> Recipe:
    """The m copies of a soup between pruning steps, from epoch `copies_from` on."""
    check_fixed_epochs(config)
    first = round(config.pretrain.epochs / 2) if copies_from is None else copies_from

    def candidates(phase: int, start: int, epochs: int) -> Candidates:
        if start < first:
            return _one(config, epochs)
        return several(config, phase, epochs=epochs, schedule=ORIGINAL)

    if (last := _cuts(config)[-2]) < first:
        raise ValueError(
            f"method.copies_from={first} is after the last pruning step, at epoch {last}; lower it"
        )
    return _recipe(config, training, candidates)


def _one(config: Config, epochs: int) -> Candidates:
    return single(config, epochs=epochs, schedule=ORIGINAL)


def _recipe(
    config: Config, training: SparseTraining, candidates: Callable[[int, int, int], Candidates]
) -> Recipe:
    cuts = _cuts(config)
    sparsities = [0.0, *cubic(goal_sparsity(config), config.pruning.phases)]
    phases = []
    for k in range(1, len(sparsities)):
        copies = candidates(k, cuts[k], cuts[k + 1] - cuts[k])
        phase = Phase(
            index=k,
            sparsity=sparsities[k],
            fraction=fraction_pruned(sparsities[k - 1], sparsities[k]),
            candidates=copies,
            rule=config.soup.rule if len(copies) > 1 else "uniform",
            first_epoch=cuts[k],
            training=training,
        )
        phases.append(phase)
    return Recipe(config.pretrain, cuts[1], tuple(phases))


def _cuts(config: Config) -> list[int]:
    """Where the intervals begin and end, in epochs from 0."""
    epochs, num = config.pretrain.epochs, config.pruning.phases + 1
    if epochs < num:
        raise ValueError(
            f"pretrain.epochs={epochs} is the whole training of method.name={config.method.name}, "
            f"too short for pruning.phases={config.pruning.phases}; make it at least {num}"
        )
    return [round(epochs * k / num) for k in range(num + 1)]
