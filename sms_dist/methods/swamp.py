"""SWAMP: rewound particles, each averaged along its way, then over all (Choi et al., 2024).

In every phase the survivors of the last average rewind to the matching point, the weights of
pretraining at the epoch from which `retrain.epochs` are left. The particles replay the rest of
pretraining with stochastic weight averaging. Dense pretraining is the first cycle: a single
particle whose magnitudes give the first mask. The published setting is four particles, and 20 %
of the remaining weights pruned in a cycle.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from sms_dist.config import Config
from sms_dist.config_section import Natural, Section
from sms_dist.methods.candidates import Candidates, several, single
from sms_dist.methods.continued import ORIGINAL, check_fixed_epochs
from sms_dist.methods.cycles import after_training, cycles
from sms_dist.phases import Recipe

SWA_FROM, SWA_LEARNING_RATE = 0.75, 0.05


class SwampKeys(Section):
    single_phases: Natural | None = None
    """phases at the beginning that train one particle only (null: none for swamp, half for
    swamp_plus)"""


def swamp(config: Config, *, single_phases: int | None) -> Recipe:
    check_fixed_epochs(config)
    matching_point = _matching_point(config)
    candidates = partial(_particles, config, single_phases or 0)
    phases = cycles(config, candidates, config.soup.rule)
    rewound = [replace(p, begin="rewind", first_epoch=matching_point) for p in phases]
    lone = [replace(p, rule="uniform") if len(p.candidates) == 1 else p for p in rewound]
    return after_training(config, tuple(lone), kept_epoch=matching_point)


def swamp_plus(config: Config, *, single_phases: int | None) -> Recipe:
    """SWAMP with a single particle in the early cycles, where pruning is mild."""
    half = config.pruning.phases // 2
    return swamp(config, single_phases=half if single_phases is None else single_phases)


def _particles(config: Config, single_phases: int, phase: int) -> Candidates:
    retrain = config.retrain
    averaging = {
        "schedule": ORIGINAL,
        "swa_from": SWA_FROM if retrain.swa_from is None else retrain.swa_from,
        "swa_learning_rate": retrain.swa_learning_rate or SWA_LEARNING_RATE,
    }
    if phase <= single_phases:
        return single(config, **averaging)
    return several(config, phase, **averaging)


def _matching_point(config: Config) -> int:
    pretrain, retrain = config.pretrain.epochs, config.retrain.epochs
    if retrain > pretrain:
        raise ValueError(
            f"retrain.epochs={retrain} is more than pretrain.epochs={pretrain}: "
            f"method.name={config.method.name} replays the last of them; lower it"
        )
    return pretrain - retrain
