"""A method is a function from the configuration to phases."""

from __future__ import annotations

from collections.abc import Callable

from sms_dist.config import Config, lookup
from sms_dist.methods.dense import dense
from sms_dist.methods.imp import imp
from sms_dist.methods.imp_m_times import imp_m_times
from sms_dist.methods.sms import sms
from sms_dist.phases import Phase

METHODS: dict[str, Callable[[Config], tuple[Phase, ...]]] = {
    "sms": sms,
    "imp": imp,
    "imp_m_times": imp_m_times,
    "dense": dense,
}


def phases(config: Config) -> tuple[Phase, ...]:
    """The phases of the configured method."""
    return lookup(METHODS, config.method.name, "method.name")(config)
