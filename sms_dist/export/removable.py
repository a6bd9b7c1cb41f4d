"""Which channels can be taken out: those that are dead in every value that has to keep in step.

Values are in one *space* when they must have the same channels: a batch norm's input and output,
the terms of a residual addition. A value that goes where channels are not understood keeps all.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from sms_dist.export.dead import dead_channels
from sms_dist.export.operations import kind, shape_of


def removable(graph: fx.Graph) -> dict[fx.Node, Tensor]:
    """For every value a bool per entry of dim 1; at least one channel of each space stays."""
    dead, spaces = dead_channels(graph), Spaces(graph)
    gone: dict[fx.Node, Tensor] = {}
    for space, members in spaces.members().items():
        entries = [dead[node].view(-1, spaces.block[node]).all(dim=1) for node in members]
        channels = torch.stack(entries).all(dim=0)
        if space in spaces.fixed:
            channels[:] = False
        elif channels.all():  # layers without channels do not work
            channels[0] = False
        gone |= {node: channels.repeat_interleave(spaces.block[node]) for node in members}
    return gone


class Spaces:
    """The space of every value, and how many entries of dim 1 one channel takes."""

    def __init__(self, graph: fx.Graph) -> None:
        self._space: dict[fx.Node, int] = {}
        self.block: dict[fx.Node, int] = {}
        self.fixed: set[int] = set()
        for index, node in enumerate(graph.nodes):
            self._enter(node, index)

    def members(self) -> dict[int, list[fx.Node]]:
        found: dict[int, list[fx.Node]] = {}
        for node, space in self._space.items():
            found.setdefault(space, []).append(node)
        return found

    def _enter(self, node: fx.Node, new: int) -> None:
        sources, how = [n for n in node.all_input_nodes if n in self._space], kind(node)
        if how == "add" and len({self.block[n] for n in sources}) > 1:
            how = "other"
        if len(shape_of(node)) > 1:
            self._space[node], self.block[node] = new, 1
        if how == "other":
            self.fixed.add(new)
            self.fixed |= {self._space[source] for source in sources}
        elif how != "layer":
            self.block[node] = self.block[sources[0]]
            if how == "flatten":
                self.block[node] *= shape_of(node)[1] // shape_of(sources[0])[1]
            for source in sources:
                self._join(self._space[source], self._space[node])

    def _join(self, old: int, new: int) -> None:
        self._space = {node: new if s == old else s for node, s in self._space.items()}
        if old in self.fixed:
            self.fixed.add(new)
