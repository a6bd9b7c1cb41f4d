"""SGD and AdamW on rows: a step for several candidates at once, each at its own rate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from sms_dist.config import PretrainConfig

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # of AdamW, as PyTorch has them


class RowOptimizer(ABC):
    """The mathematics of `make_optimizer`, with a row [P] of weights for each candidate."""

    def __init__(self, configs: Sequence[PretrainConfig], like: Tensor) -> None:
        """`configs`: of each row; they differ in what retraining can replace, the weight decay."""
        self._like = like
        self.memory: dict[str, Tensor] = {}  # [R, P] each: what is remembered of the steps before
        self._columns = {"decay": self._column([config.weight_decay for config in configs])}

    @abstractmethod
    def step_(
        self, weights: Tensor, gradients: Tensor, rates: Sequence[float], num_steps: Sequence[int]
    ) -> None:
        """One step of every row, in place; `num_steps` are those it has taken before."""

    def narrow(self, rows: Tensor) -> None:
        """Keep these rows."""
        self.memory = {name: tensor[rows] for name, tensor in self.memory.items()}
        self._columns = {name: tensor[rows] for name, tensor in self._columns.items()}

    def _column(self, values: Sequence[float]) -> Tensor:
        """[R, 1]"""
        return torch.tensor(values, dtype=self._like.dtype, device=self._like.device)[:, None]


class RowSgd(RowOptimizer):
    """With Nesterov momentum where there is weight decay."""

    def __init__(self, configs: Sequence[PretrainConfig], like: Tensor) -> None:
        super().__init__(configs, like)
        self._momentum = configs[0].momentum
        if self._momentum:
            self.memory["momentum"] = torch.zeros_like(like)
            # the step is gradient + momentum * buffer (Nesterov), or the buffer
            nesterov = [config.weight_decay > 0 for config in configs]
            self._columns["of_gradient"] = self._column([float(one) for one in nesterov])
            ahead = [self._momentum if one else 1.0 for one in nesterov]
            self._columns["of_buffer"] = self._column(ahead)

    def step_(
        self, weights: Tensor, gradients: Tensor, rates: Sequence[float], num_steps: Sequence[int]
    ) -> None:
        columns = self._columns
        step = gradients.addcmul_(weights, columns["decay"])
        if self._momentum:
            buffer = self.memory["momentum"].mul_(self._momentum).add_(step)
            step.mul_(columns["of_gradient"]).addcmul_(buffer, columns["of_buffer"])
        weights.addcmul_(step, self._column([-rate for rate in rates]))


class RowAdamW(RowOptimizer):
    def __init__(self, configs: Sequence[PretrainConfig], like: Tensor) -> None:
        super().__init__(configs, like)
        self.memory = {name: torch.zeros_like(like) for name in ("mean", "mean_square")}

    def step_(
        self, weights: Tensor, gradients: Tensor, rates: Sequence[float], num_steps: Sequence[int]
    ) -> None:
        sizes = [rate / (1 - BETA_1 ** (n + 1)) for rate, n in zip(rates, num_steps, strict=True)]
        roots = self._column([(1 - BETA_2 ** (n + 1)) ** 0.5 for n in num_steps])
        weights.mul_(1 - self._column(rates) * self._columns["decay"])
        mean = self.memory["mean"].lerp_(gradients, 1 - BETA_1)
        squares = self.memory["mean_square"].mul_(BETA_2)
        squares.addcmul_(gradients, gradients, value=1 - BETA_2)
        step = mean / squares.sqrt().div_(roots).add_(EPSILON)
        weights.addcmul_(step, self._column([-size for size in sizes]))


OPTIMIZERS: dict[str, type[RowOptimizer]] = {"sgd": RowSgd, "adamw": RowAdamW}
