"""What an optimizer remembers of each parameter, as named tensors and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sms_dist.engines.named_tensors import Tensors, check_fit, number, part

# Of those in OPTIMIZERS: "step" is a number, on the CPU; the others are like the parameter. What
# somebody's own remembers is not known before it has taken a step.
REMEMBERED: dict[type[torch.optim.Optimizer], tuple[str, ...]] = {
    torch.optim.SGD: ("momentum_buffer",),
    torch.optim.AdamW: ("step", "exp_avg", "exp_avg_sq"),
}


def optimizer_state(
    optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]
) -> dict[str, Tensor]:
    """ "<i>.<key>" for the i-th parameter; nothing for one that has not been stepped yet."""
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
    """ValueError unless an engine whose state is `own` can take over `given`.

    Of each parameter the optimizer remembers all that such an optimizer does, or nothing yet.
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
    """Remember what was given, and nothing else."""
    for i, parameter in enumerate(parameters):
        own = part(given, str(i))
        optimizer.state.pop(parameter, None)
        if own:
            optimizer.state[parameter] = {
                key: _like(parameter, tensor)
                if tensor.shape == parameter.shape and key != "step"
                else tensor.to(_place(optimizer, parameter, key), copy=True)
                for key, tensor in own.items()
            }
    for j, group in enumerate(optimizer.param_groups):
        for key, tensor in part(given, f"group{j}").items():
            is_number = not isinstance(group.get(key), Tensor)
            group[key] = tensor.item() if is_number else tensor.to(group[key].device, copy=True)


def _like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """A copy beside the parameter; with its strides (channels_last), on which kernels depend."""
    return torch.empty_like(parameter, dtype=tensor.dtype, requires_grad=False).copy_(tensor)


def _place(optimizer: torch.optim.Optimizer, parameter: Tensor, key: str) -> torch.device:
    """Return where torch keeps what is no weight's shape: the count of steps mostly on the CPU."""
    on_device = any(g.get("capturable") or g.get("fused") for g in optimizer.param_groups)
    return torch.device("cpu") if key == "step" and not on_device else parameter.device
