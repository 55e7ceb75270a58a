"""The packed store: a data set decoded once into one memory-mapped uint8 array, with everything needed to trust it.

    cache/<name>-<image_size>-<12 hex of what decides its content>/
        images.npy       (N, C, H, W) uint8, memory-mapped
        attributes.npy   (N, A) uint8        splits.npy   (N,) uint8        factors.npy   (N, F) float32, where they are known
        names.txt        N lines             manifest.json   settings, counts, sha256 of sources and of each file above

It is built under a lock in a folder beside its target, fsynced and renamed, so that it is there completely or not at all,
whatever is killed when. Other settings or other files give another folder; nothing is ever changed in place.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from zoo.data.source import SPLITS, Listing, Source
from zoo.errors import ZooError
from zoo.files import locked, read_json, sha256_of, sync_folder, write_atomically
from zoo.progress import chunks

STORE_FORMAT = 1
CHUNK = 256  # images read at once
SHOWN = 20  # bad images named in an error


class Store:
    """An opened store: plain arrays, read-only, cheap to open as often as wanted.

    On disk: `images` (N, C, H, W) uint8. In memory: `attributes` (N, A) uint8 in {0, 1}, `splits` (N,), `factors` (N, F) or None.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]):
        self.path = path
        self.manifest = manifest
        self.images: np.memmap = np.load(path / "images.npy", mmap_mode="r")
        self.attributes: np.ndarray = np.load(path / "attributes.npy")
        self.splits: np.ndarray = np.load(path / "splits.npy")
        self.factors: np.ndarray | None = np.load(path / "factors.npy") if "factors.npy" in manifest["files"] else None
        self.attribute_names: tuple[str, ...] = tuple(manifest["attribute_names"])
        self.factor_names: tuple[str, ...] = tuple(manifest["factor_names"])

    @classmethod
    def open(cls, path: Path, verify: bool = False) -> "Store":
        """Opens a store: checks sizes, with `verify` every sha256. Raises ZooError if there is none, or a file is missing or damaged."""
        manifest = _read_manifest(path)
        if not manifest:
            raise ZooError(f"there is no store of format {STORE_FORMAT} in {path}: prepare the data first (python -m zoo.prepare).")
        remedy = f"the store is damaged: delete the folder {path} and start again, it will be built anew."
        for name, file in manifest["files"].items():
            if not (path / name).is_file():
                raise ZooError(f"{path / name} is missing; {remedy}")
            if (size := (path / name).stat().st_size) != file["bytes"]:
                raise ZooError(f"{path / name} has {size:,} bytes instead of {file['bytes']:,}; {remedy}")
            if verify and sha256_of(path / name) != file["sha256"]:
                raise ZooError(f"{path / name} does not match its sha256; {remedy}")
        return cls(path, manifest)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def channels(self) -> int:
        return self.images.shape[1]

    @property
    def image_size(self) -> int:
        """Height = width in pixels."""
        return self.images.shape[2]

    @property
    def original_values(self) -> int:
        """Values of an image without what it was padded with: C·H·W of the source."""
        side = self.image_size - 2 * self.manifest["settings"].get("pad", 0)
        return self.channels * side**2

    @cached_property
    def has_classes(self) -> bool:
        """Whether the attributes are one-hot classes: each image has exactly one."""
        return self.attributes.shape[1] > 1 and bool((self.attributes.sum(1) == 1).all())

    @cached_property
    def names(self) -> list[str]:
        """N names, in the order of the images."""
        return (self.path / "names.txt").read_bytes().decode("utf-8", "surrogateescape").split("\n")[:-1]

    @cached_property
    def sha256(self) -> str:
        """One hash of the content (pixels, attributes, splits, factors, names), the same wherever it was built."""
        return _json_sha256({name: file["sha256"] for name, file in self.manifest["files"].items()})

    def indices(self, split: str) -> np.ndarray:
        """Positions of a split's images, sorted: (n,) int64. Raises ZooError for an unknown split."""
        if split not in SPLITS:
            raise ZooError(f"there is no split '{split}': choose one of {', '.join(SPLITS)}.")
        return np.flatnonzero(self.splits == SPLITS.index(split))


