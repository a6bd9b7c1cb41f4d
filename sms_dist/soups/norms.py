"""The norm statistics and spectral vectors of a model, learned anew for the weights of a soup.

The statistics of norm layers come from a pass over the training set, the vectors of spectral
normalisation from the weights alone. The statistics are those of torch's `update_bn`: the mean over
all calls of a layer of each call's mean and unbiased variance. Dropout is off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from itertools import chain
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.overrides import TorchFunctionMode

from sms_dist.base.lookup import guarded
from sms_dist.base.randomness import stream
from sms_dist.mesh.collectives import any_, gather, sum_over_parts, together
from sms_dist.mesh.division import parts_of
from sms_dist.mesh.mesh import Mesh, topology_of
from sms_dist.mesh.topology import Axis
from sms_dist.pruning.wrappers import checked, is_deepspeed

STILL = 1e-12  # relative change of the largest singular value at which an iteration ends
MAX_ITERATIONS = 10_000
DROPOUTS = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout}


class InParts(Protocol):
    """A training set that is divided into batches in the same way whoever reads them."""

    def parts(self, indices: range) -> Mapping[int, Iterator[Any]]: ...


def recompute_norms(model: nn.Module, batches: Iterable[Any], mesh: Mesh | None = None) -> None:
    """Recompute the statistics of a model's norm layers, and its spectral norms' vectors, in place.

    Every rank of the mesh calls, with equal weights and its share of the batches, which may be
    empty; without a mesh, this process is alone. The statistics are those of one process with all
    batches: each call of a layer counts once. A layer that `model.train()` leaves in evaluation is
    frozen, and one that is never called keeps its statistics. Modes stay as they are.

    Args:
        batches: Tensors, mappings of keyword arguments, or tuples that begin with the inputs: one
            of these, or a tuple of several arguments.

    Raises ValueError on all ranks for a DeepSpeed engine, if no rank has a batch, if the model or
    the batches of any rank raise an error, and if statistics are not finite. The model is then as
    it was.
    """
    inner = checked(model, "recompute_norms")
    if is_deepspeed(model):
        raise ValueError(
            "recompute_norms takes no DeepSpeed engine; load_ its weights into a model"
        )
    axis = Axis(None, 0, 1) if mesh is None else topology_of(mesh).world
    device = next(chain(inner.parameters(), inner.buffers()), torch.empty(0)).device
    modes = {module: module.training for module in inner.modules()}
    before = [(buffer, buffer.clone()) for buffer in inner.buffers()]
    calls = _Calls(inner, device, guarded(_call, type(inner).__name__, "model"))
    try:
        converge_(inner.eval())
        if calls.layers:
            with calls.counted():
                (own,) = calls.begin([_guarded(batches)], axis)
                sums = gather(together(lambda: calls.sums(own), axis, device), axis)
                total = torch.zeros_like(sums[0])
                for each in sums:  # in the order of the ranks
                    total += each
                if not total[-1] or not total.isfinite().all():
                    problem = "the statistics are not finite; look for NaN in batches and weights"
                    problem = problem if total[-1] else "no rank has a batch; give it some"
                    raise ValueError(f"recompute_norms: {problem}")
                calls.finish_(total)
    except BaseException:
        for buffer, value in before:
            buffer.copy_(value)
        raise
    finally:
        for module, mode in modes.items():
            module.training = mode


def recompute_(model: nn.Module, data: InParts, axis: Axis, device: torch.device) -> None:
    """Do the same over a whole training set, with bits that do not depend on the number of ranks.

    Samples are not augmented. The model is left in evaluation. Every rank of the axis must call,
    with equal weights.
    """
    calls = _Calls(model, device)
    converge_(model.eval())
    if calls.layers:
        with calls.counted():
            mine = parts_of(axis.rank, axis.size)
            parts = dict(zip(mine, calls.begin(data.parts(mine).values(), axis), strict=True))
            total = sum_over_parts(lambda i: calls.sums(parts[i]), calls.num_values, axis, device)
            calls.finish_(total)
    model.eval()


class _Calls:
    """The norm layers of a model, and the sums of their statistics over all their calls."""

    def __init__(
        self,
        model: nn.Module,
        device: torch.device,
        run: Callable[[nn.Module, Any, torch.device], None] | None = None,
    ) -> None:
        if not model.training:
            model.train()
        self._model, self._device, self._run = model, device, run or _call
        # What train() leaves in evaluation is frozen: so it was while the model was trained.
        self._trained = [module for module in model.modules() if module.training]
        self.layers = [
            layer
            for layer in self._trained
            if isinstance(layer, _NormBase) and layer.track_running_stats
        ]
        self._before = [_copies(layer) for layer in self.layers]
        self._sizes = [tensor.numel() for layer in self.layers for tensor in _statistics(layer)]
        # behind the statistics: the calls of each layer, and the batches
        self.num_values = sum(self._sizes) + len(self.layers) + 1
        self._skipped: set[nn.Module] = set()
        self._called: set[nn.Module] = set()  # as modules
        self._first: tuple[Any, Tensor] | None = None  # a batch that was computed, and its sums
        self._clear()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Let the running statistics be those of the last call, and count every call.

        What a forward pass does to other buffers is undone.
        """
        others = [
            (module, name, buffer.clone())
            for module in self._model.modules()
            if module not in self.layers
            for name, buffer in module.named_buffers(recurse=False)
        ]
        saved = [(layer.momentum, vars(layer).get("forward")) for layer in self.layers]
        for i, layer in enumerate(self.layers):
            layer.reset_running_stats()  # 0 x NaN is NaN: what stood there must not be weighted in
            layer.momentum = 1.0
            # No hook, because some models call forward themselves.
            vars(layer)["forward"] = self._counting(i, layer.forward)
        # Ranks have different numbers of batches, and each counts its own.
        synchronised = nn.SyncBatchNorm.forward
        nn.SyncBatchNorm.forward = _BatchNorm.forward  # type: ignore[method-assign]
        try:
            yield
        finally:
            nn.SyncBatchNorm.forward = synchronised  # type: ignore[method-assign]
            for layer, (momentum, forward) in zip(self.layers, saved, strict=True):
                layer.momentum = momentum
                del vars(layer)["forward"]
                if forward is not None:
                    vars(layer)["forward"] = forward
            for module, name, buffer in others:
                module.get_buffer(name).copy_(buffer)

    def begin(self, parts: Iterable[Iterator[Any]], axis: Axis) -> list[Iterator[Any]]:
        """Return the parts of a training set after a look at the first batch, which is among them.

        Layers that evaluation skips, such as those of auxiliary heads, are called by having what
        contains them in training; all else is in evaluation. Every rank of the axis must call.
        """
        self._set_modes()
        parts = list(parts)

        def called_first() -> Tensor:
            for i, part in enumerate(parts):
                for batch in part:
                    parts[i] = chain([batch], part)
                    self._first = batch, self.sums([batch])
                    return self._first[1][-len(self.layers) - 1 : -1] > 0
            return torch.zeros(len(self.layers), dtype=torch.bool, device=self._device)

        called = together(called_first, axis, self._device)
        called = any_({"called": called}, axis)["called"]
        self._skipped = {layer for layer, flag in zip(self.layers, called, strict=True) if not flag}
        if self._skipped:
            self._first = None
            self._set_modes()
        return parts

    def sums(self, batches: Iterable[Any]) -> Tensor:
        """Return float64 sums [num_values] over all calls in these batches."""
        with torch.no_grad(), _NoDropout() if self._skipped else nullcontext():
            for batch in batches:
                if self._first is not None and batch is self._first[0]:
                    self._totals += self._first[1]
                    self._first = None
                else:
                    self._run(self._model, batch, self._device)
                    self._count_direct_uses()
                    self._num_calls[-1] += 1
        self._totals[sum(self._sizes) :] += torch.tensor(self._num_calls, device=self._device)
        return self._clear()

    def finish_(self, total: Tensor) -> None:
        """Set the statistics to the means over all calls, by the sums over all batches."""
        *pieces, counts = torch.split(total[:-1], [*self._sizes, len(self.layers)])
        means = zip(pieces[::2], pieces[1::2], strict=True)
        for layer, pair, count, before in zip(
            self.layers, means, counts, self._before, strict=True
        ):
            if num := int(count):
                for tensor, piece in zip(_statistics(layer), pair, strict=True):
                    tensor.copy_(piece / num)
                if layer.num_batches_tracked is not None:
                    layer.num_batches_tracked.fill_(num)
            else:  # it is in no forward pass
                for name, tensor in before.items():
                    layer.get_buffer(name).copy_(tensor)

    def _counting(self, i: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            outputs = forward(*args, **kwargs)
            self._called.add(self.layers[i])
            # A rank's share of a small batch may be empty, and says nothing.
            if not any(isinstance(x, Tensor) and not x.numel() for x in (*args, *kwargs.values())):
                self._count(i)
            return outputs

        return counted

    def _count(self, i: int) -> None:
        views = self._views[2 * i : 2 * i + 2]
        for view, tensor in zip(views, _statistics(self.layers[i]), strict=True):
            view += tensor.to(view.device)
        self._num_calls[i] += 1

    def _count_direct_uses(self) -> None:
        """Count a layer whose statistics somebody gave to F.batch_norm: once for a batch."""
        for i, layer in enumerate(self.layers):
            if layer not in self._called and not _is_reset(layer):
                self._count(i)
                layer.reset_running_stats()

    def _set_modes(self) -> None:
        self._model.eval()
        for module in self._trained:
            holds_skipped = not self._skipped.isdisjoint(module.modules())
            module.training = module in self.layers or holds_skipped

    def _clear(self) -> Tensor:
        """Begin new sums, and return those before."""
        before = getattr(self, "_totals", torch.empty(0))
        self._totals = torch.zeros(self.num_values, dtype=torch.float64, device=self._device)
        *self._views, _ = torch.split(
            self._totals, [*self._sizes, self.num_values - sum(self._sizes)]
        )
        self._num_calls = [0] * (len(self.layers) + 1)
        return before


class _NoDropout(TorchFunctionMode):
    """Leave out the dropout of modules that are in training."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return args[0] if func in DROPOUTS else func(*args, **(kwargs or {}))


def _statistics(layer: _NormBase) -> tuple[Tensor, Tensor]:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return layer.running_mean, layer.running_var


def _copies(layer: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in layer.named_buffers(recurse=False)}


def _is_reset(layer: _NormBase) -> bool:
    mean, variance = _statistics(layer)
    return not mean.any() and bool((variance == 1).all())


def _call(model: nn.Module, batch: Any, device: torch.device) -> None:
    """Run the model on a batch, whose targets it is not shown."""

    def moved(value: Any) -> Any:
        return value.to(device) if hasattr(value, "to") else value

    inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
    if isinstance(inputs, Mapping):
        model(**{name: moved(value) for name, value in inputs.items()})
    else:
        model(*map(moved, inputs if isinstance(inputs, (tuple, list)) else (inputs,)))


def _guarded(batches: Iterable[Any]) -> Iterator[Any]:
    """Yield people's own batches; what reading them raises is a ValueError."""
    end, kind = object(), type(batches).__name__
    iterator = guarded(iter, kind, "batches")(batches)
    read = guarded(lambda: next(iterator, end), kind, "batches")
    while (batch := read()) is not end:
        yield batch


@torch.no_grad()
def converge_(model: nn.Module) -> None:
    """Make the vectors of spectral norms the singular vectors of the weights they belong to.

    They depend on the weights alone. The model is in evaluation.
    """
    for module in model.modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm):
                weight, *vectors = (
                    getattr(module, hook.name + end) for end in ("_orig", "_u", "_v")
                )
                _iterate_(hook.reshape_weight_to_matrix(weight), *vectors)
        if isinstance(module, ParametrizationList):
            values = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
            for each in module:
                if isinstance(each, _SpectralNorm) and values[0].ndim > 1:
                    _iterate_(each._reshape_weight_to_matrix(values[0]), each._u, each._v)
                values = [each(*values)]


