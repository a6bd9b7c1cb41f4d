"""States of candidates that every process makes alike."""

from __future__ import annotations

import hashlib

import torch

NUM = 5


def mask():
    kept = torch.rand(40, 30, generator=torch.Generator().manual_seed(99)) > 0.5
    return {"conv.weight": kept}


def candidate(i, dtype=torch.float32):
    """Tensors of every kind, that of the weight as asked for."""
    generator = torch.Generator().manual_seed(i)

    def values(*shape, dtype=torch.float32):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    return {
        "conv.weight": values(40, 30).masked_fill(~mask()["conv.weight"], 0.0).to(dtype),
        "bn.running_mean": values(7),
        "bn.num_batches_tracked": torch.tensor(i + 5),
        "filter": values(4, dtype=torch.complex64),
        "wide": values(3, dtype=torch.float64),
        "table": torch.nn.Buffer(values(2, 2)),
        "flag": torch.tensor(i % 2 == 0),
    }


def closeness_to(i):
    """A score: the closer to a candidate's weight, the larger."""
    wanted = candidate(i)["conv.weight"].double()
    return lambda state: -float((state["conv.weight"].double() - wanted).abs().sum())


def bits(soup):
    """A hash of all tensors by name; coefficients."""
    hasher = hashlib.sha256()
    for name, tensor in soup.state.items():
        kind = f"{name} {tensor.dtype} {tuple(tensor.shape)} {isinstance(tensor, torch.nn.Buffer)}"
        hasher.update(kind.encode())
        hasher.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return [hasher.hexdigest(), [*soup.coefficients.items()]]