def prepare(
    source: Source, cache: Path, skip_bad: bool = False, verify: bool = True, approve: Callable[[Listing], None] = lambda listing: None
) -> Store:
    """The store of a source: verified and opened if it is there, built otherwise, where `approve` may raise before an image is decoded.

    Bad images are an error that names them all, or with `skip_bad` left out together with their attributes, split, factors and
    name. Of several processes at once one builds and the others wait. Raises ZooError for bad images, a damaged store, a full
    disk or a folder that cannot be written to.
    """
    key = {"format": STORE_FORMAT, "settings": source.settings(), "fingerprint": source.fingerprint(), "skip_bad": skip_bad}
    path = cache / f"{source.name}-{source.image_size}-{_json_sha256(key)[:12]}"
    if not _fits(path, key):
        with locked(cache / source.name, f"preparing '{source.name}'"):
            for leftover in cache.glob(f".{source.name}.building-*"):  # by a killed builder: nobody else writes there under the lock
                shutil.rmtree(leftover, ignore_errors=True)
            if not _fits(path, key):  # it may have been built while we waited
                _build(source, path, key, approve)
                return Store.open(path)  # hashed a moment ago
    return Store.open(path, verify)


def _build(source: Source, path: Path, key: dict[str, Any], approve: Callable[[Listing], None]) -> None:
    """Reads the whole source into a folder beside `path`, then renames it into place. Leaves nothing behind if it fails."""
    listing = source.scan()
    count = len(listing.names)
    _check(source, listing)
    approve(listing)
    shape = (source.channels, source.image_size, source.image_size)
    factor_bytes = 0 if listing.factors is None else listing.factors.nbytes
    needed = count * int(np.prod(shape)) + listing.attributes.nbytes + factor_bytes + sum(map(len, listing.names)) + 2**20
    if shutil.disk_usage(path.parent).free < needed:
        raise _disk_full(path.parent, needed)
    temporary = path.with_name(f".{source.name}.building-{os.getpid()}")
    try:
        temporary.mkdir()
        sources = hashlib.sha256(json.dumps(sorted(listing.digests.items())).encode())
        with open(temporary / "images.npy", "wb") as file:
            bad = _write_images(source, count, key["skip_bad"], file, sources)
        if bad and not key["skip_bad"]:
            raise _bad_images(source.name, path.parent, listing.names, bad)
        valid = np.setdiff1d(np.arange(count), list(bad))
        if len(valid) == 0:
            raise ZooError(f"none of the {count:,} images of '{source.name}' can be read; the first: {listing.names[0]}: {bad[0]}.")
        _write_tables(temporary, listing, valid)
        files = {file.name: {"bytes": file.stat().st_size, "sha256": sha256_of(file)} for file in sorted(temporary.iterdir())}
        manifest = {
            **key,
            "name": source.name,
            "image_size": source.image_size,
            "attribute_names": list(source.attribute_names),
            "factor_names": list(source.factor_names),
            "counts": {split: int((listing.splits[valid] == i).sum()) for i, split in enumerate(SPLITS)},
            "dropped": {listing.names[i]: reason for i, reason in sorted(bad.items())},
            "sources_sha256": sources.hexdigest(),
            "files": files,
        }
        text = json.dumps({**manifest, "sha256": _json_sha256(manifest)}, indent=1)
        write_atomically(temporary / "manifest.json", text)
        if path.exists():  # written by another version or with a broken manifest
            os.rename(path, temporary.with_name(f"{temporary.name}-old"))
        os.rename(temporary, path)
        sync_folder(path.parent)
        _bad_list(path.parent, source.name).unlink(missing_ok=True)  # of an earlier try
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            shutil.rmtree(temporary, ignore_errors=True)
            raise _disk_full(path.parent, needed) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(temporary.with_name(f"{temporary.name}-old"), ignore_errors=True)


