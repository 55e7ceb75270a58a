"""Features of real images, computed once for all models that are measured on them."""

import hashlib
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from zoo.data.store import Store
from zoo.features import cache as files
from zoo.features.base import Features
from zoo.files import locked
from zoo.hardware import distributed


def reference_features(
    features: Features, store: Store, split: str, positions: Tensor, cache: Path, compute: Callable[[], Tensor]
) -> Tensor:
    """Features (N, D) float32, on the network's device, of the store's images at `positions` (N,): kept in `cache`/features.

    All ranks call it together, and either all of them call `compute` or none: rank 0 looks for the file. A damaged file is named and
    computed anew. Raises ZooError if the folder cannot be written to.
    """
    key = [features.identity()["sha256"], store.sha256, hashlib.sha256(positions.numpy().tobytes()).hexdigest()]
    digest = hashlib.sha256(" ".join(key).encode()).hexdigest()[:12]
    path = Path(cache) / "features" / f"{store.manifest['name']}-{store.image_size}-{split}-{features.name}-{digest}.pt"
    first = not distributed() or dist.get_rank() == 0
    found: list[Tensor | None] = [_read_cached(path, (len(positions), features.dim)) if first else None]
    if distributed():
        dist.broadcast_object_list(found)
    rows = found[0]
    if rows is None:
        rows = compute().float()
        if first:
            with locked(path, f"writing {path.name}"):
                files.write(rows.cpu(), path)
    device = next((value.device for value in chain(features.parameters(), features.buffers())), torch.device("cpu"))
    return rows.to(device)


def _read_cached(path: Path, shape: tuple[int, int]) -> Tensor | None:
    """The features in a file; None where there is no file, or a damaged one."""
    rows = files.read_cached(path, "It is computed anew.")
    if rows is not None and (not isinstance(rows, Tensor) or tuple(rows.shape) != shape):
        print(f"{path} does not hold {shape[0]:,} × {shape[1]:,} features. It is computed anew.", file=sys.stderr, flush=True)
        return None
    return rows
