"""Soups of states, for training loops of one's own."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sms_dist.base.lookup import guarded
from sms_dist.base.plain import numbers, shown, whole_number
from sms_dist.mesh.collectives import alike, gather_json, together
from sms_dist.mesh.mesh import Mesh, topology_of
from sms_dist.mesh.topology import Topology, one_process
from sms_dist.pruning.mask import Mask
from sms_dist.soups.diversity import distances, excess
from sms_dist.soups.merge import Mixer, Soup
from sms_dist.soups.rules import Descent, Oracle, Rule, average
from sms_dist.soups.rules import rule as rule_of
from sms_dist.soups.states import INTEGERS, State, check_tensors, kind, unite_
from sms_dist.soups.vector import SurvivingVector

Masks: TypeAlias = Mapping[str, Tensor]
T = TypeVar("T")

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of normalisation


def soup(
    states: Mapping[int, State],
    mask: Masks | None,
    mesh: Mesh | None = None,
    *,
    rule: str | Callable[..., Sequence[float]] = "uniform",
    score: Callable[[State], float] | None = None,
) -> Soup:
    """Return the weighted sum of candidates, which is as sparse as each of them, its coefficients
    and the distances between the candidates. Every rank of the world must call once.

    Values are added up in float64 and in the order of the indices, so the bits depend neither on
    the number of groups nor on which of them holds which candidate. Each tensor has the type that
    it has in the states. Floating-point buffers are averaged too; recompute the statistics of
    normalisation afterwards (`recompute_norms`). Integers, such as counters, are those of the
    first candidate. The ranks of a group hold equal
    weights; their buffers, which may differ, are united as in `weights`.

    Args:
        states: the candidates that my group holds, by index, each held by one group; empty if it
            holds none. Leave out one that diverged.
        mask: True where weights survive, the same on all ranks; None if nothing is pruned
        mesh: None if there is one process only
        rule: uniform, best, greedy, `package.module:function`, or a function from the candidates'
            scores, and a function that returns the score of the soup of some coefficients, to
            coefficients
        score: the larger the better, for rules that compare. All ranks call it equally often, and
            it returns the same number on each.

    Raises:
        ValueError: on all ranks, where on any of them names, shapes, types or masks differ, a
            weight outside of the mask is not zero, a value is not finite, there is no candidate,
            the rule lacks its score, or scores or coefficients differ between ranks.
    """
    topology = _one_process(states) if mesh is None else topology_of(mesh)
    checked = together(
        lambda: _checked(states, mask, mesh, rule, score), topology.world, topology.device
    )
    pan = _Pan(states, mask, topology)
    coefficients = _Scores(pan, score).coefficients(checked)
    devices = [tensor.device for state in states.values() for tensor in state.values()]
    home = devices[0] if devices else topology.device
    state = {name: tensor.to(home) for name, tensor in pan.soup(coefficients).items()}
    return Soup(state, dict(zip(pan.owners, coefficients, strict=True)), pan.distances())


def loss_barrier(a: State, b: State, loss: Callable[[State], float], points: int = 5) -> float:
    """Return the largest excess of the loss on the segment between two states over the line between
    their own losses; at least 0.

    `loss` is called at `points` places at equal distances, both ends among them, with a weighted
    sum of the states each; it should recompute the statistics of normalisation. ValueError where
    the states differ in names, shapes or types, or where a loss is no number.
    """
    points = whole_number(points, "points", 3)
    for name, state in (("a", a), ("b", b)):
        _check_state(state, f"state {name}", {})
    states, measure = {0: a, 1: b}, _measure(loss, "loss")
    pan = _Pan(states, None, _one_process(states))

    def loss_at(place: float) -> float:
        value = measure(pan.soup([1 - place, place]))
        if math.isnan(value) or (place in (0, 1) and math.isinf(value)):
            raise ValueError(f"loss returned {value} at {place:g} of the way from a to b")
        return value

    first, last = loss_at(0.0), loss_at(1.0)
    places = [i / (points - 1) for i in range(1, points - 1)]
    return excess(first, last, {place: loss_at(place) for place in places})


@dataclass(frozen=True)
class _Kind:
    """The facts about a tensor on which all candidates agree."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    is_buffer: bool

    @property
    def is_weight(self) -> bool:
        """Return True for what is trained, and counts in distances."""
        return self.dtype not in INTEGERS and not self.is_buffer

    def empty(self) -> Tensor:
        return torch.empty(self.shape, dtype=self.dtype, device="meta")

    def __str__(self) -> str:
        return kind(self.empty())


