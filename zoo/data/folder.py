"""`data=folder`: any folder of images; and what all readers of files share (the root folder, fingerprints, splits by name)."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.images import SUFFIXES, ImageDecoder, decode_all
from zoo.data.source import SPLITS, Chunk, Listing, Source
from zoo.errors import ZooError

EXPECTED = f"images ({', '.join(suffix[1:] for suffix in SUFFIXES)}), or one sub-folder of them per class"


def open_root(root: str | Path | None, source: str, expected: str) -> Path:
    """The folder a source reads from. Raises ZooError if it is not given, not there or empty; `expected` says what belongs in it."""
    if root is None:
        raise ZooError(f"data={source} needs data.root=DIR, a folder with {expected}.")
    path = Path(root).expanduser()
    if not path.is_dir():
        raise ZooError(f"The folder {path} does not exist: data={source} expects {expected} in it; set data.root=DIR.")
    try:
        empty = not any(path.iterdir())
    except OSError as error:
        raise unreadable(error) from error
    if empty:
        raise ZooError(f"The folder {path} is empty: data={source} expects {expected} in it; set data.root=DIR.")
    return path


def unreadable(error: OSError) -> ZooError:
    """The sentence for a file or folder that is there but cannot be read."""
    return ZooError(f"{error.filename} cannot be read ({error.strerror}): restore it or its permissions, or set data.root=DIR.")


def fingerprint(paths: Iterable[str | Path]) -> str:
    """sha256 of the names (without folders), sizes and times of modification of files. Raises ZooError if one is not there."""
    digest = hashlib.sha256()
    try:
        for path in paths:
            status = os.stat(path)
            digest.update(f"{os.path.basename(path)} {status.st_size} {status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    except OSError as error:
        raise unreadable(error) from error
    return digest.hexdigest()


def split_by_name(names: Sequence[str], val: int, test: int, seed: int = 0) -> np.ndarray:
    """(N,) uint8, positions in SPLITS: `val` and `test` of the names, drawn by a hash of seed and name, in any order; the rest trains."""
    order = np.argsort([hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).hexdigest() for name in names], kind="stable")
    splits = np.zeros(len(names), np.uint8)
    splits[order[:val]] = SPLITS.index("val")
    splits[order[val : val + test]] = SPLITS.index("test")
    return splits


def natural(name: str) -> tuple[int, str]:
    """Sort key that puts 2.jpg before 10.jpg."""
    return len(name), name


class Folder(Source):
    """Any folder of images.

    root: holds the images, or one sub-folder per class (at any depth below), or train/, val/ and test/ with either in each.
    image_size: pixels, height = width.
    crop: side of the centred square that is kept, in pixels; None keeps the largest one.
    channels: 3 or 1; grey, palette and RGB files are converted.
    seed: for the split where there is no train/, val/ and test/: by name, 90 % / 5 % / 5 %, at least one image each.

    Names are paths below root, sorted. Classes are one-hot attributes; fewer than two sub-folders mean no classes. Hidden files and files
    that are no images are ignored.
    """

    name = "folder"
    attribute_names: tuple[str, ...] = ()  # known after `scan`

    def __init__(
        self, root: str | Path | None = None, image_size: int = 64, crop: int | None = None, channels: int = 3, seed: int = 0
    ) -> None:
        self.root, self.image_size, self.channels, self.seed = root, image_size, channels, seed
        self.decoder = ImageDecoder(image_size, channels, crop, convert=True)
        self._names: list[str] = []

    def settings(self) -> dict[str, Any]:
        return {"source": self.name, "seed": self.seed} | self.decoder.settings()

    def fingerprint(self) -> str:
        root, names = self._files()
        stats = fingerprint(f"{root}/{name}" for name in names)
        return hashlib.sha256("\n".join([stats, *names]).encode(errors="surrogateescape")).hexdigest()  # the folder is the class

    def scan(self) -> Listing:
        """Raises ZooError for fewer than 3 images, an empty split, images beside class folders, or train/ without val/ and test/."""
        root, names = self._files()
        folders = {name.split("/")[0] for name in names if "/" in name}
        if folders and not all("/" in name for name in names):
            raise ZooError(f"{root} holds images beside sub-folders with images: put each image into a sub-folder, or all into {root}.")
        if len(names) < 3:
            raise ZooError(f"{root} holds {len(names)} images, but train, val and test need at least one each; set data.root=DIR.")
        if folders == set(SPLITS):
            splits = np.array([SPLITS.index(name.split("/")[0]) for name in names], np.uint8)
            classes = [name.split("/")[1] if name.count("/") > 1 else "" for name in names]
        elif folders and (folders < set(SPLITS) or folders > set(SPLITS)):
            found = ", ".join(sorted(folders))
            raise ZooError(f"{root} has images in {found}, but splits need exactly train, val and test: add or move the sub-folders.")
        else:
            part = max(1, len(names) // 20)
            splits = split_by_name(names, part, part, self.seed)
            classes = [name.split("/")[0] if "/" in name else "" for name in names]
        kinds = sorted(set(classes))
        if "" in kinds and len(kinds) > 1:
            raise ZooError(f"{root} has images without a class, such as {names[classes.index('')]}: put each into a class's sub-folder.")
        self.attribute_names = tuple(kinds) if len(kinds) > 1 else ()
        attributes = np.array([[kind == own for kind in self.attribute_names] for own in classes], np.uint8)
        self._names = names
        return Listing(names, splits, attributes.reshape(len(names), len(self.attribute_names)))

    def read(self, start: int, stop: int) -> Chunk:
        if not self._names:
            self.scan()
        root = open_root(self.root, self.name, EXPECTED)
        return decode_all(lambda name: (root / name).read_bytes(), self._names[start:stop], self.decoder)

    def _files(self) -> tuple[Path, list[str]]:
        root = open_root(self.root, self.name, EXPECTED)
        names = []

        def refuse(error: OSError) -> None:
            raise unreadable(error)

        for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
            folders[:] = [name for name in folders if not name.startswith(".")]
            images = [name for name in files if not name.startswith(".") and name.lower().endswith(SUFFIXES)]
            names += [(Path(folder) / name).relative_to(root).as_posix() for name in images]
        if not names:
            raise ZooError(f"The folder {root} holds no images: data=folder expects {EXPECTED} in it; set data.root=DIR.")
        return root, sorted(names)
