"""How a model is trained, beside its method; and seeds."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

Schedule = Callable[[float], float]  # share of max_images already seen -> factor on the learning rate


@dataclass
class TrainingConfig:
    """What zoo.train says of a training. A model in anybody's Trainer has one of defaults: there the Trainer's arguments say how long."""

    batch_size: int = 0  # global: images per optimizer step over all ranks and accumulation; 0: images are counted
    max_images: int = 0  # of this stage; 0: max_steps or max_epochs of the Trainer
    optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer] | None = None  # None: the one that the model was made with
    schedule: Schedule | None = None  # the zoo's, on the clock of images
    scheduler: Callable[[torch.optim.Optimizer], Any] | None = None  # or one of torch, stepped after each optimizer step
    group_schedules: dict[str, Schedule] = field(default_factory=dict)
    images_before: int = 0  # images that earlier stages have seen: a part of max_images of the whole method
    seed: int = 0
    compile: bool = False


def seed_of(*key: int) -> int:
    """A 63-bit seed from integers (splitmix64 on each, chained): neighbouring keys give unrelated streams."""
    state = 0
    for part in key:
        state = (state + part + 0x9E3779B97F4A7C15) % 2**64  # a negative part is a number modulo 2**64
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        state ^= state >> 31
    return state >> 1