def _iterate_(matrix: Tensor, left: Tensor, right: Tensor) -> None:
    """Set the vectors to the first singular ones, by the power method until nothing moves."""
    wide = matrix.to(torch.promote_types(matrix.dtype, torch.float64))
    start = stream(0, "power iteration").uniform(torch.arange(1), len(left)).to(wide)
    u, largest = F.normalize(start.flatten() - 0.5, dim=0), 0.0
    for _ in range(MAX_ITERATIONS):
        v = F.normalize(wide.mH @ u, dim=0)
        product = wide @ v
        u, before, largest = F.normalize(product, dim=0), largest, float(product.norm())
        if abs(largest - before) <= STILL * largest:
            break
    left.copy_(u)
    right.copy_(v)


def follow_statistics_(model: nn.Module) -> None:
    """Let gradients know that the running statistics would change with the weights.

    Each layer's statistics are taken to move as those of the batch at hand do. No output changes:
    what is added is zero, with a gradient. With statistics as constants the gradient by a soup's
    coefficients points elsewhere, at times backwards; so it agrees with finite differences.
    """
    for layer in model.modules():
        if isinstance(layer, _NormBase) and layer.track_running_stats:
            layer.register_forward_hook(_follow)


def _follow(layer: _NormBase, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    (x,) = inputs
    shape = (1, -1, *[1] * (x.dim() - 2))
    if isinstance(layer, _BatchNorm):
        variance, mean = torch.var_mean(x, [0, *range(2, x.dim())], correction=0)
    else:  # the means over the instances
        both = torch.var_mean(x, [*range(2, x.dim())], correction=0)
        variance, mean = both[0].mean(0), both[1].mean(0)
    running_mean, running_var = _statistics(layer)
    variance = running_var + variance - variance.detach()
    mean = running_mean + mean - mean.detach()
    scale = (variance + layer.eps).rsqrt()
    if layer.weight is not None:
        scale = scale * layer.weight.detach()
    moved = (x.detach() - mean.view(shape)) * scale.view(shape)
    return output + (moved - moved.detach())
