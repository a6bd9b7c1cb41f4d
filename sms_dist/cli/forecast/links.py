"""How long collectives take between ranks of one host and of several."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    bytes_per_second: float
    seconds: float  # until a message is there


@dataclass(frozen=True)
class Layout:
    """Ranks on hosts: consecutive ones share a host as far as it goes, as launchers place them."""

    num_ranks: int
    ranks_per_host: int
    ranks_per_candidate: int
    within: Link  # between two ranks of a host
    between: Link  # of a host to all others together
    overlap: float = 0.0  # share of a step's computing in which its gradients can travel

    @property
    def num_groups(self) -> int:
        return self.num_ranks // self.ranks_per_candidate

    @property
    def num_hosts(self) -> int:
        return -(-self.num_ranks // self.ranks_per_host)

    def at_work(self, num_ranks: int) -> int:
        """Processes that work on the fullest host, while the first ranks do."""
        return min(num_ranks, self.ranks_per_host)

    def in_row(self, num_ranks: int) -> Link:
        """Of a ring through so many consecutive ranks, for each of them.

        A host's ring crosses its network once. Where groups do not fit hosts evenly some rings
        share it; a host has two such groups at most.
        """
        if num_ranks <= self.ranks_per_host and self._fits(num_ranks):
            return self.within
        sharing = 1 if num_ranks == self.num_ranks or num_ranks % self.ranks_per_host == 0 else 2
        return Link(self.between.bytes_per_second / sharing, self.between.seconds)

    def in_column(self) -> Link:
        """Between groups, for each rank: all ranks of a host use its network at once."""
        if self.num_hosts == 1:
            return self.within
        ranks = min(self.ranks_per_host, self.num_ranks)
        return Link(self.between.bytes_per_second / ranks, self.between.seconds)

    def _fits(self, num_ranks: int) -> bool:
        return self.num_hosts == 1 or self.ranks_per_host % num_ranks == 0


def all_reduce_seconds(num_bytes: float, num_ranks: int, link: Link) -> float:
    """Of a ring: each rank sends twice all but its own part, in as many messages."""
    if num_ranks == 1:
        return 0.0
    rounds = 2 * (num_ranks - 1)
    return rounds * (num_bytes / num_ranks / link.bytes_per_second + link.seconds)


def all_reduce_bytes(num_bytes: int, num_ranks: int) -> int:
    """Sent by all ranks together."""
    return 2 * (num_ranks - 1) * num_bytes


def measured_link(num_ranks: int, small: float, large: float, num_bytes: int) -> Link:
    """Out of the seconds that an all-reduce of next to nothing takes, and one of so many bytes."""
    rounds = 2 * (num_ranks - 1)
    moving = max(large - small, 1e-3 * large)
    return Link(rounds * num_bytes / num_ranks / moving, small / rounds)
