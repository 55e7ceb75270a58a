"""Tiny data sets in the layouts of the real ones."""

import gzip
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

ATTRIBUTES = (*(f"Attribute_{k}" for k in range(38)), "Eyeglasses", "Smiling")


def smooth_image(rng: np.random.Generator, width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A random image without sharp edges, so that JPEG keeps it well."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    coarse = rng.integers(0, 256, (5, 4, bands), np.uint8)
    planes = [Image.fromarray(coarse[..., band]).resize((width, height), Image.Resampling.BICUBIC) for band in range(bands)]
    return planes[0] if bands == 1 else Image.merge(mode, planes)


def make_celeba(root: Path, count: int = 20, seed: int = 0, zipped: bool = False) -> np.ndarray:
    """CelebA's layout with `count` images of 178×218: 60 % train, 20 % val, 20 % test. Returns the attributes (count, 40) in {0, 1}."""
    rng = np.random.default_rng(seed)
    folder = root / "img_align_celeba"
    folder.mkdir(parents=True)
    names = [f"{k + 1:06d}.jpg" for k in range(count)]
    for name in names:
        smooth_image(rng, 178, 218).save(folder / name, quality=90)
    attributes = rng.integers(0, 2, (count, len(ATTRIBUTES)), np.uint8)
    write_attributes(root / "list_attr_celeba.txt", names, attributes)
    splits = [0 if k < 0.6 * count else 1 if k < 0.8 * count else 2 for k in range(count)]
    (root / "list_eval_partition.txt").write_text("".join(f"{name} {split}\n" for name, split in zip(names, splits, strict=True)))
    if zipped:
        zip_images(root)
    return attributes


def zip_images(root: Path) -> None:
    """Packs img_align_celeba into the zip and removes the folder."""
    with zipfile.ZipFile(root / "img_align_celeba.zip", "w") as archive:
        archive.writestr("img_align_celeba/", "")
        for path in sorted((root / "img_align_celeba").iterdir()):
            archive.write(path, f"img_align_celeba/{path.name}")
    shutil.rmtree(root / "img_align_celeba")


def write_attributes(path: Path, names: list[str], attributes: np.ndarray) -> None:
    """CelebA's attribute table: count, names of columns, rows of -1 and 1."""
    rows = [f"{name} " + " ".join(f"{2 * int(value) - 1:2d}" for value in row) for name, row in zip(names, attributes, strict=True)]
    path.write_text("\n".join([str(len(names)), " ".join(ATTRIBUTES), *rows]) + "\n")


def make_celeba_hq(root: Path, count: int = 20, side: int = 96) -> np.ndarray:
    """CelebAMask-HQ's layout with `count` images. Returns the attributes (count, 40) in {0, 1}."""
    rng = np.random.default_rng(1)
    (root / "CelebA-HQ-img").mkdir(parents=True)
    names = [f"{k}.jpg" for k in range(count)]
    for name in names:
        smooth_image(rng, side, side).save(root / "CelebA-HQ-img" / name)
    attributes = rng.integers(0, 2, (count, len(ATTRIBUTES)), np.uint8)
    write_attributes(root / "CelebAMask-HQ-attribute-anno.txt", names, attributes)
    return attributes


def idx_bytes(array: np.ndarray) -> bytes:
    """A uint8 array in the IDX format of MNIST."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def make_mnist(root: Path, train: int = 40, test: int = 12, folder: str = "MNIST", packed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """MNIST's layout. Returns images (train + test, 28, 28) uint8 and labels, train first."""
    rng = np.random.default_rng(2)
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    images = rng.integers(0, 256, (train + test, 28, 28), np.uint8)
    labels = np.arange(train + test) % 10
    for part, rows in (("train", slice(train)), ("t10k", slice(train, None))):
        for kind, array in (("images-idx3-ubyte", images[rows]), ("labels-idx1-ubyte", labels[rows])):
            path, data = raw / f"{part}-{kind}", idx_bytes(array)
            (path.with_name(f"{path.name}.gz") if packed else path).write_bytes(gzip.compress(data) if packed else data)
    return images, labels


def make_cifar(root: Path, per_batch: int = 8, test: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR-10's layout, five batches. Returns images (N, 3, 32, 32) uint8 and labels, train first."""
    rng = np.random.default_rng(3)
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    counts = {f"data_batch_{k}": per_batch for k in range(1, 6)} | {"test_batch": test}
    images = rng.integers(0, 256, (sum(counts.values()), 3072), np.uint8)
    labels = [int(label) for label in rng.integers(0, 10, len(images))]
    start = 0
    for name, count in counts.items():
        rows = slice(start, start + count)
        content = {"batch_label": name, "labels": labels[rows], "data": images[rows], "filenames": [f"{k}.png" for k in range(count)]}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        start += count
    return images.reshape(-1, 3, 32, 32), np.array(labels)


def make_svhn(root: Path, train: int = 30, test: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """SVHN's layout, label 10 for the digit 0. Returns images (N, 3, 32, 32) uint8 and digits, train first."""
    from scipy.io import savemat

    rng = np.random.default_rng(4)
    root.mkdir(parents=True, exist_ok=True)
    images = rng.integers(0, 256, (train + test, 3, 32, 32), np.uint8)
    digits = np.arange(train + test) % 10
    for part, rows in (("train", slice(train)), ("test", slice(train, None))):
        labels = np.where(digits[rows] == 0, 10, digits[rows]).astype(np.uint8)
        savemat(root / f"{part}_32x32.mat", {"X": images[rows].transpose(2, 3, 1, 0), "y": labels[:, None]}, do_compression=True)
    return images, digits


def make_folder(root: Path, names: list[str], size: tuple[int, int] = (40, 32), mode: str = "RGB") -> None:
    """Image files at these paths below root, in the format of their suffix."""
    rng = np.random.default_rng(5)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        smooth_image(rng, *size, mode).save(root / name)
