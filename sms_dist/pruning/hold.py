"""A mask that holds while a model trains: pruned weights stay exactly zero, whatever the optimizer.

`hold` is for training loops of people's own; the engines of a run call its parts where they must.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakIdKeyDictionary

from sms_dist.base import plain
from sms_dist.pruning.mask import Mask
from sms_dist.pruning.wrappers import bare, checked, is_deepspeed

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of a number
_HELD = WeakIdKeyDictionary()  # the parameters that are held, wherever they are wrapped


class Pruned:
    """The pruned weights of parameters; it zeroes them, or what is like them, in one operation.

    It multiplies integers: the bits of a number times one or zero. What is pruned becomes +0.0
    whatever it was; floats would keep NaN, infinity times zero, and the sign of zero. It needs as
    many bytes for a weight as the weight has.
    """

    def __init__(self, kept: Mapping[Tensor, Tensor]) -> None:
        """Take parameter -> bool tensor; those that the mask keeps whole cost nothing."""
        self._kept = {
            parameter: mask.to(parameter.device)
            for parameter, mask in kept.items()
            if not mask.all()
        }
        # By device and width: training may move a model, or cast it.
        self._factors: dict[tuple[Tensor, torch.device, int], Tensor] = {}

    def __bool__(self) -> bool:
        """Return True if any weight is pruned."""
        return bool(self._kept)

    def __contains__(self, parameter: Tensor) -> bool:
        return parameter in self._kept

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._kept)

    def kept(self, parameter: Tensor) -> Tensor:
        """Return the mask of one of the parameters that are pruned."""
        return self._kept[parameter]

    def weights_(self, some: Iterable[Tensor] | None = None) -> None:
        """Zero the pruned weights, of all parameters or of some."""
        self._zero_((p, p) for p in self._some(some))

    def gradients_(self, some: Iterable[Tensor] | None = None) -> None:
        """Zero the gradients of the pruned weights."""
        self._zero_(
            (p, p.grad)
            for p in self._some(some)
            if p.grad is not None and p.grad.layout is torch.strided
        )

    def state_(self, optimizer: Optimizer, some: Iterable[Tensor] | None = None) -> None:
        """Zero what an optimizer remembers of the pruned weights, as far as it has their shape."""
        self._zero_((p, value) for p in self._some(some) for value in _remembered(optimizer, p))

    def is_remembered_by(self, optimizer: Optimizer) -> bool:
        """Return True if an optimizer has taken steps that it remembers of pruned weights."""
        return any(
            torch.count_nonzero(value[~kept.to(value.device)])
            for p, kept in self._kept.items()
            if optimizer.state.get(p, {}).get("step", 1)  # Adagrad begins with numbers
            for value in _remembered(optimizer, p)
        )

    def without(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        """Return a new gradient, as autograd wants it, that is zero for the pruned weights."""
        kept = self._kept[parameter]
        if kept.device != gradient.device:
            kept = self._kept[parameter] = kept.to(gradient.device)
        if gradient.layout is torch.strided:
            return gradient.masked_fill(~kept, 0)
        gradient = gradient.coalesce()  # rows, of an embedding
        values = gradient.values().masked_fill(~kept[tuple(gradient.indices())], 0)
        return torch.sparse_coo_tensor(
            gradient.indices(), values, gradient.shape, is_coalesced=True, check_invariants=False
        )

    def _some(self, some: Iterable[Tensor] | None) -> Iterable[Tensor]:
        return self._kept if some is None else some

    def _zero_(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Zero the pruned places of tensors, each given with the parameter that it is like."""
        bits, factors = [], []
        for parameter, tensor in pairs:
            factor = self._factor(parameter, tensor)
            bits.append(tensor.detach().view(factor.dtype))
            factors.append(factor)
        if bits:
            torch._foreach_mul_(bits, factors)

    def _factor(self, parameter: Tensor, tensor: Tensor) -> Tensor:
        """Return the mask as integers, laid out in memory as the parameter and its gradient are."""
        key = parameter, tensor.device, tensor.element_size()
        if key not in self._factors:
            like = tensor.detach()
            factor = torch.empty_like(like, dtype=INTEGERS[tensor.element_size()])
            self._factors[key] = factor.copy_(self._kept[parameter])
        return self._factors[key]


def _remembered(optimizer: Optimizer, parameter: Tensor) -> list[Tensor]:
    """Return the state of a parameter that is like it: numbers of its shape, but no count of steps.

    Codes of a quantised state are left alone: a code of zero is seldom the number zero.
    """
    return [
        value
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
        and key != "step"
        and value.shape == parameter.shape
        and value.is_floating_point()
    ]


