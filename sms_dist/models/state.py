"""The tensors of a bare model, each under one name."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


def bare_state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers as in state_dict(), detached, without the aliases of tied ones.

    `load_state_dict(state, strict=False)` restores all of them.
    """
    others = aliases(model)
    return {n: t.detach() for n, t in model.state_dict().items() if n not in others}


def aliases(model: nn.Module) -> dict[str, str]:
    """Of tensors with several names: each further name, and the first."""
    first: dict[int, str] = {}
    found = {}
    tensors = (model.named_parameters, model.named_buffers)
    for name, tensor in (pair for named in tensors for pair in named(remove_duplicate=False)):
        if first.setdefault(id(tensor), name) != name:
            found[name] = first[id(tensor)]
    return found


def assign_(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Make a bare state's tensors those of the model, which may be on the meta device.

    What was tied stays tied, which `load_state_dict(assign=True)` alone would undo. The names must
    be all of the model's.
    """
    others = aliases(model)
    report = model.load_state_dict(dict(state), strict=False, assign=True)
    assert not report.unexpected_keys, report
    assert set(report.missing_keys) <= set(others), report
    for alias, name in others.items():
        owner, leaf = _owner(model, alias)
        first, first_leaf = _owner(model, name)
        setattr(owner, leaf, getattr(first, first_leaf))


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    module, _, leaf = name.rpartition(".")
    return model.get_submodule(module), leaf
