"""DeepSpeed's configuration out of ours."""

from __future__ import annotations

from typing import Any

from sms_dist.engines.base import Job


def deepspeed_config(job: Job) -> dict[str, Any]:
    """DeepSpeed's configuration, derived from ours; `engine.deepspeed` is merged over it."""
    engine = job.engine
    pieces = job.axis.size * engine.accumulation
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": max(1, job.batch_size // pieces),
        "gradient_accumulation_steps": engine.accumulation,
        "gradient_clipping": job.optimizer.clip_norm or 0.0,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {"stage": engine.zero_stage},
        "steps_per_print": 2**31,
    }
    if engine.precision != "fp32":
        config[engine.precision] = {"enabled": True}
        config["data_types"] = {"buffer_dtype": engine.precision}
    return merged(config, engine.deepspeed)


def merged(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """`extra` over `base`, section by section."""
    result = dict(base)
    for key, value in extra.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result