def hold(model: nn.Module, mask: Mapping[str, Tensor], optimizer: Optimizer | None = None) -> Hold:
    """Zero what the mask prunes in a model, and keep it so while the model trains.

    Pruned gradients are zero before they are exchanged, scaled and clipped; pruned weights, and
    optimizer state of their shape, are zero after each step of any optimizer. Frozen weights are
    zeroed once. A copy of the model is not held.

    Args:
        model: A module, before or after DDP or torch.compile wraps it, or before
            `deepspeed.initialize`; or a DeepSpeed engine (the ranks of its group call together).
        mask: Name of a parameter -> bool tensor, True where the weight is kept.
        optimizer: Give one that has taken steps already: it remembers gradients of pruned weights.
            An engine's is found without.

    Raises ValueError where names or shapes differ, the model is held already, the optimizer is for
    other parameters, FSDP or a DTensor shards them, or they are on the meta device.
    """
    parameters = dict(checked(model, "hold").named_parameters(remove_duplicate=False))
    mask = Mask(mask)
    mask.check_fits(parameters)
    kept: dict[Tensor, Tensor] = {}
    for name, flags in mask.items():
        parameter = parameters[name]
        if parameter in _HELD:
            raise ValueError(f"{name} is held already; release that hold first")
        kept[parameter] = flags & kept[parameter] if parameter in kept else flags
    if optimizer is not None and not is_deepspeed(model):
        if not isinstance(optimizer, Optimizer):
            raise ValueError(
                f"optimizer={plain.shown(optimizer)} is no torch.optim.Optimizer; give the one "
                "that takes the steps"
            )
        if kept and not any(p in kept for p in _parameters_of(optimizer)):
            raise ValueError(
                "the optimizer is for other parameters than the mask; make it for this model"
            )
    return Hold(model, kept, optimizer)


class Hold:
    """A mask that is held; as a context manager it is released at the end."""

    def __init__(
        self, model: nn.Module, kept: Mapping[Tensor, Tensor], optimizer: Optimizer | None
    ) -> None:
        inner = bare(model)
        self._model = weakref.ref(inner)  # whose hooks refer to this
        named = inner.named_parameters()
        self._names: dict[Tensor, str] = {p: name for name, p in named if p in kept}
        masters: Mapping[Tensor, Tensor] = {}  # parameter -> fp32 master of ZeRO-0
        if is_deepspeed(model):
            optimizer = model.basic_optimizer  # type: ignore[assignment]
            _check_flat(model.optimizer)
            masters = {p: m for p, m in masters_of_stage_0(model.optimizer).items() if p in kept}
        self._masters = {master: self._names[p] for p, master in masters.items()}
        self._pruned = Pruned({**kept, **{master: kept[p] for p, master in masters.items()}})
        self._pruned.weights_(p for p in self._pruned if not hasattr(p, "ds_id"))
        self._pruned.gradients_()
        self._optimizers = weakref.WeakSet(_nested(optimizer))
        for each in self._optimizers:
            self._pruned.state_(each)
        for parameter, mask in kept.items():
            _zero_shards_(parameter, ~mask)
        self._handles: dict[Tensor, RemovableHandle] = {}
        self._hook(self._names)
        _HELD.update(dict.fromkeys(kept, True))
        own = weakref.ref(self)  # what torch calls for all optimizers would keep the model alive

        def before(optimizer: Optimizer, *_: Any) -> None:
            if (held := own()) is not None:
                held._before(optimizer)

        def after(optimizer: Optimizer, *_: Any) -> None:
            if (held := own()) is not None:
                held._after(optimizer)

        handles = register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)
        self._forget = weakref.finalize(self, _remove, handles)

    def __enter__(self) -> Hold:
        if not self._forget.alive:
            raise ValueError("this hold is released; call hold again")
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let the pruned weights train again; the model can then be held anew."""
        _remove(self._handles.values())
        self._forget()
        for parameter in self._names:
            _HELD.pop(parameter, None)  # type: ignore[no-untyped-call]

    def check(self) -> None:
        """Raise ValueError if a pruned weight is not exactly 0, in the fp32 master if there is one,
        or if the model has another parameter in the place of one that is held.

        The ranks of a DeepSpeed engine's group call together.
        """
        model = self._model()
        present = {*self._names} if model is None else {*model.parameters()}
        if replaced := [name for p, name in self._names.items() if p not in present]:
            raise ValueError(
                f"{replaced[0]} is another parameter now, which is not held; hold the model anew "
                "after what replaces parameters, such as load_state_dict(assign=True)"
            )
        counts = {
            name: int(torch.count_nonzero(whole(p)[~self._pruned.kept(p).to(p.device)]))
            for p, name in (self._names | self._masters).items()
            if p in self._pruned
        }
        for name, number in counts.items():
            if number:
                raise ValueError(
                    f"{number} pruned weights of {name} are not zero: something other than an "
                    "optimizer's step has changed them"
                )

    def _hook(self, parameters: Iterable[Tensor]) -> None:
        """Let no gradient reach the pruned weights; frozen parameters get none anyhow."""
        for p in parameters:
            if p in self._pruned and p.requires_grad and p not in self._handles:
                # It refers to `self`, which so lives as long as the parameter.
                hook = partial(self._without, p)
                self._handles[p] = p.register_hook(hook)  # type: ignore[no-untyped-call]

    def _without(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        return self._pruned.without(parameter, gradient)

    def _before(self, optimizer: Optimizer) -> None:
        some = self._pruned_of(optimizer)
        if some and optimizer not in self._optimizers:
            if self._pruned.is_remembered_by(optimizer):
                raise ValueError(
                    "this optimizer had taken steps before the mask was held, and remembers "
                    "gradients of pruned weights; give it to hold(model, mask, optimizer)"
                )
            self._optimizers.add(optimizer)
            self._pruned.state_(optimizer, some)
        self._hook(p for p in some if p in self._names)  # those that were frozen
        self._pruned.gradients_(some)  # those that came another way than from a backward pass

    def _after(self, optimizer: Optimizer) -> None:
        some = self._pruned_of(optimizer)
        self._pruned.weights_(some)
        self._pruned.state_(optimizer, some)

    def _pruned_of(self, optimizer: Optimizer) -> list[Tensor]:
        return [p for p in _parameters_of(optimizer) if p in self._pruned]


def _parameters_of(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _nested(optimizer: Optimizer | None) -> list[Optimizer]:
    """Return an optimizer and those inside of it, such as in ZeroRedundancyOptimizer."""
    if not isinstance(optimizer, Optimizer):
        return []
    return [optimizer, *_nested(getattr(optimizer, "optim", getattr(optimizer, "optimizer", None)))]


def _remove(handles: Iterable[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()


# Inside of DeepSpeed. Nothing here communicates but `whole`.


def _check_flat(optimizer: Any) -> None:
    if hasattr(optimizer, "fp32_groups_flat"):
        raise ValueError(
            "DeepSpeed's fused optimizer has one flat master for all weights; hold the model "
            "before deepspeed.initialize"
        )


def masters_of_stage_0(optimizer: Any) -> dict[Tensor, Tensor]:
    """Return the fp32 masters that ZeRO-0 has of parameters in low precision; else none."""
    if not hasattr(optimizer, "fp32_groups"):
        return {}
    groups = zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True)
    return dict(pair for group in groups for pair in zip(*group, strict=True))


@torch.no_grad()
def _zero_shards_(parameter: Any, pruned: Tensor) -> None:
    """Zero this rank's shards of a parameter, of its master and of what its optimizer remembers."""
    if hasattr(parameter, "ds_id"):  # ZeRO-3
        _zero_shards_of_stage_3_(parameter, pruned)
    elif getattr(parameter, "_hp_mapping", None) is not None:  # ZeRO-1 and 2
        mapping = parameter._hp_mapping
        place = mapping.lp_fragment_address
        piece = pruned.flatten().narrow(0, place.start, place.numel)
        for shard in (mapping.hp_fragment, *(mapping.optim_fragment or {}).values()):
            shard.masked_fill_(piece.to(shard.device), 0)


