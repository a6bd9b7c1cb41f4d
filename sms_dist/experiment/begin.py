"""The sparsity at which a run begins to prune: that of the weights it is given, 0 of dense ones."""

from __future__ import annotations

from pathlib import Path

from sms_dist import models
from sms_dist.base import weights_file
from sms_dist.config import Config
from sms_dist.data.dataset import DatasetInfo
from sms_dist.experiment.sizes import layers
from sms_dist.models import weights
from sms_dist.models.sparse_start import MOST_ZEROS, finished, start_sparsity, zeros
from sms_dist.pruning.mask import Mask
from sms_dist.run import store
from sms_dist.run.paths import MASK, METRICS
from sms_dist.run.schema import DenseMetrics


def begin(
    config: Config, info: DatasetInfo, stored: Path | None = None
) -> tuple[float, tuple[str, ...]]:
    """Return the sparsity at which a run begins to prune, and what to know of the weights it is
    given.

    `stored` is the run's own folder of dense weights, which count where they are there. ValueError
    for files that do not fit the model, or of which it is unclear what is pruned.
    """
    source, wanted = config.pretrain.from_, config.model
    if source is None and wanted.weights is None:
        return 0.0, ()
    pruned = [weight for weight in layers(config, info) if weight.is_pruned]
    if stored is not None and store.is_complete(stored):
        mask = stored_mask(stored)
        return (0.0 if mask is None else start_sparsity(mask, pruned, config.pruning)), ()
    model = models.build_on_meta(
        wanted, info.input_shape, info.num_classes, data_name=info.name, task=info.task
    )
    if source is None:
        assert wanted.weights is not None
        read = weights.read(wanted.weights, model, except_=wanted.weights_except, name=wanted.name)
        share = zeros([read.state[w.name] for w in pruned if w.name in read.state])
        note = f"model.weights={wanted.weights}: {share:.2%} of its prunable weights are zero, and "
        note += "are trained; pretrain.from keeps them zero"
        return 0.0, (*read.notes, *([note] if share > MOST_ZEROS else []))
    given = finished(config, model, pruned)
    if given.mask is None:
        return 0.0, given.notes
    start = start_sparsity(given.mask, pruned, config.pruning)
    return start, (*given.notes, f"pretrain.from={source} begins {given.text}")


def stored_mask(folder: Path) -> Mask | None:
    """Return the mask that stored weights began with; None if they were dense."""
    if store.load_record(folder, METRICS, DenseMetrics).sparsity is None:
        return None
    return Mask(store.load_tensors(folder, MASK))


def planned_begin(config: Config, info: DatasetInfo) -> tuple[float, tuple[str, ...]]:
    """Return what `begin` returns, and 0 with a note where files are not there yet."""
    for key, path in (
        (weights.FINISHED, config.pretrain.from_),
        (weights.SOURCE, config.model.weights),
    ):
        if path is not None and not weights_file.is_there(path):
            return 0.0, (f"{key}={path} is not there yet: planned for dense weights",)
    return begin(config, info)
