"""Small data sets that a network learns in a second."""

import numpy as np

from zoo.data.source import Chunk, Listing, Source

TRAIN, TEST = 256, 64


class Stripes(Source):
    """Grey images of three classes: stripes across, upright, or both; phase and contrast are random."""

    name = "stripes"
    image_size = 16
    channels = 1
    attribute_names = ("across", "upright", "both")

    def __init__(self, seed=0, shuffled=False):
        rng = np.random.default_rng(seed)
        count = TRAIN + 4 + TEST
        labels = np.arange(count) % 3
        steps = np.arange(16)
        wave = np.sign(np.sin((steps + rng.integers(0, 8, (count, 1))) * np.pi / 4 + 0.1))  # (N, 16)
        across, upright = wave[:, :, None], wave[:, None, :]
        pattern = np.choose(labels[:, None, None], [across + 0 * upright, upright + 0 * across, across * upright])
        images = 128 + rng.uniform(20, 90, (count, 1, 1)) * pattern + rng.normal(0, 10, (count, 16, 16))
        self.images = images.clip(0, 255).astype(np.uint8)[:, None]
        self.labels = rng.permutation(labels) if shuffled else labels
        self.key = f"{seed} {shuffled}"

    def settings(self):
        return {"key": self.key}

    def fingerprint(self):
        return self.key

    def table(self):
        return np.eye(3, dtype=np.uint8)[self.labels]

    def scan(self):
        splits = np.repeat(np.arange(3), [TRAIN, 4, TEST]).astype(np.uint8)
        return Listing([f"{i:04d}" for i in range(len(self.images))], splits, self.table())

    def read(self, start, stop):
        return Chunk(self.images[start:stop])


class Marks(Stripes):
    """The same images with attributes: Across (or both), Rare (3 in 20), and two that are constant where it matters."""

    name = "marks"
    attribute_names = ("Across", "Rare", "Always", "Never_In_Test")

    def __init__(self, seed=0):
        super().__init__(seed)
        self.rare = np.random.default_rng(seed).random(len(self.images)) < 0.15
        self.images[self.rare, :, 4:8, 4:8] = 255
        self.key += " marks"

    def table(self):
        rows = np.arange(len(self.images))
        return np.stack([self.labels != 1, self.rare, rows >= 0, (rows < TRAIN) & (rows % 2 == 0)], 1).astype(np.uint8)


class Unlabelled(Stripes):
    """No labels at all, or only constant ones."""

    name = "unlabelled"

    def __init__(self, names=()):
        super().__init__()
        self.attribute_names = names
        self.key = f"unlabelled {names}"

    def table(self):
        return np.ones((len(self.images), len(self.attribute_names)), np.uint8)