def _zero_shards_of_stage_3_(parameter: Any, pruned: Tensor) -> None:
    from deepspeed.utils import (
        safe_get_local_fp32_param,
        safe_get_local_optimizer_state,
        safe_set_local_fp32_param,
        safe_set_local_optimizer_state,
    )

    size = parameter.ds_tensor.numel()
    rank = dist.get_rank(parameter.ds_process_group)
    whole = pruned.new_zeros(size * dist.get_world_size(parameter.ds_process_group))
    whole[: pruned.numel()] = pruned.flatten()
    piece = whole[size * rank : size * (rank + 1)]
    parameter.ds_tensor.masked_fill_(piece.to(parameter.ds_tensor.device), 0)
    if parameter.shape == pruned.shape:  # it is gathered at the moment
        parameter.masked_fill_(pruned, 0)
    if not hasattr(parameter, "_z3_optimizer"):  # without an optimizer there are no masters
        return
    keys = {
        key
        for flat, state in parameter._z3_optimizer.optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, Tensor) and value.shape == flat.shape
    }
    if (master := safe_get_local_fp32_param(parameter)) is not None:  # else it is frozen
        safe_set_local_fp32_param(parameter, master.masked_fill(piece, 0))
        for key in sorted(keys):
            value = safe_get_local_optimizer_state(parameter, key)
            safe_set_local_optimizer_state(parameter, value.masked_fill(piece, 0), key)


def whole(parameter: Tensor) -> Tensor:
    """Return a parameter, from its fp32 master if DeepSpeed has one; then the group calls together.

    A frozen parameter has none.
    """
    if hasattr(parameter, "ds_id") or hasattr(parameter, "_hp_mapping"):
        from deepspeed import zero
        from deepspeed.utils import safe_get_full_fp32_param

        master: Tensor | None = safe_get_full_fp32_param(parameter)
        if master is not None:
            return master
        with zero.GatheredParameters([parameter]):
            return parameter.detach().clone()
    return parameter.detach()
