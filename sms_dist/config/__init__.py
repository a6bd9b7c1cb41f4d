"""The configuration of an experiment: its sections, its files, and how two compare."""

from sms_dist.config.data import DataConfig
from sms_dist.config.engine import EngineConfig
from sms_dist.config.experiment import (
    CandidatesConfig,
    Config,
    MethodConfig,
    ModelConfig,
    PretrainConfig,
    PruningConfig,
    RecordsConfig,
    RetrainConfig,
    SoupConfig,
)

__all__ = [
    "CandidatesConfig",
    "Config",
    "DataConfig",
    "EngineConfig",
    "MethodConfig",
    "ModelConfig",
    "PretrainConfig",
    "PruningConfig",
    "RecordsConfig",
    "RetrainConfig",
    "SoupConfig",
]
