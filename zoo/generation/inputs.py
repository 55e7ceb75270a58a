"""Image files as a model's input, cut and resized exactly as its training images were."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.batch import Batch, to_float
from zoo.data.images import SUFFIXES, BadImage, ImageDecoder
from zoo.errors import ZooError
from zoo.progress import chunks

ALIGNED = (178, 218)  # pixels of CelebA's files; its crop is meant for these alone


def image_files(given: Any) -> list[Path]:
    """The files that `image=` names: one file, a folder (its images, by name), or a list of these. Raises ZooError if there are none."""
    names = [given] if isinstance(given, str | int | float) else list(given)
    files: list[Path] = []
    for name in names:
        path = Path(str(name)).expanduser()
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
            if not found:
                raise ZooError(f"The folder {path} holds no images ({', '.join(suffix[1:] for suffix in SUFFIXES)}); set another image=.")
            files += found
        else:
            files.append(path)
    if not files:
        raise ZooError("image=[] names no file; give image=FILE, image=[FILE,FILE] or image=FOLDER.")
    return files


def read_images(files: list[Path], shape: tuple[int, ...], source: dict[str, Any]) -> Tensor:
    """Decodes image files as the data set `source` (its configuration) decodes its own: (N, C, H, W) in [-1, 1], `shape` = (C, H, W).

    Kept is the largest centred square, or the one of `source`'s crop; CelebA's crop is for its aligned faces, so that a file of another
    size than theirs keeps its largest square. Raises ZooError that names the first file that cannot be used, and the reason.
    """
    images = np.stack([decode(files[k], shape, source) for k, _ in chunks(len(files), 1, "reading pictures")])
    return to_float(Batch(torch.from_numpy(images), torch.zeros(len(files), 0), torch.arange(len(files)))).image


def decode(file: Path, shape: tuple[int, ...], source: dict[str, Any]) -> np.ndarray:
    """One file as uint8 (C, H, W)."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ZooError(f"The picture {file} cannot be read ({error.strerror}); give image=FILE, a list of files, or a folder.") from None
    crop = source.get("crop")
    if source.get("_target_") == "zoo.data.celeba.CelebA" and size_of(data) != ALIGNED:
        crop = None
    try:
        return ImageDecoder(shape[1], shape[0], crop, convert=True).decode(data)
    except BadImage as error:
        raise ZooError(f"The picture {file} cannot be used ({error}); repair it, or give another one.") from None


def size_of(data: bytes) -> tuple[int, int] | None:
    """Width and height of an image file; None if it is none."""
    try:
        with Image.open(BytesIO(data)) as image:
            return image.size
    except Exception:  # whatever Pillow raises, `decode` finds the reason
        return None
