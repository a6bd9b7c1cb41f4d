"""What an optimizer remembers of each parameter, as named tensors and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sms_dist.engines.named_tensors import Tensors, check_fit, part

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
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"pretrain.optimizer: {type(optimizer).__name__} keeps {name.partition('.')[2]} as "
                f"a {type(value).__name__}, which is not stored; keep tensors, or set "
                "records.every_seconds=null"
            )
    return state


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
                else tensor.to("cpu" if key == "step" else parameter.device, copy=True)
                for key, tensor in own.items()
            }


def _like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """A copy beside the parameter; with its strides (channels_last), on which kernels depend."""
    return torch.empty_like(parameter, requires_grad=False).copy_(tensor)
