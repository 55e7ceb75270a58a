"""Safe checkpoints: tensors and plain containers only, written beside their target, fsynced, renamed, with a sha256 each.

Lightning's own writer moves a file out of $TMPDIR, which is not atomic across file systems, and torch.load does not check
its archive's CRC, so a flipped bit would load silently. Files are `checkpoints/<images>.ckpt` and, in sha256sum's format,
`checkpoints/<images>.ckpt.sha256`.
"""

import contextlib
import errno
import hashlib
import io
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from zoo.errors import ZooError
from zoo.files import sha256_of, write_atomically
from zoo.runs.layout import CHECKPOINTS, check_format


def digest_file(path: Path) -> Path:
    """Where the sha256 of a checkpoint lies."""
    return path.with_name(path.name + ".sha256")


def save(checkpoint: dict[str, Any], path: Path) -> None:
    """Writes a checkpoint and its sha256. The digest comes first: a checkpoint that is there always has one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()  # torch.save would hide a full disk behind a RuntimeError
    torch.save(checkpoint, buffer)
    data = buffer.getbuffer()
    write_atomically(digest_file(path), f"{hashlib.sha256(data).hexdigest()}  {path.name}\n")
    write_atomically(path, data)


def load(path: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Reads a checkpoint of zoo.train, checked first. Raises ZooError if it is missing, damaged, of another kind or format."""
    checkpoint = read(path, device)
    if "config" not in checkpoint["zoo"]:
        raise ZooError(f"The checkpoint {path} was not written by zoo.train; use one that was.")
    check_format(checkpoint["zoo"].get("format", 1), f"The checkpoint {path}")
    return checkpoint


def read(path: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Reads a checkpoint of one of the zoo's models by any Trainer.

    Raises ZooError if it is missing, damaged, or holds anything but tensors and plain containers, or another model.
    """
    if not path.is_file():
        raise ZooError(f"There is no checkpoint {path}; name a run's folder or a .ckpt file in its {CHECKPOINTS}/ folder.")
    sidecar = digest_file(path)
    if sidecar.is_file() and sidecar.read_text().split()[:1] != [sha256_of(path)]:
        raise ZooError(f"The checkpoint {path} is damaged: its sha256 is not the one in {sidecar.name}; use an earlier one of the run.")
    try:
        if not sidecar.is_file() and (broken := zipfile.ZipFile(path).testzip()):  # torch.load does not look at the archive's CRC
            raise ValueError(f"{broken} does not match its CRC")
        checkpoint = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError:
        raise ZooError(
            f"The checkpoint {path} is refused: it holds code or objects, not only tensors and plain containers; "
            f"use one written by zoo.train."
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = (str(error) or "it ends too early").splitlines()[0][:80]
        raise ZooError(f"The checkpoint {path} is damaged ({reason}); use an earlier one of the run.") from None
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint or not isinstance(checkpoint.get("zoo"), dict):
        raise ZooError(
            f"The checkpoint {path} was not written by zoo.train, nor by a Trainer of one of the zoo's models; use one that was."
        )
    return checkpoint


def remove_leftovers(run: Path) -> None:
    """Removes what a killed process was writing."""
    for path in (run / CHECKPOINTS).glob(".*.ckpt*"):
        path.unlink()


def all_of(run: Path) -> list[Path]:
    """The checkpoints of a run, newest (most images) first; by the number in their name, never by time stamps."""
    found = [path for path in (run / CHECKPOINTS).glob("*.ckpt") if path.stem.isdigit()]
    return sorted(found, key=lambda path: int(path.stem), reverse=True)


def newest_good(run: Path) -> tuple[Path, dict[str, Any]]:
    """The newest checkpoint of a run that loads. A broken one is named on stderr and the one before it is used."""
    candidates = all_of(run)
    if not candidates:
        raise ZooError(f"The run {run} has no checkpoint; it was stopped before the first one was written, so start it anew.")
    problems = []
    for path in candidates:
        try:
            return path, load(path)
        except ZooError as error:
            problems.append(str(error))
            print(error, file=sys.stderr)
    raise ZooError(f"None of the {len(candidates)} checkpoints of {run} can be used: {problems[0]}")


def check_safe(checkpoint: dict[str, Any]) -> None:
    """Raises ZooError if a checkpoint could be written but not read again, and names the part that holds more than plain data."""
    if is_safe(checkpoint):
        return
    callbacks = {f"the state of the callback {name}": state for name, state in checkpoint.get("callbacks", {}).items()}
    parts = callbacks | {f"the part '{name}'": part for name, part in checkpoint.items() if name != "callbacks"}
    unsafe = " and ".join(name for name, part in parts.items() if not is_safe(part))
    raise ZooError(
        f"No checkpoint can be written: {unsafe} holds objects, and checkpoints hold only tensors, numbers, text and plain containers; "
        f"let it give plain data (state_dict), or leave it out."
    )


def is_safe(part: Any) -> bool:
    """Whether torch.load reads it back with weights_only."""
    buffer = io.BytesIO()
    try:
        torch.save(part, buffer)
        buffer.seek(0)
        torch.load(buffer, weights_only=True)
    except (pickle.PickleError, AttributeError, TypeError):
        return False
    return True


class SafeCheckpointIO(CheckpointIO):
    """Lets Lightning write and read checkpoints by the functions above."""

    def __init__(self) -> None:
        self.failed: str | None = None  # why the last save failed; training goes on
        self._safe = False  # whether the first checkpoint was read back

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if not self._safe:
            check_safe(checkpoint)
            self._safe = True
        try:
            save(checkpoint, Path(path))
            self.failed = None
        except OSError as error:
            reason = "the disk is full" if error.errno == errno.ENOSPC else str(error)
            self.failed = f"The checkpoint {path} could not be written ({reason}); earlier ones are intact: make room and resume."
            print(self.failed, file=sys.stderr)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return load(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            digest_file(Path(path)).unlink()
