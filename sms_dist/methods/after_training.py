"""Methods that prune after training: prune and retrain, phase after phase."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise

from sms_dist.config import Config
from sms_dist.config.section import Natural, Section
from sms_dist.methods.phases import (
    ORIGINAL,
    Candidates,
    Recipe,
    after_training,
    check_fixed_epochs,
    cycles,
    several,
    single,
)

SWA_FROM, SWA_LEARNING_RATE = 0.75, 0.05


def sms(config: Config) -> Recipe:
    """Return Sparse Model Soups: m candidates a phase; their soup starts the next (Algorithm 1)."""
    return after_training(config, cycles(config, lambda k: several(config, k), config.soup.rule))


def imp(config: Config) -> Recipe:
    """Return Iterative Magnitude Pruning: a single candidate per phase (Han et al., 2015)."""
    return after_training(config, cycles(config, lambda k: single(config)))


def imp_m_times(config: Config) -> Recipe:
    """Return IMP_mx: a candidate that retrains m times as long in each phase (paper, section 3.1).

    It has as many epochs in each phase as the candidates of SMS have together.
    """

    def epochs(phase: int) -> int:
        return sum(candidate.retrain.epochs for candidate in several(config, phase))

    return after_training(config, cycles(config, lambda k: single(config, epochs=epochs(k))))


def imp_m_phases(config: Config) -> Recipe:
    """Return IMP with m times as many phases, each of which prunes less (paper, appendix C.2)."""
    num_phases = config.candidates.count * config.pruning.phases
    return after_training(config, cycles(config, lambda k: single(config), num_phases=num_phases))


def imp_reprune(config: Config) -> Recipe:
    """Return IMP-RePrune: m IMP runs, whose average is pruned again (Yin et al., 2022).

    Every run keeps a mask of its own. Their average is less sparse than they are, so it is pruned
    to the phase's sparsity once more. That average is measured in every phase, but the runs go on
    from their own weights: only the last one is the method's result.

    ValueError where a phase has more runs than the one before: they could not go on.
    """
    counts = config.candidates.count_per_phase
    if any(later > earlier for earlier, later in pairwise(counts)):
        raise ValueError(
            f"candidates.count_per_phase={list(counts)}: the runs of method.name=imp_reprune go on "
            "from phase to phase, so their number must not rise"
        )
    phases = cycles(config, lambda k: several(config, k))
    later = (replace(phase, begin="own") for phase in phases[1:])
    return after_training(config, (*phases[:1], *later))


def imp_swa(config: Config) -> Recipe:
    """Return IMP+SWA: in each phase the average of the weights after every epoch (appendix C.3).

    It begins with the first epoch, unless retrain.swa_from says otherwise.
    """
    swa_from = config.retrain.swa_from or 0.0
    return after_training(config, cycles(config, lambda k: single(config, swa_from=swa_from)))


class SwampKeys(Section):
    """The keys of SWAMP."""

    single_phases: Natural | None = None
    """phases at the beginning that train one particle only (null: none for swamp, half for
    swamp_plus)"""


def swamp(config: Config, *, single_phases: int | None) -> Recipe:
    """Return SWAMP: rewound particles, averaged along their way, then all (Choi et al., 2024).

    In every phase the survivors of the last average rewind to the matching point, the weights of
    pretraining at the epoch from which `retrain.epochs` are left. The particles replay the rest of
    pretraining with stochastic weight averaging. Dense pretraining is the first cycle: a single
    particle whose magnitudes give the first mask. The published setting is four particles, and 20 %
    of the remaining weights pruned in a cycle.
    """
    check_fixed_epochs(config)
    matching_point = _matching_point(config)
    candidates = partial(_particles, config, single_phases or 0)
    phases = cycles(config, candidates, config.soup.rule)
    rewound = [replace(p, begin="rewind", first_epoch=matching_point) for p in phases]
    lone = [replace(p, rule="uniform") if len(p.candidates) == 1 else p for p in rewound]
    return after_training(config, tuple(lone), kept_epoch=matching_point)


def swamp_plus(config: Config, *, single_phases: int | None) -> Recipe:
    """Return SWAMP with a single particle in the early cycles, where pruning is mild."""
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


def dense(config: Config) -> Recipe:
    """Return pretraining alone: nothing is pruned."""
    return after_training(config, ())
