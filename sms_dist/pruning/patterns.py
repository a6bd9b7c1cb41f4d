"""tmp"""

from sms_dist.pruning.allocation import ALLOCATIONS
from sms_dist.pruning.mask import num_weights
from sms_dist.pruning.prune import prune
from sms_dist.schedules.sparsity import num_kept


def tighten(tensors, mask, sparsity, pruning):
    return prune(
        tensors, mask, num_kept(num_weights(mask), sparsity), ALLOCATIONS[pruning.allocation]
    )
