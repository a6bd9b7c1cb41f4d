"""What is known of a soup beyond its accuracy: where its weights are, how its candidates differ."""

from __future__ import annotations

from typing import Any

from sms_dist.metrics.speedup import theoretical_speedup
from sms_dist.pruning.mask import Mask, digest, num_surviving, sparsity
from sms_dist.training.merge import Soup
from sms_dist.training.workbench import Workbench

Document = dict[str, Any]


def details(bench: Workbench, merged: Soup, mask: Mask) -> Document:
    """What every soup has; `mask` is its own."""
    num_parameters = sum(merged.state[name].numel() for name in bench.parameters)
    removed = sum(int((~kept).sum()) for kept in mask.values())
    return {
        "surviving_weights": num_surviving(mask),
        "global_sparsity": removed / num_parameters,  # over all parameters, not the prunable only
        "layer_sparsities": {name: sparsity({name: kept}) for name, kept in mask.items()},
        "theoretical_speedup": theoretical_speedup(bench.macs, mask),
        "coefficients": {str(i): value for i, value in merged.coefficients.items()},
        "distances": merged.distances,
        "mask_sha256": digest(mask),
    }
