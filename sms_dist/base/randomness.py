"""Randomness with an address: a random number depends on its use, not on the rank that draws."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from operator import index

import torch
from torch import Tensor

# The odd constants of splitmix64, as signed 64-bit integers.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


@dataclass(frozen=True)
class Stream:
    """The random numbers of one address."""

    key: int  # 63 bits

    def generator(self) -> torch.Generator:
        """Return a fresh CPU generator; two calls give the same numbers."""
        return torch.Generator().manual_seed(self.key)

    def seed_layers(self, device: torch.device) -> None:
        """Seed the random numbers of layers on the device, such as dropout, from now on.

        As torch.manual_seed does, but that asks every kind of device, and where CUDA has not been
        used yet it formats a stack trace each time: some percent of a small model's step.
        """
        torch.default_generator.manual_seed(self.key)
        if device.type == "cuda":
            torch.cuda.manual_seed_all(self.key)

    def permutation(self, num_samples: int) -> Tensor:
        """Return the numbers 0 ... num_samples - 1 in random order."""
        return torch.randperm(num_samples, generator=self.generator())

    def uniform(self, samples: Tensor, num_draws: int) -> Tensor:
        """Return uniforms in [0, 1): a row per sample id (int64), `num_draws` columns.

        Row i depends on the id samples[i] alone, not on its place in the batch or on the device.
        """
        draws = torch.arange(num_draws, device=samples.device)
        counter = samples[:, None] * num_draws + draws
        bits = _splitmix64(counter * _GOLDEN + self.key)
        return _shift_right(bits, 40).to(torch.float32) / (1 << 24)


def seed(base: int, purpose: str, *address: int) -> int:
    """Return the seed of an address such as (base, "order", phase, candidate, epoch): 63 bits.

    Equal addresses have equal seeds, whichever rank asks; all others have unrelated ones. For
    `torch.manual_seed`, a `torch.Generator` or `numpy.random.default_rng`. ValueError unless the
    purpose is a word without "/" and everything else an integer.
    """
    if not isinstance(purpose, str) or not purpose or "/" in purpose:
        raise ValueError(f"purpose={purpose!r} must be a word without /, such as order")
    try:
        numbers = [index(part) for part in (base, *address)]
    except TypeError:
        raise ValueError(f"the seed of {(base, *address)}: every part must be an integer") from None
    return stream(numbers[0], purpose, *numbers[1:]).key


def stream(seed: int, purpose: str, *address: int) -> Stream:
    """Return the stream of an address such as (seed, "order", candidate, phase, epoch)."""
    text = f"{seed}/{purpose}/" + "/".join(str(part) for part in address)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return Stream(int.from_bytes(digest, "big") >> 1)


def _shift_right(values: Tensor, places: int) -> Tensor:
    """Shift right logically: torch shifts the sign bit in, which the mask removes."""
    return (values >> places) & ((1 << (64 - places)) - 1)


def _splitmix64(values: Tensor) -> Tensor:
    """Return the finaliser of splitmix64, which needs that int64 products wrap."""
    values = (values ^ _shift_right(values, 30)) * _MIX_1
    values = (values ^ _shift_right(values, 27)) * _MIX_2
    return values ^ _shift_right(values, 31)
