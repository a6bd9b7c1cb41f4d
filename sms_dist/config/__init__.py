"""The configuration of an experiment: its sections, its files, and how two compare."""

from sms_dist.config.experiment import (
    CandidatesConfig,
    Config,
    DataConfig,
    EngineConfig,
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
