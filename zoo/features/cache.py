"""Tensors computed once and kept in a folder: written under a lock, completely or not at all, and checked when they are read."""

import io
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch

from zoo.errors import ZooError
from zoo.files import write_atomically


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