def _write_images(source: Source, count: int, skip_bad: bool, file: BinaryIO, sources: Any) -> dict[int, str]:
    """Writes the good images as .npy and returns the bad ones: position -> reason.

    With plain writes, not through a memory map: there a full disk is an exception, here it would be a SIGBUS.
    """
    shape = (source.channels, source.image_size, source.image_size)
    bad: dict[int, str] = {}
    _write_header(file, (count, *shape))
    with closing(chunks(count, CHUNK, f"preparing {source.name}")) as pieces:  # so that the bar is gone before an error is shown
        for start, stop in pieces:
            chunk = source.read(start, stop)
            if chunk.images.shape != (stop - start, *shape) or chunk.images.dtype != np.uint8:
                raise ValueError(
                    f"{type(source).__name__}.read gave {chunk.images.dtype} {chunk.images.shape}, not uint8 {(stop - start, *shape)}"
                )
            for digest in chunk.digests:
                sources.update(digest.encode())
            bad.update({start + row: reason for row, reason in chunk.errors.items()})
            if skip_bad or not bad:  # else go on only to find all bad ones
                file.write(np.delete(chunk.images, list(chunk.errors), axis=0).tobytes())
    if bad and skip_bad:
        file.seek(0)
        _write_header(file, (count - len(bad), *shape))  # numpy pads it, so that it keeps its length
    file.flush()
    os.fsync(file.fileno())
    return bad


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _write_tables(folder: Path, listing: Listing, valid: np.ndarray) -> None:
    tables = {"attributes": listing.attributes, "splits": listing.splits, "factors": listing.factors}
    for name, table in tables.items():
        if table is not None:
            write_atomically(folder / f"{name}.npy", partial(np.save, arr=table[valid]))
    names = "".join(f"{listing.names[i]}\n" for i in valid).encode("utf-8", "surrogateescape")
    write_atomically(folder / "names.txt", names)


def _check(source: Source, listing: Listing) -> None:
    """The listing must hang together, or images and attributes would be paired wrongly."""
    count, rows = len(listing.names), [len(listing.splits), len(listing.attributes)]
    if count == 0:
        raise ZooError(f"'{source.name}' holds no images.")
    if listing.factors is not None:
        rows.append(len(listing.factors))
    if any(n != count for n in rows) or listing.attributes.shape[1] != len(source.attribute_names):
        raise ValueError(f"{type(source).__name__}.scan: {count} names, but {rows} rows, {listing.attributes.shape[1]} attributes")
    if len(set(listing.names)) < count or any("\n" in name for name in listing.names):
        raise ZooError(f"'{source.name}' has doubled names or line breaks in names: rename those files.")


def _bad_images(name: str, cache: Path, names: list[str], bad: dict[int, str]) -> ZooError:
    """The error that names all bad images: the first in the sentence, all of them in a file."""
    lines = [f"{names[i]}: {reason}" for i, reason in sorted(bad.items())]
    path = _bad_list(cache, name)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")
    shown = "".join(f"\n  {line}" for line in lines[:SHOWN])
    more = f"and {len(lines) - SHOWN:,} more; the full list is in {path}" if len(lines) > SHOWN else f"this list is also in {path}"
    return ZooError(
        f"{len(lines):,} of {len(names):,} images of '{name}' cannot be used: repair them, "
        f"or leave them out with data.skip_bad=true:{shown}\n  {more}"
    )


def _bad_list(cache: Path, name: str) -> Path:
    return cache / f"{name}-bad-images.txt"


def _disk_full(cache: Path, needed: int) -> ZooError:
    free = shutil.disk_usage(cache).free
    return ZooError(
        f"the store needs {needed / 1e6:,.1f} MB and {cache} has {free / 1e6:,.1f} MB free: "
        "make room, or choose another folder with data.cache=DIR."
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest; empty if there is none, it is of another format, or it does not match its own sha256."""
    manifest = read_json(folder / "manifest.json")
    digest = manifest.pop("sha256", None)
    return manifest if manifest.get("format") == STORE_FORMAT and digest == _json_sha256(manifest) else {}


def _fits(path: Path, key: dict[str, Any]) -> bool:
    manifest = _read_manifest(path)
    return _json_sha256({name: manifest.get(name) for name in key}) == _json_sha256(key)


def _json_sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
