"""Files whose content and presence can be trusted: one way to hash them, one to make a rename last."""

import hashlib
import os
from pathlib import Path


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Makes what was created or renamed in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
