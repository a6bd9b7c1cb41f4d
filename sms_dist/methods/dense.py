"""Dense: nothing is pruned; pretraining is all there is."""

from __future__ import annotations

from sms_dist.config import Config
from sms_dist.phases import Phase


def dense(config: Config) -> tuple[Phase, ...]:
    return ()
