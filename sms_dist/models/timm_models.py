"""Image classifiers of timm, without its weights: `model.name: timm:NAME`."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import nn

from sms_dist.base.lookup import nearest
from sms_dist.models.extras import library
from sms_dist.models.family import ModelFamily

PREFIX = "timm:"
# The data decides these, or they would fetch or read weights.
TAKEN = {
    *("in_chans", "num_classes", "img_size", "pretrained", "pretrained_cfg"),
    *("pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
}


def timm_family(name: str) -> ModelFamily:
    """ValueError where timm is not installed, or has no such model."""
    timm = library("timm", "timm", name)
    architecture = name.removeprefix(PREFIX)
    known = timm.list_models()
    if architecture not in known:
        raise ValueError(
            f"model.name={name} is not known to timm {timm.__version__}"
            f"{nearest(architecture, known)}; timm.list_models() lists all"
        )

    def build(input_shape: tuple[int, int, int], num_classes: int, **options: Any) -> nn.Module:
        for option in TAKEN.intersection(options):
            raise ValueError(
                f"model.options.{option} is not for timm models: the data decides on shapes, and "
                "model.weights names a file of weights"
            )
        return _created(timm, architecture, input_shape, num_classes, options)

    return ModelFamily(build, (None, None, None))


def _created(
    timm: ModuleType,
    architecture: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    options: dict[str, Any],
) -> nn.Module:
    channels, *size = input_shape
    known = timm.models.get_pretrained_cfg(architecture)
    if known is not None and known.fixed_input_size and tuple(size) != known.input_size[1:]:
        options = {**options, "img_size": tuple(size)}
    try:
        model: nn.Module = timm.create_model(
            architecture, pretrained=False, in_chans=channels, num_classes=num_classes, **options
        )
    except TypeError as error:
        raise ValueError(f"model.name={PREFIX}{architecture}: {error}") from error
    return model
