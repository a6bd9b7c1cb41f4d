"""The section `engine`: on what a candidate trains, and what watches over it."""

from __future__ import annotations

from typing import Any, Literal

from sms_dist.config.section import Above0, Count, Section


class EngineConfig(Section):
    name: str = "ddp"
    """ddp, deepspeed or packed (the candidates of a group train together on its one rank)"""
    ranks_per_candidate: Count = 1
    """ranks that train one candidate; must divide the number of ranks"""
    packing: Literal["auto", "vmap", "loop"] = "auto"
    """packed: vmap (one network with the weights of all), loop (one after another, as with ddp) or
    auto: what is faster, as measured once and kept in the run folder"""
    pack_size: Count | None = None
    """packed: candidates that train together (null: all that fall to a group at the first start)"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda where there is one"""
    threads: Count = 1
    """CPU threads of a rank; fixed because it decides bits"""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """of forward and backward; masters stay fp32 (fp16: cuda only)"""
    deterministic: bool = False
    """cuda: only algorithms that give the same bits every time, slower (a CPU always does)"""
    compile: Literal["eager", "default", "reduce-overhead", "max-autotune", "auto"] = "eager"
    """ddp: eager (not at all), a mode of torch.compile for forward and backward, or auto
    (default on cuda, eager on a CPU); compiled steps have bits of their own"""
    channels_last: bool = False
    """memory layout of images and convolutions, faster on many devices"""
    gradients: Literal["dense", "surviving"] = "dense"
    """ddp: what travels in a group while a fixed mask holds: all gradients, or those of surviving
    weights, for slow links; the bits are the same with two ranks, others with more"""
    accumulation: Count = 1
    """micro-batches per optimizer step; the batch size stays the same"""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """deepspeed: ZeRO stage"""
    deepspeed: dict[str, Any] = {}
    """deepspeed: further keys of its configuration, merged over the derived ones"""
    silence_seconds: Above0 = 60.0
    """a rank that has not been heard of for so long counts as lost, and the others stop"""
    hang_seconds: Above0 | None = 1800.0
    """a rank whose training or evaluation has not moved for so long counts as hung (null: never)"""
