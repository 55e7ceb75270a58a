"""One data module for every source: prepares the store, hands out loaders, turns uint8 into float on the device."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from zoo.batch import Batch, to_float
from zoo.data import store as packed
from zoo.data.loader import BatchLoader, choose_storage, subset, two_domains
from zoo.data.source import SPLITS, Listing, Source


def cache_dir(cache: str | Path | None) -> Path:
    """The folder of the packed stores: as given, else $ZOO_CACHE, else ~/.cache/zoo."""
    return Path(cache or os.environ.get("ZOO_CACHE") or "~/.cache/zoo").expanduser()


class DataModule(pl.LightningDataModule):
    """Loads one source.

    Args:
        source: Where the images come from.
        batch_size, seed, storage, domain: As in BatchLoader.
        cache: Folder of the packed stores; by default $ZOO_CACHE, else ~/.cache/zoo.
        flip: Mirror half of the training images, drawn anew each epoch.
        skip_bad: Drop images that cannot be read, with their attributes, instead of stopping.
        limit: Train and validate on only `limit` images of each split.
        val_images: Most images that `val_dataloader` gives.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        cache: str | Path | None = None,
        seed: int = 0,
        storage: str = "auto",
        flip: bool = False,
        skip_bad: bool = False,
        limit: int | None = None,
        domain: str | None = None,
        val_images: int | None = None,
    ) -> None:
        super().__init__()
        self.source, self.batch_size, self.cache, self.seed = source, batch_size, cache_dir(cache), seed
        self.storage, self.flip, self.skip_bad, self.limit, self.domain = storage, flip, skip_bad, limit, domain
        self.val_images = val_images
        self._store: packed.Store | None = None
        self._train: BatchLoader | None = None
        self._buffer: torch.Tensor | None = None

    @property
    def store(self) -> packed.Store:
        """The packed store; built the first time it is asked for."""
        if self._store is None:
            first = os.environ.get("LOCAL_RANK", "0") == "0"
            self._store = packed.prepare(self.source, self.cache, self.skip_bad, verify=first, approve=self._approve)
            del self.source  # some hold all their images in memory
        return self._store

    def _approve(self, listing: Listing) -> None:
        """Raises ZooError for a domain that the training images cannot have."""
        if self.domain is not None:
            train = subset(np.flatnonzero(listing.splits == SPLITS.index("train")), self.limit)
            two_domains(self.source.attribute_names, listing.attributes[train], self.domain, self.batch_size)

    def check(self, ranks: int = 1, accumulate_grad_batches: int = 1) -> None:
        """Builds or opens the store and refuses settings that do not fit it, before any other work. Raises ZooError."""
        choose_storage(self.storage, 0, torch.device("cpu"))
        options: dict[str, Any] = {"batch_size": self.batch_size, "world_size": ranks, "limit": self.limit}
        BatchLoader(self.store, "train", accumulate_grad_batches=accumulate_grad_batches, domain=self.domain, **options)
        BatchLoader(self.store, "val", shuffle=False, **options)

    def steps_per_epoch(self) -> int:
        """Optimizer steps of a pass over the training images."""
        return len(BatchLoader(self.store, "train", self.batch_size, domain=self.domain, limit=self.limit))

    def loader(self, split: str, limit: int | None = None, shared: bool = False) -> BatchLoader:
        """Reads a split once, in order, in uint8 batches: every image exactly once over all ranks, or with `shared` once on each rank."""
        limit = min((number for number in (limit, self.limit) if number is not None), default=None)
        return self._loader(split, limit, shared, shuffle=False)

    def read(self, split: str) -> Iterator[Batch]:
        """Reads a split once, in the order of the store, in float batches: every image on every rank, none mirrored."""
        return map(to_float, self.loader(split, shared=True))

    def train_dataloader(self) -> BatchLoader:
        if self._train is None:
            pieces = self.trainer.accumulate_grad_batches if self.trainer else 1
            options: dict[str, Any] = {"seed": self.seed, "storage": self.storage, "domain": self.domain, "accumulate_grad_batches": pieces}
            self._train = self._loader("train", self.limit, **options)
        return self._train

    def val_dataloader(self) -> BatchLoader:
        return self.loader("val", self.val_images)

    def test_dataloader(self) -> BatchLoader:
        return self.loader("test")

    def predict_dataloader(self) -> BatchLoader:
        return self.loader("test")

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch  # the loader has put it there

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """uint8 -> float in [-1, 1]; half of the training images mirrored, into one reused buffer."""
        if self.trainer is not None and not self.trainer.training:
            return to_float(batch)
        if self._buffer is None or self._buffer.shape != batch.image.shape:
            self._buffer = torch.empty(batch.image.shape, device=batch.image.device)
        flips = self._train.flips if self.flip and self._train is not None else None
        return to_float(batch, flips, self._buffer)

    def some_images(self, split: str, count: int) -> Batch:
        """A few images of a split as a float batch on the device: the same each time and on every rank."""
        positions = subset(self.store.indices(split), min(count, self.limit or count))
        parts = self.store.images[positions], self.store.attributes[positions], positions
        return to_float(Batch(*(torch.from_numpy(part).to(self._device()) for part in parts)))

    def _loader(self, split: str, limit: int | None, shared: bool = False, **options: Any) -> BatchLoader:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer and not shared else (0, 1)
        options |= {"rank": rank, "world_size": world_size, "device": self._device(), "limit": limit}
        return BatchLoader(self.store, split, self.batch_size, **options)

    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