def _kinds(state: State) -> dict[str, _Kind]:
    """Return the kind of each tensor. A buffer is a `torch.nn.Buffer`, as in what `weights`
    returns, or has a name that normalisation uses."""
    return {
        name: _Kind(
            tuple(tensor.shape),
            tensor.dtype,
            isinstance(tensor, nn.Buffer) or name.rpartition(".")[2] in STATISTICS,
        )
        for name, tensor in state.items()
    }


class _Pan:
    """The candidates of all ranks, ready to be mixed."""

    def __init__(self, states: Mapping[int, State], mask: Masks | None, mesh: Topology) -> None:
        """Agree with the other ranks on what there is, and exchange slices of it.

        `states` and `mask` were checked. Every rank must call.
        """
        self.mesh = mesh
        self.owners, self._kinds = _agreed(states, mask, mesh)
        like = {name: kind.empty() for name, kind in self._kinds.items()}
        kept = {name: some.to(mesh.device) for name, some in (mask or {}).items()}
        weights = [name for name, kind in self._kinds.items() if kind.is_weight]
        others = {name: tensor for name, tensor in like.items() if name not in weights}
        own = {i: self._prepared(states[i]) for i in sorted(states)}
        self._mixer = Mixer(mesh, SurvivingVector(like, weights, kept), own, self.owners, others)

    def soup(self, coefficients: Sequence[float]) -> State:
        """Return the weighted sum of the candidates, whole. Every rank must call."""
        mixed = self._mixer.mixed(coefficients)
        return {
            name: nn.Buffer(mixed[name]) if kind.is_buffer else mixed[name]
            for name, kind in self._kinds.items()
        }

    def distances(self) -> dict[str, float]:
        """Return the distances between the candidates' weights. Every rank must call."""
        return distances(self._mixer.gram())

    def _prepared(self, state: State) -> State:
        """Return a state on the mesh's device, with the same buffers on all ranks of a group: under
        DistributedDataParallel each has statistics of its own. Every rank of it must call."""
        own = {name: state[name].detach().to(self.mesh.device) for name in self._kinds}
        buffers = {name: own[name].clone() for name, kind in self._kinds.items() if kind.is_buffer}
        unite_([*buffers.values()], self.mesh.data)
        return own | buffers


