"""`data=mnist`, `fashion_mnist`, `cifar10`, `svhn`: the small data sets that come as arrays, in torchvision's own folder layouts.

Nothing is downloaded. `torchvision.datasets` is not used to read them: it unpickles CIFAR-10 without restriction. Here an unpickler that
knows arrays and containers only does it.

The official train and test parts are kept; val is 5,000 images of train, chosen by name. Attributes are the classes, one-hot.
"""

import gzip
import hashlib
import pickle
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from zoo.data.folder import fingerprint, open_root, split_by_name
from zoo.data.images import DECODER, FILTER, resize, to_array
from zoo.data.source import SPLITS, Chunk, Listing, Source
from zoo.errors import ZooError

VAL = 5_000
DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

Part = tuple[np.ndarray, np.ndarray]  # images (N, C, H, W) uint8, labels (N,)


class Layout(NamedTuple):
    """Where a data set's files lie below the root, and what is in them."""

    size: int  # pixels, height = width
    channels: int
    classes: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    parse: Callable[[list[bytes]], Part]  # the contents of `train` or `test`; raises anything but ZooError for damaged ones


class Arrays(Source):
    """A data set of labelled arrays.

    layout: mnist, fashion_mnist, cifar10 or svhn.
    root: the folder that holds the layout's files, as `torchvision.datasets` leaves them (a .gz beside or in place of a file is read too).
    image_size: pixels; the native size, 32 for a 28-pixel data set (2 pixels of 0 around, as ACAI pads MNIST), or any other (antialiased
        bicubic resize). None means native.

    Names are train/000000, … and test/000000, … in the order of the files; train holds val.
    """

    def __init__(self, layout: str, root: str | Path | None = None, image_size: int | None = None) -> None:
        self.layout, self.root = LAYOUTS[layout], root
        self.name, self.channels, self.attribute_names = layout, self.layout.channels, self.layout.classes
        self.image_size = self.layout.size if image_size is None else image_size
        if self.image_size < 1:
            raise ZooError(f"data.image_size={image_size} is not possible: choose at least 1, or {self.layout.size}, the native size.")
        self._images: Any = None  # after `scan` (N, C, H, W) at native size, train before test

    def settings(self) -> dict[str, Any]:
        resized = {} if self._pad is not None else {"filter": FILTER, "decoder": DECODER}
        return {"source": self.name, "size": self.image_size, "val": VAL} | resized | ({"pad": self._pad} if self._pad else {})

    def fingerprint(self) -> str:
        return fingerprint(self._locate(self.layout.train) + self._locate(self.layout.test))

    def scan(self) -> Listing:
        """Raises ZooError for missing, truncated or damaged files."""
        digests: dict[str, str] = {}
        (train, train_labels), (test, test_labels) = (self._parse(files, digests) for files in (self.layout.train, self.layout.test))
        names = [f"train/{row:06d}" for row in range(len(train))] + [f"test/{row:06d}" for row in range(len(test))]
        splits = np.full(len(names), SPLITS.index("test"), np.uint8)
        splits[: len(train)] = split_by_name(names[: len(train)], val=min(VAL, max(1, len(train) // 10)), test=0)
        labels = np.concatenate([train_labels, test_labels]).astype(np.int64)
        self._images = np.concatenate([train, test])
        return Listing(names, splits, np.eye(len(self.attribute_names), dtype=np.uint8)[labels], digests=digests)

    def read(self, start: int, stop: int) -> Chunk:
        if self._images is None:
            self.scan()
        images = self._images[start:stop]
        if self._pad is not None:
            sides = (self._pad, self._pad)
            return Chunk(np.pad(images, ((0, 0), (0, 0), sides, sides)))
        originals = [Image.fromarray(image[0] if self.channels == 1 else image.transpose(1, 2, 0)) for image in images]
        return Chunk(np.stack([to_array(resize(image, self.image_size)) for image in originals]))

    @property
    def _pad(self) -> int | None:
        """Pixels of 0 on each side; None where the images are resized instead."""
        return {(28, 28): 0, (28, 32): 2, (32, 32): 0}.get((self.layout.size, self.image_size))

    def _locate(self, files: tuple[str, ...]) -> list[Path]:
        expected = f"{files[0]} (torchvision's layout)"
        root = open_root(self.root, self.name, expected)
        found = []
        for file in files:
            paths = [path for path in (root / file, root / f"{file}.gz") if path.is_file()]
            if not paths:
                raise ZooError(f"The folder {root} has no {file}: data={self.name} expects torchvision's layout in it; set data.root=DIR.")
            found.append(paths[0])
        return found

    def _parse(self, files: tuple[str, ...], digests: dict[str, str]) -> Part:
        paths = self._locate(files)
        where = " or ".join(path.name for path in paths)
        try:
            contents = [path.read_bytes() for path in paths]
            plain = [gzip.decompress(data) if path.suffix == ".gz" else data for path, data in zip(paths, contents, strict=True)]
            images, labels = self.layout.parse(plain)
            shape = (self.layout.channels, self.layout.size, self.layout.size)
            if images.dtype != np.uint8 or images.shape != (len(labels), *shape) or not len(labels):
                raise ValueError(f"{len(labels)} labels for images {images.shape} of {images.dtype}")
            if labels.min() < 0 or labels.max() >= len(self.layout.classes):
                raise ValueError(f"labels from {labels.min()} to {labels.max()}")
        except Exception as error:  # what pickle, gzip and SciPy raise for damaged files is of any kind
            raise ZooError(f"{where} in {paths[0].parent} is damaged or truncated ({error}): download it again.") from error
        digests |= {path.name: hashlib.sha256(data).hexdigest() for path, data in zip(paths, contents, strict=True)}
        return images, labels


def parse_idx(data: bytes) -> np.ndarray:
    """An array of uint8 in LeCun's IDX format: two zeros, type 8, number of dimensions, big-endian sizes, values. Raises ValueError."""
    if data[:3] != b"\0\0\x08" or len(data) < 4 + 4 * data[3]:
        raise ValueError("not an IDX file of bytes")
    shape = np.frombuffer(data, ">u4", data[3], 4).astype(int)
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3])
    if len(values) != shape.prod():
        raise ValueError(f"{len(values)} values where {shape.prod()} are announced")
    return values.reshape(shape)


def _parse_mnist(files: list[bytes]) -> Part:
    images, labels = (parse_idx(data) for data in files)
    return images[:, None], labels


class _ArrayUnpickler(pickle.Unpickler):
    """Builds arrays and plain containers; anything else in the file is refused before it can run."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core", "numpy._core")  # numpy 1 wrote the old name
        known = {
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy._core.numeric", "_frombuffer"),
            ("_codecs", "encode"),
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no data file needs")
        return super().find_class(module, name)


def _parse_cifar10(files: list[bytes]) -> Part:
    batches = [_ArrayUnpickler(BytesIO(data), encoding="latin1").load() for data in files]
    images = np.concatenate([batch["data"] for batch in batches])
    return images.reshape(-1, 3, 32, 32), np.concatenate([np.asarray(batch["labels"]) for batch in batches])


def _parse_svhn(files: list[bytes]) -> Part:
    from scipy.io import loadmat  # slow to import, and only SVHN needs it

    content = loadmat(BytesIO(files[0]))
    return content["X"].transpose(3, 2, 0, 1), content["y"].reshape(-1).astype(int) % 10  # (32, 32, 3, N); 10 means digit 0


def _idx_layout(folder: str, classes: tuple[str, ...]) -> Layout:
    train, test = ((f"{folder}/raw/{part}-images-idx3-ubyte", f"{folder}/raw/{part}-labels-idx1-ubyte") for part in ("train", "t10k"))
    return Layout(28, 1, classes, train, test, _parse_mnist)


_BATCHES = tuple(f"cifar-10-batches-py/data_batch_{k}" for k in range(1, 6))
LAYOUTS = {
    "mnist": _idx_layout("MNIST", DIGITS),  # 55,000 + 5,000 + 10,000 grey digits
    "fashion_mnist": _idx_layout("FashionMNIST", CLOTHES),  # 55,000 + 5,000 + 10,000 grey pieces of clothing
    "cifar10": Layout(32, 3, OBJECTS, _BATCHES, ("cifar-10-batches-py/test_batch",), _parse_cifar10),  # 45,000 + 5,000 + 10,000 photos
    "svhn": Layout(32, 3, DIGITS, ("train_32x32.mat",), ("test_32x32.mat",), _parse_svhn),  # 68,257 + 5,000 + 26,032, no `extra`
}
