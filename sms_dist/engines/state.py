"""The state of a training as named tensors and back: optimizers, loss scalers, numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]

# What the optimizers of the table OPTIMIZERS remember of each parameter: "step" is a number, on the
# CPU; the others are like the parameter. Your own is asked after it has taken a step.
REMEMBERED: dict[type[torch.optim.Optimizer], tuple[str, ...]] = {
    torch.optim.SGD: ("momentum_buffer",),
    torch.optim.AdamW: ("step", "exp_avg", "exp_avg_sq"),
}
# The numbers of DeepSpeed's scalers that steps change. Scalers that do not scale have some of them,
# as None or not at all.
DEEPSPEED_NUMBERS = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


def joined(parts: Mapping[str, Tensors]) -> dict[str, Tensor]:
    """Return {"a.b": tensor} for {"a": {"b": tensor}}."""
    return {
        f"{prefix}.{name}": tensor
        for prefix, tensors in parts.items()
        for name, tensor in tensors.items()
    }


def part(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    """Return the tensors below the prefix, under the rest of their names."""
    start = f"{prefix}."
    return {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)}


def number(value: int | float) -> Tensor:
    """Return a tensor without dimensions whose `item()` is the same number of the same type."""
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else torch.int64)


def check_fit(given: Tensors, expected: Tensors) -> None:
    """Raise ValueError unless names, shapes and types are the same."""
    for name in expected.keys() - given.keys():
        raise ValueError(f"{name} is missing from the saved state")
    for name in given.keys() - expected.keys():
        raise ValueError(f"{name} of the saved state is nothing that this training has")
    for name, wanted in expected.items():
        one, other = _described(given[name]), _described(wanted)
        if one != other:
            raise ValueError(f"{name} is {one} in the saved state, but {other} in this training")


def copy_(target: Tensors, given: Tensors) -> None:
    """Copy the given tensors into those of the same names."""
    with torch.no_grad():
        for name, tensor in target.items():
            tensor.copy_(given[name])


def _described(tensor: Tensor) -> str:
    """Return type and shape as text: float32[3, 4]."""
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def optimizer_state(
    optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Return "<i>.<key>" for the i-th parameter; nothing for one that has not been stepped yet."""
    state = {
        f"{i}.{key}": value
        for i, parameter in enumerate(parameters)
        for key, value in optimizer.state.get(parameter, {}).items()
        if value is not None  # the momentum of SGD without momentum
    }
    if type(optimizer) not in REMEMBERED:
        state |= {
            f"group{j}.{key}": value if isinstance(value, Tensor) else number(value)
            for j, group in enumerate(optimizer.param_groups)
            for key, value in group.items()
            if key != "lr" and type(value) in (int, float, Tensor)
        }
    return state


def check_storable(optimizer: torch.optim.Optimizer, name: str) -> None:
    """Raise ValueError for an optimizer, tried on a weight of its own, that cannot be restored."""
    for state in optimizer.state.values():
        for key, value in state.items():
            if value is not None and not isinstance(value, Tensor):
                raise ValueError(
                    f"pretrain.optimizer={name} remembers {key} as a {type(value).__name__}, and "
                    "only tensors are stored in checkpoints; make it one"
                )


def check_restorable(
    given: Tensors, own: Tensors, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]
) -> None:
    """Raise ValueError unless an engine whose state is `own` can take over `given`.

    Each parameter has all that such an optimizer remembers of it, or nothing yet.
    """
    expected = {name: tensor for name, tensor in own.items() if not name.startswith("optimizer.")}
    stepped = {name.partition(".")[0] for name in part(given, "optimizer")}
    if type(optimizer) not in REMEMBERED:
        expected |= {name: tensor for name, tensor in given.items() if name[:10] == "optimizer."}
    for i, parameter in enumerate(parameters):
        for key in REMEMBERED.get(type(optimizer), ()) if str(i) in stepped else ():
            like = torch.zeros(()) if key == "step" else parameter
            expected[f"optimizer.{i}.{key}"] = like
    check_fit(given, expected)


def restore_optimizer_state_(
    given: Tensors, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]
) -> None:
    """Replace what the optimizer remembers by what was given."""
    for i, parameter in enumerate(parameters):
        own = part(given, str(i))
        optimizer.state.pop(parameter, None)
        if own:
            optimizer.state[parameter] = {
                key: _like(parameter, tensor)
                if tensor.shape == parameter.shape and key != "step"
                else tensor.to(_device_of(optimizer, parameter, key), copy=True)
                for key, tensor in own.items()
            }
    for j, group in enumerate(optimizer.param_groups):
        for key, tensor in part(given, f"group{j}").items():
            is_number = not isinstance(group.get(key), Tensor)
            group[key] = tensor.item() if is_number else tensor.to(group[key].device, copy=True)


def _like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """Return a copy beside the parameter, with its strides, on which kernels depend."""
    return torch.empty_like(parameter, dtype=tensor.dtype, requires_grad=False).copy_(tensor)


def _device_of(optimizer: torch.optim.Optimizer, parameter: Tensor, key: str) -> torch.device:
    """Return where torch keeps what has no weight's shape: the count of steps mostly on the CPU."""
    on_device = any(g.get("capturable") or g.get("fused") for g in optimizer.param_groups)
    return torch.device("cpu") if key == "step" and not on_device else parameter.device


def torch_scaler_state(scaler: torch.amp.GradScaler) -> dict[str, Tensor]:
    """Return the scale and its count of steps; nothing if the scaler is switched off."""
    state = scaler.state_dict()
    return {key.lstrip("_"): number(state[key]) for key in ("scale", "_growth_tracker") if state}


def restore_torch_scaler_(given: Tensors, scaler: torch.amp.GradScaler) -> None:
    """Set the scale and its count of steps to those given."""
    if given:
        scale, tracker = given["scale"].item(), given["growth_tracker"].item()
        scaler.load_state_dict(scaler.state_dict() | {"scale": scale, "_growth_tracker": tracker})


def deepspeed_scaler_state(scaler: Any) -> dict[str, Tensor]:
    """Return the numbers that DeepSpeed's scaler has as attributes; nothing if there is none."""
    values = {key: getattr(scaler, key, None) for key in DEEPSPEED_NUMBERS}
    # The scale begins as an integer and becomes a float when it is first halved.
    return {
        key: number(float(value) if key == "cur_scale" else value)
        for key, value in values.items()
        if value is not None
    }


def restore_deepspeed_scaler_(given: Tensors, scaler: Any) -> None:
    """Set the numbers of DeepSpeed's scaler to those given."""
    for key, value in given.items():
        setattr(scaler, key, value.item())
