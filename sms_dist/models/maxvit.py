"""MaxViT (Tu et al., 2022) by torchvision: convolutions, and attention in windows and grids."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from sms_dist.base.vision import torchvision


def maxvit_t(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    layers: Sequence[int] = (2, 2, 5, 2),
    width: int = 64,
    head_dim: int = 32,
    window: int = 7,
    stochastic_depth: float = 0.2,
) -> nn.Module:
    """30,919,624 parameters for 1,000 classes: the defaults are MaxViT-T.

    The model is made for the images' size. There is a stage for each entry of `layers`; they halve
    the image, starting from a quarter, and double the `width`. `window` has to divide each
    stage's height and width: 7 for 224x224, and 4 for 32x32 with two stages.
    """
    if not layers or min(layers) < 1:
        raise ValueError(f"model.options.layers={list(layers)} needs a number above 0 a stage")
    if head_dim < 1 or width < 1 or width % head_dim:
        raise ValueError(
            f"model.options.width={width} must be a multiple of model.options.head_dim={head_dim}"
        )
    if not 0 <= stochastic_depth < 1:
        raise ValueError(f"model.options.stochastic_depth={stochastic_depth} must lie in [0, 1)")
    _check_window(input_shape, len(layers), window)
    model: nn.Module = torchvision().models.MaxVit(
        input_size=input_shape[1:],
        stem_channels=width,
        block_channels=[width * 2**stage for stage in range(len(layers))],
        block_layers=list(layers),
        head_dim=head_dim,
        partition_size=window,
        stochastic_depth_prob=stochastic_depth,
        num_classes=num_classes,
    )
    return model


def _check_window(input_shape: tuple[int, int, int], num_stages: int, window: int) -> None:
    for stage in range(num_stages):
        sizes = [-(-size // 2 ** (stage + 2)) for size in input_shape[1:]]
        if window < 1 or any(size % window for size in sizes):
            raise ValueError(
                f"model.options.window={window} does not divide the {sizes[0]}x{sizes[1]} positions"
                f" of stage {stage + 1}; with {num_stages} stages it takes images whose height and"
                f" width are multiples of {max(window, 1) * 2 ** (num_stages + 1)} (data.size)"
            )
