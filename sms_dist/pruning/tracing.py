"""The calls that a model makes, as a graph."""

from __future__ import annotations

from torch import fx, nn
from torch.fx.proxy import TraceError


def traced(model: nn.Module, purpose: str) -> fx.GraphModule:
    """The model with its graph; ValueError for `purpose` where its calls depend on values."""
    try:
        return fx.symbolic_trace(model)
    except TraceError as error:
        raise ValueError(
            f"{purpose} follows the calls of the model, and {type(model).__name__} decides on them "
            f"by the values of tensors ({error})"
        ) from None


def module_of(node: fx.Node) -> nn.Module | None:
    """The module that a node calls; None where it calls something else, or others call it too."""
    if node.op != "call_module":
        return None
    calls = [other for other in node.graph.nodes if other.op == node.op]
    if sum(other.target == node.target for other in calls) > 1:
        return None
    owner = node.graph.owning_module
    assert owner is not None
    return owner.get_submodule(str(node.target))
