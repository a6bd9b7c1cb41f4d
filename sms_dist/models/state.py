"""The tensors of a bare model, each under one name."""

from __future__ import annotations

from torch import Tensor, nn


def bare_state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers as in state_dict(), detached, without the aliases of tied ones."""
    first = {id(p): name for name, p in model.named_parameters()}
    aliases = {n for n, p in model.named_parameters(remove_duplicate=False) if first[id(p)] != n}
    return {n: t.detach() for n, t in model.state_dict().items() if n not in aliases}
