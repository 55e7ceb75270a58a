"""Tensors computed once and kept in a folder: written under a lock, completely or not at all, and checked when they are read."""

import hashlib
import io
import pickle
import sys
import zipfile
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from zoo.data.store import Store
from zoo.errors import ZooError
from zoo.features.base import Features
from zoo.files import locked, write_atomically
from zoo.hardware import distributed


def read(path: Path, legacy: bool = False) -> Any:
    """What `write` wrote, on the CPU: tensors and plain containers; `legacy` also takes what torch saved before 1.6, which is no zip file.

    Raises ZooError if it is damaged or holds anything else.
    """
    try:
        if (zipfile.is_zipfile(path) or not legacy) and (
            broken := zipfile.ZipFile(path).testzip()
        ):  # torch.load does not look at the archive's CRC
            raise ValueError(f"{broken} does not match its CRC")
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ZooError(f"{path} is refused: it holds code or objects, not only tensors and plain containers.") from None
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, zipfile.BadZipFile) as error:
        raise ZooError(f"{path} is damaged ({(str(error) or 'it ends too early').splitlines()[0][:80]}).") from None


def read_cached(path: Path, otherwise: str) -> Any:
    """What `read` reads; None where there is no file, or a damaged one, which is named, with what happens `otherwise`."""
    if not path.exists():
        return None
    try:
        return read(path)
    except ZooError as error:
        print(f"{error} {otherwise}", file=sys.stderr, flush=True)
        return None


def write(content: Any, path: Path) -> None:
    """Writes completely or not at all. Raises ZooError if the disk does not take it."""
    buffer = io.BytesIO()  # torch.save would hide a full disk behind a RuntimeError
    torch.save(content, buffer)
    try:
        write_atomically(path, buffer.getbuffer())
    except OSError as error:
        raise ZooError(f"{path} cannot be written ({error.strerror}): make room, or choose another folder with data.cache=DIR.") from error


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
                write(rows.cpu(), path)
    device = next((value.device for value in chain(features.parameters(), features.buffers())), torch.device("cpu"))
    return rows.to(device)


def _read_cached(path: Path, shape: tuple[int, int]) -> Tensor | None:
    """The features in a file; None where there is no file, or a damaged one."""
    rows = read_cached(path, "It is computed anew.")
    if rows is not None and (not isinstance(rows, Tensor) or tuple(rows.shape) != shape):
        print(f"{path} does not hold {shape[0]:,} × {shape[1]:,} features. It is computed anew.", file=sys.stderr, flush=True)
        return None
    return rows
