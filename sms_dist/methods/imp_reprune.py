"""IMP-RePrune: m IMP runs side by side; their average is pruned again (Yin et al., 2022).

Every run keeps a mask of its own. Their average is less sparse than they are, so it is pruned to
the phase's sparsity once more. That average is measured in every phase, but the runs go on from
their own weights: only the last one is the method's result.
"""

from __future__ import annotations

from itertools import pairwise

from sms_dist.config import Config
from sms_dist.methods.candidates import several
from sms_dist.methods.cycles import after_training, all_but_first, cycles
from sms_dist.phases import Recipe


def imp_reprune(config: Config) -> Recipe:
    """ValueError where a phase has more runs than the one before: they could not go on."""
    counts = config.candidates.count_per_phase
    if any(later > earlier for earlier, later in pairwise(counts)):
        raise ValueError(
            f"candidates.count_per_phase={list(counts)}: the runs of method.name=imp_reprune go on "
            "from phase to phase, so their number must not rise"
        )
    phases = cycles(config, lambda k: several(config, k))
    return after_training(config, all_but_first(phases, begin="own"))
