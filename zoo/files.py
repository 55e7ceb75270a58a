"""Files whose content and presence can be trusted: one way to hash them, to write them whole, to make a rename last, to lock them."""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import filelock

from zoo.errors import ZooError


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


def write_atomically(path: Path, content: str | bytes | memoryview | Callable[[BinaryIO], Any]) -> None:
    """Writes a temporary file beside `path`, fsyncs it and renames it into place; leaves nothing on failure.

    `content` is what the file holds, or a function that writes it to the open file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file whole."""
    write_atomically(path, json.dumps(content, indent=2) + "\n")


def output_folder(given: str | None, default: Path) -> Path:
    """The folder that `out=` names; nothing is made. Raises ZooError if it is a file."""
    out = default if given is None else Path(given).expanduser()
    if out.exists() and not out.is_dir():
        raise ZooError(f"out={given} is a file; name a folder.")
    return out


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty if the file is missing or damaged."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(path.read_bytes())
        return content if isinstance(content, dict) else {}
    return {}


def locked(path: Path, task: str) -> filelock.AcquireReturnProxy:
    """Holds the lock of this file inside a `with`; makes its folder. The kernel frees it when its process dies."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
        try:
            return lock.acquire(timeout=0)
        except filelock.Timeout:
            print(f"another process is {task}: waiting for it.", file=sys.stderr, flush=True)
            return lock.acquire()
    except OSError as error:
        raise ZooError(
            f"cannot write to the cache folder {path.parent} ({error.strerror}): choose another one with data.cache=DIR."
        ) from error
