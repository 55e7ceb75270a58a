"""`data=lines`: the line benchmark of ACAI (Berthelot, Raffel, Roy and Goodfellow, 2019, https://arxiv.org/abs/1807.07543, section 3.1).

Each image is one line from the centre to nearly the border; its angle is all there is to know, so an interpolation can be scored exactly
(`zoo.metrics.interpolations`).
The paper trains on an infinite stream of random angles; here 262,144 stored images, 0.0014° apart on average, stand
in for it. Values are rounded to 8 bits.
"""

from typing import Any

import numpy as np

from zoo.data.source import SPLITS, Chunk, Listing, Source
from zoo.errors import ZooError
from zoo.metrics.interpolations import SIZE, draw

SECTORS = 10


def draw_uint8(angles: np.ndarray) -> np.ndarray:
    """`draw`, rounded to (N, 1, 32, 32) uint8: 0 ground, 255 line."""
    return np.round((draw(angles) + 1) * 127.5).astype(np.uint8)


class Lines(Source):
    """Lines at random angles: `train`, `val` and `test` images, 32×32×1, drawn from `seed`. Raises ZooError for another size.

    Attributes: the tenth of the circle the angle lies in, one-hot (the paper's classes). Factor: the angle in radians, in [0, 2π).
    """

    name = "lines"
    channels = 1
    attribute_names = tuple(f"sector_{k}" for k in range(SECTORS))
    factor_names = ("angle",)

    def __init__(self, train: int = 262_144, val: int = 5_000, test: int = 5_000, seed: int = 0, image_size: int = SIZE) -> None:
        if image_size != SIZE:
            raise ZooError(f"data=lines is drawn at 32×32 only, but data.image_size={image_size}: leave it out, or choose other data.")
        if min(train, val, test) < 1 or not 0 <= seed < 2**64:
            raise ZooError("data=lines needs at least one image in data.source.train, val and test, and a seed from 0 to 2**64 - 1.")
        self.image_size, self.counts, self.seed = image_size, (train, val, test), seed
        # Raw bits of Philox, which numpy keeps the same for all versions; one stream per split, so a larger split keeps its first lines.
        # Far from the loader's keys (seed, epoch): from the same bits an epoch's order would be the order of the angles.
        keys = [np.array([seed, 2**63 + k], np.uint64) for k in range(len(SPLITS))]
        bits = [np.random.Philox(key=key).random_raw(count) for key, count in zip(keys, self.counts, strict=True)]
        self.angles = (np.concatenate(bits) >> np.uint64(11)) * (2 * np.pi * 2.0**-53)  # (N,), in [0, 2π)

    def settings(self) -> dict[str, Any]:
        return {
            "source": self.name,
            "counts": list(self.counts),
            "seed": self.seed,
            "drawing": "acai draw_line, rounded to 8 bits",
            "version": 2,
        }

    def scan(self) -> Listing:
        names = [f"{split}/{row:06d}" for split, count in zip(SPLITS, self.counts, strict=True) for row in range(count)]
        sectors = (self.angles * SECTORS / (2 * np.pi)).astype(int)
        attributes = np.eye(SECTORS, dtype=np.uint8)[np.minimum(sectors, SECTORS - 1)]
        return Listing(names, np.repeat(np.arange(3), self.counts).astype(np.uint8), attributes, self.angles[:, None].astype(np.float32))

    def read(self, start: int, stop: int) -> Chunk:
        return Chunk(draw_uint8(self.angles[start:stop]))