class _Scores:
    """Scores soups for a rule, on all ranks, which must ask for the same ones in the same order."""

    def __init__(self, pan: _Pan, score: Callable[[State], float] | None) -> None:
        self._pan = pan
        self._score = None if score is None else _measure(score, "score")
        self._failure: ValueError | None = None  # one that all ranks know

    def coefficients(self, rule: Rule) -> list[float]:
        """Return the coefficients that the rule gives to the candidates. Every rank must call.

        A rule of one's own may end on one rank, or ask there for another soup than elsewhere. All
        ranks meet in the same exchange then, and raise its error.
        """
        num, failure = len(self._pan.owners), None
        coefficients: list[float] = []
        try:
            ends = [average([i], num) for i in range(num)]
            scores = [self.score(each) if rule.needs_validation else 0.0 for each in ends]
            # Learned rules alone ask for more than scores.
            coefficients = rule.choose(scores, cast(Oracle, self), Descent())
        except ValueError as error:
            failure = error
        if self._failure is not None:
            raise self._failure

        def result() -> list[float]:
            if failure is not None:
                raise failure
            return coefficients

        return self._alike(result, "the soup's coefficients")

    def score(self, coefficients: Sequence[float]) -> float:
        """Return the score of a soup. Every rank must call."""
        if self._failure is not None:
            raise self._failure
        try:
            self._alike(lambda: {"scored": self._checked(coefficients)}, "the soup to be scored")
            state = self._pan.soup(coefficients)
            return self._alike(lambda: self._measured(state), "the score of a soup")
        except ValueError as error:
            self._failure = error
            raise

    def _checked(self, coefficients: Sequence[float]) -> list[float]:
        given = numbers(coefficients)
        num = len(self._pan.owners)
        if given is None or len(given) != num or not all(map(math.isfinite, given)):
            raise ValueError(
                f"the rule asks for the score of {shown(coefficients)}; give a number for each of "
                f"{num} candidates"
            )
        return given

    def _measured(self, state: State) -> float:
        if self._score is None:
            raise ValueError("the rule scores soups; give score, a function of a state")
        if math.isnan(value := self._score(state)):
            raise ValueError("score returned nan; return a number, the larger the better")
        return value

    def _alike(self, function: Callable[[], T], what: str) -> T:
        return alike(function, what, self._pan.mesh.world, self._pan.mesh.device)


def _checked(
    states: Mapping[int, State],
    mask: Masks | None,
    mesh: Mesh | None,
    rule: str | Callable[..., Sequence[float]],
    score: Callable[[State], float] | None,
) -> Rule:
    """Return the rule; ValueError for what is wrong on this rank, whatever the others hold."""
    if mesh is None and dist.is_initialized() and dist.get_world_size() > 1:
        raise ValueError(f"there are {dist.get_world_size()} ranks; give soup its mesh")
    chosen = rule_of(rule)
    if chosen.is_learned:
        raise ValueError(
            f"soup.rule={rule} needs gradients of a loss, which runs of sms-dist have; give "
            "uniform, best, greedy or a function"
        )
    if chosen.needs_validation and score is None:
        raise ValueError(f"soup.rule={_name(rule)} compares candidates; give score")
    if not callable(score) and score is not None:
        raise ValueError(f"score={shown(score)} must be a function of a state")
    if not isinstance(states, Mapping) or not all(type(i) is int and i >= 0 for i in states):
        raise ValueError("states must map indices of candidates, 0 and up, to their states")
    mask = Mask({} if mask is None else mask)
    for i, state in states.items():
        _check_state(state, f"candidate {i}", mask)
    return chosen


def _check_state(state: State, who: str, mask: Masks) -> None:
    """Raise ValueError unless a state is one, is finite and is zero where the mask prunes."""
    check_tensors(state, who)
    kinds = _kinds(state)
    if not any(kind.is_weight for kind in kinds.values()):
        raise ValueError(f"{who} has no floating-point weights; give what sms_dist.weights returns")
    for name, tensor in state.items():
        if tensor.dtype not in INTEGERS and not tensor.isfinite().all():
            raise ValueError(f"{who}: {name} is not finite; leave out a candidate that diverged")
    for name, kept in mask.items():
        if name not in state or state[name].shape != kept.shape:
            own = kinds.get(name, "no such tensor")
            raise ValueError(f"{who}: the mask has {name} {list(kept.shape)}, the state has {own}")
        num = int(state[name].masked_select(~kept.to(state[name].device)).count_nonzero())
        if num:
            raise ValueError(
                f"{who}: {num} weights of {name} are not zero though the mask prunes them; train "
                "it under sms_dist.hold"
            )


