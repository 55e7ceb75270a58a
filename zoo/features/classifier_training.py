"""How the features' classifier is trained and measured. Deterministic on a CPU; the caller's random numbers are left alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from zoo.data.store import Store
from zoo.nets.convnet import ConvClassifier
from zoo.progress import chunks

CHUNK = 256  # images at once when nothing is trained
STATISTICS = 10_000  # training images that the features are standardised with


@dataclass(frozen=True)
class ClassifierTrainingConfig:
    """AdamW under one cycle of the learning rate; it lasts `epochs`, but at least `least` and at most `most` images."""

    epochs: int = 10
    least: int = 2_000
    most: int = 200_000
    batch_size: int = 128
    lr: float = 4e-3
    weight_decay: float = 0.05
    seed: int = 0

    def batch(self, count: int) -> int:
        """Batch size for `count` training images: smaller for few, so that there are steps enough to learn something."""
        return min(max(32, count // 16), self.batch_size, count)

    def images(self, count: int) -> int:
        """Images to train on where the data set has `count`: whole batches."""
        batch = self.batch(count)
        return -(-min(max(self.epochs * count, self.least), self.most) // batch) * batch


def varying(attributes: np.ndarray) -> np.ndarray:
    """Which columns of (N, A) are not constant: (A,) bool."""
    share = attributes.mean(0)
    return (share > 0) & (share < 1)


def as_input(image: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1], in the memory layout that convolutions are fastest with."""
    if image.dtype != torch.uint8:
        raise ValueError(f"a features network takes uint8 images, not {image.dtype}")
    return image.to(torch.float32, memory_format=torch.channels_last).div_(127.5).sub_(1)


def train(store: Store, config: ClassifierTrainingConfig, device: torch.device, task: str) -> ConvClassifier:
    """A classifier of the labels of the store's training images, BatchNorm folded in, its large weights rounded to float16."""
    rows = store.indices("train")
    labels = torch.from_numpy(store.attributes[rows])
    classes, used = store.has_classes, torch.from_numpy(varying(store.attributes[rows])).to(device)
    share = labels.float().mean(0).clamp(1e-6, 1 - 1e-6).to(device)
    prior = torch.zeros_like(share) if classes else share.logit()  # logit adjustment (2007.07314): the net answers for even odds
    generator = Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)  # not torch.manual_seed: that one would reach the GPUs', too
        net = ConvClassifier(store.channels, labels.shape[1])
    net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images, batch = config.images(len(rows)), config.batch(len(rows))
    optimizer = torch.optim.AdamW(net.parameters(), config.lr, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=images // batch, pct_start=0.2)
    epochs = -(-images // len(rows))
    order = torch.cat([torch.randperm(len(rows), generator=generator) for _ in range(epochs)])
    with torch.enable_grad():
        for start, stop in chunks(images, batch, task):
            chosen = order[start:stop]
            image = as_input(torch.from_numpy(store.images[rows[chosen.numpy()]]).to(device))
            target = labels[chosen].to(device)
            logits = net(image)
            if classes:
                loss = F.cross_entropy(logits, target.argmax(1))
            else:
                loss = F.binary_cross_entropy_with_logits((logits + prior)[:, used], target[:, used].float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    ready = net.eval().fused()
    for parameter in ready.parameters():
        parameter.copy_(parameter.half())
    return ready


def pieces(store: Store, positions: np.ndarray, device: torch.device, task: str) -> Iterator[tuple[slice, Tensor]]:
    """(which of the positions, their uint8 images on the device), chunk by chunk."""
    for start, stop in chunks(len(positions), CHUNK, task):
        yield slice(start, stop), torch.from_numpy(store.images[positions[start:stop]]).to(device)
