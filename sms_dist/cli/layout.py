"""Where a forecast's ranks are: on hosts of a cluster, or all of them on one."""

from __future__ import annotations

from sms_dist.cli.forecast.links import Layout, Link
from sms_dist.cli.forecast.rates import HostRates, Rates
from sms_dist.cli.slurm.cluster import ClusterConfig

BITS = 1e9 / 8  # bytes per second of a Gbit/s
MICRO = 1e-6
NOT_MEASURED = Link(16 * BITS, 30 * MICRO)  # between two processes of a host


def layout(
    cluster: ClusterConfig | None, rates: Rates, num_ranks: int, ranks_per_candidate: int
) -> Layout:
    """More ranks than the cluster file asks for take more of its hosts."""
    if cluster is None:
        within = _measured(rates.at(num_ranks))
        return Layout(num_ranks, num_ranks, ranks_per_candidate, within, within)
    per_host = min(cluster.ranks_per_node, num_ranks)
    within = _measured(rates.at(per_host))
    if cluster.within_gbit is not None:
        within = Link(cluster.within_gbit * BITS, within.seconds)
    if cluster.within_microseconds is not None:
        within = Link(within.bytes_per_second, cluster.within_microseconds * MICRO)
    between = Link(cluster.network_gbit * BITS, cluster.network_microseconds * MICRO)
    return Layout(num_ranks, per_host, ranks_per_candidate, within, between, cluster.overlap)


def _measured(host: HostRates) -> Link:
    if host.link_bytes_per_second is None:
        return NOT_MEASURED
    return Link(host.link_bytes_per_second, host.link_seconds)
