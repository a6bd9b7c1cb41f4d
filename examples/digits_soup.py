"""Sparse Model Soups in a training loop of one's own, on one process or many.

    python examples/mine.py                                              # the dense model, once
    python examples/digits_soup.py                                       # one process
    torchrun --nproc-per-node=4 examples/digits_soup.py                  # four candidates at a time
    torchrun --nproc-per-node=4 examples/digits_soup.py 2                # two ranks for each

All of them make the same candidates; with one rank for each, they have the same bits.
"""

import sys

import torch
import torch.distributed as dist
import torch.nn.functional as F
from mine import (
    LENGTH,
    accuracy,
    build,
    epoch,
)  # epoch(seed, rank, size) yields this rank's batches
from safetensors.torch import save_file
from torch.nn.parallel import DistributedDataParallel

import sms_dist as sms

if dist.is_torchelastic_launched():
    dist.init_process_group()
mesh = sms.Mesh(ranks_per_candidate=int(sys.argv[1]) if sys.argv[1:] else 1)
CANDIDATES, EPOCHS = 4, 5
model = build().to(mesh.device)
sms.load_(model, sms.load("dense.safetensors"))
mask = None
for phase, sparsity in enumerate(sms.sparsities(0.9, phases=3), 1):
    mask = sms.prune(model, sparsity, mask=mask)
    start, states = sms.weights(model), {}
    for i in mesh.mine(CANDIDATES):
        net = build().to(mesh.device)
        sms.load_(net, start)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        rate = sms.schedule("llr", optimizer, EPOCHS * LENGTH, largest=0.1)
        with sms.hold(net, mask, optimizer) as held:
            ddp = (
                DistributedDataParallel(net, process_group=mesh.data_group)
                if mesh.data_size > 1
                else net
            )
            for e in range(EPOCHS):
                order = sms.seed(0, "order", phase, i, e)
                for x, y in epoch(order, mesh.data_rank, mesh.data_size):
                    optimizer.zero_grad()
                    F.cross_entropy(ddp(x), y).backward()
                    optimizer.step()
                    rate.step()
            held.check()
        states[i] = sms.weights(ddp)
    soup = sms.soup(states, mask, mesh)
    sms.load_(model, soup.state)
    rank, size = mesh.group * mesh.data_size + mesh.data_rank, mesh.num_groups * mesh.data_size
    sms.recompute_norms(model, epoch(0, rank, size), mesh)
    if mesh.is_first:
        angle = soup.distances["angle_mean"]
        print(f"phase {phase}: {mask.sparsity:.2%} sparse, {accuracy(model):.4f}, {angle:.1f} deg")
        save_file(sms.weights(model), f"soup_{phase}.safetensors")
        mask.save(f"mask_{phase}.safetensors")
if dist.is_initialized():
    dist.destroy_process_group()