def _agreed(
    states: Mapping[int, State], mask: Masks | None, mesh: Topology
) -> tuple[dict[int, int], dict[str, _Kind]]:
    """Return the group of each candidate, in index order, and the kinds of a state's tensors.

    ValueError on all ranks where they do not fit together. Every rank must call.
    """
    pruned = None if mask is None else Mask(mask).digest
    own = [[i, _digest(states[i]) if mesh.data.size > 1 else ""] for i in sorted(states)]
    everyone = gather_json([mesh.group, pruned, own], mesh.world, mesh.device)
    if any(masks != everyone[0][1] for _, masks, _ in everyone):
        raise ValueError("ranks do not agree on the mask; prune the same weights on all of them")
    held: dict[int, list[Any]] = {}
    for group, _, theirs in everyone:
        if held.setdefault(group, theirs) != theirs:
            one, other = ([i for i, _ in each] for each in (held[group], theirs))
            what = (
                f"weights of candidates {one}" if one == other else f"candidates, {one} and {other}"
            )
            raise ValueError(
                f"the ranks of group {group} hold different {what}; train each with "
                "DistributedDataParallel over mesh.data_group"
            )
    owners: dict[int, int] = {}
    for group, theirs in held.items():
        for i, _ in theirs:
            if owners.setdefault(i, group) != group:
                raise ValueError(
                    f"candidate {i} is held by groups {owners[i]} and {group}; mesh.mine says "
                    "which candidates a group trains"
                )
    if not owners:
        raise ValueError("there is no candidate: the states are empty on all ranks")
    owners = dict(sorted(owners.items()))
    return owners, _agreed_kinds(states, next(iter(owners)), mesh)


def _agreed_kinds(states: Mapping[int, State], first: int, mesh: Topology) -> dict[str, _Kind]:
    """Return the kinds of the first candidate's tensors; ValueError where another's differ."""
    is_source = first in states and mesh.data.is_first
    own = _kinds(states[first]) if is_source else {}
    listed = [[name, k.shape, str(k.dtype), k.is_buffer] for name, k in own.items()]
    (listed,) = (each for each in gather_json(listed, mesh.world, mesh.device) if each)
    kinds = {
        name: _Kind(tuple(shape), getattr(torch, dtype.removeprefix("torch.")), is_buffer)
        for name, shape, dtype, is_buffer in listed
    }

    def check() -> None:
        for i, state in states.items():
            mine = _kinds(state)
            for name in kinds | mine:
                one, other = kinds.get(name), mine.get(name)
                if one is None or other is None or str(one) != str(other):
                    raise ValueError(
                        f"candidates {first} and {i} differ: {name} is {one or 'missing'} and "
                        f"{other or 'missing'}; give states of the same model"
                    )

    together(check, mesh.world, mesh.device)
    return kinds


def _digest(state: State) -> str:
    """Return a hash of the weights; buffers of replicas may differ."""
    hasher = hashlib.blake2b(digest_size=16)
    for name, each in sorted(_kinds(state).items()):
        if not each.is_buffer:
            hasher.update(f"{name} {each}".encode())
            flat = state[name].detach().cpu().reshape(-1)
            hasher.update(flat.view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def _one_process(states: Mapping[int, State]) -> Topology:
    """Return the mesh of this process alone, on the device of the states."""
    each = states.values() if isinstance(states, Mapping) else ()
    tensors = [t for state in each if isinstance(state, Mapping) for t in state.values()]
    device = next((t.device for t in tensors if isinstance(t, Tensor)), torch.device("cpu"))
    return one_process(device if device.type == "cuda" else torch.device("cpu"))


def _measure(function: Callable[[State], float], field: str) -> Callable[[State], float]:
    """Return people's own function of a state, which raises ValueError if it is no number."""
    call = guarded(function, _name(function), field)

    def measure(state: State) -> float:
        given = numbers([result := call(state)])
        if given is None:
            raise ValueError(f"{field} returned {shown(result)}; return a number")
        return given[0]

    return measure


def _name(function: object) -> str:
    """Return how an error line calls a rule or a function."""
    return str(getattr(function, "__qualname__", function))
