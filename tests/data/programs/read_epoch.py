"""Reads an epoch of the streamed set of a folder, a line with a digest for each batch, then waits.

Arguments: folder, number of workers.
"""

import hashlib
import sys
import time

import torch

import data
from data.streaming.streamed import open_streamed
from sms_dist.config import DataConfig
from sms_dist.randomness import stream


def main(folder: str, workers: str) -> None:
    config = DataConfig(name="card", path=folder, workers=int(workers), prefetch=2)
    card = data.DATASETS["card"].card(config)
    loaders = open_streamed(card, config, data.info(config)).loaders(8, torch.device("cpu"))
    for batch in loaders.train.epoch(stream(5, "order"), stream(5, "augmentation")):
        content = batch.inputs[0].numpy().tobytes() + batch.targets.numpy().tobytes()
        print(hashlib.sha256(content).hexdigest(), flush=True)
    time.sleep(60)  # to be killed


if __name__ == "__main__":
    main(*sys.argv[1:])
