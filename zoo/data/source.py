"""The contract between a data set on disk (or in the program) and the packed store."""

import hashlib
import json
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

SPLITS = ("train", "val", "test")


class Listing(NamedTuple):
    """What a source holds, in a fixed order, before any image is decoded."""

    names: list[str]  # N, unique: a file's name, or for arrays "train/000012"
    splits: np.ndarray  # (N,) uint8, position in SPLITS
    attributes: np.ndarray  # (N, A) uint8 in {0, 1}; classes are one-hot
    factors: np.ndarray | None = None  # (N, F) float32, the continuous causes, where they are known
    digests: dict[str, str] = {}  # sha256 of each book-keeping file that was read (attributes, partition, arrays)


class Chunk(NamedTuple):
    """Some images of a source, ready for the store."""

    images: np.ndarray  # (n, C, H, W) uint8, rows of failed images are undefined
    errors: dict[int, str] = {}  # row in this chunk -> why the image could not be read
    digests: list[str] = []  # n sha256 of the image files, empty if the images come from arrays or are drawn


class Source(ABC):
    """A data set: lists its images, then reads them in chunks. Knows nothing of stores, loaders or models."""

    name: str
    image_size: int  # pixels, height = width
    channels: int  # 1 or 3
    attribute_names: tuple[str, ...]
    factor_names: tuple[str, ...] = ()

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Everything beside the files that decides the pixels (crop, size, filter, decoder with version, seed), as JSON."""

    def fingerprint(self) -> str:
        """A cheap hash that changes when the files do (names, sizes, times); of what is drawn, that of the settings, in their order.

        Raises ZooError if files are not there.
        """
        return hashlib.sha256(json.dumps(self.settings()).encode()).hexdigest()

    @abstractmethod
    def scan(self) -> Listing:
        """Lists all images and checks the book-keeping. Raises ZooError: names what is missing, doubled or malformed."""

    @abstractmethod
    def read(self, start: int, stop: int) -> Chunk:
        """Decodes images `start:stop` of the listing. A bad image is an entry of `errors`, not an exception."""
