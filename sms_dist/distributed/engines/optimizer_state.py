"""What an optimizer remembers of each parameter, as named tensors and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sms_dist.distributed.engines.named_tensors import Tensors, check_fit, part

# Of those that `make_optimizer` makes: "step" is a number, on the CPU; the others are like the
# parameter.
REMEMBERED: dict[type[torch.optim.Optimizer], tuple[str, ...]] = {
    torch.optim.SGD: ("momentum_buffer",),
    torch.optim.AdamW: ("step", "exp_avg", "exp_avg_sq"),
}


def optimizer_state(
    optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]
) -> dict[str, Tensor]:
    """ "<i>.<key>" for the i-th parameter; nothing for one that has not been stepped yet."""
    return {
        f"{i}.{key}": value
        for i, parameter in enumerate(parameters)
        for key, value in optimizer.state.get(parameter, {}).items()
        if value is not None  # the momentum of SGD without momentum
    }


def check_restorable(
    given: Tensors, own: Tensors, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]
) -> None:
    """ValueError unless an engine whose state is `own` can take over `given`.

    Of each parameter the optimizer remembers all that such an optimizer does, or nothing yet.
    """
    expected = {name: tensor for name, tensor in own.items() if not name.startswith("optimizer.")}
    stepped = {name.partition(".")[0] for name in part(given, "optimizer")}
    for i, parameter in enumerate(parameters):
        for key in REMEMBERED[type(optimizer)] if str(i) in stepped else ():
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
                key: tensor.to("cpu", copy=True) if key == "step" else _like(parameter, tensor)
                for key, tensor in own.items()
            }


def _like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """A copy beside the parameter; with its strides (channels_last), on which kernels depend."""
    return torch.empty_like(parameter, requires_grad=False).copy_(tensor)
