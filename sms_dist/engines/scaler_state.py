"""Where a loss scaler of fp16 has got to, PyTorch's or DeepSpeed's, as named tensors and back."""

from __future__ import annotations

from typing import Any

import torch

from sms_dist.engines.named_tensors import Tensors, number

# Those that steps change. Scalers that do not scale have some of them, as None or not at all.
DEEPSPEED_NUMBERS = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


def torch_scaler_state(scaler: torch.amp.GradScaler) -> dict[str, torch.Tensor]:
    """Nothing where it is switched off."""
    state = scaler.state_dict()
    return {key.lstrip("_"): number(state[key]) for key in ("scale", "_growth_tracker") if state}


def restore_torch_scaler_(given: Tensors, scaler: torch.amp.GradScaler) -> None:
    if given:
        scale, tracker = given["scale"].item(), given["growth_tracker"].item()
        scaler.load_state_dict(scaler.state_dict() | {"scale": scale, "_growth_tracker": tracker})


def deepspeed_scaler_state(scaler: Any) -> dict[str, torch.Tensor]:
    """Nothing where there is none. `scaler` has the numbers as attributes."""
    values = {key: getattr(scaler, key, None) for key in DEEPSPEED_NUMBERS}
    # The scale begins as an integer and becomes a float when it is first halved.
    return {
        key: number(float(value) if key == "cur_scale" else value)
        for key, value in values.items()
        if value is not None
    }


def restore_deepspeed_scaler_(given: Tensors, scaler: Any) -> None:
    for key, value in given.items():
        setattr(scaler, key, value.item())
