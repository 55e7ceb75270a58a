"""Image files: from bytes to uint8 squares, strictly and with reasons.

Pillow decodes. A file that ends too early, is no image or has the wrong mode is an error with a reason, never a guess: bad files are
collected over the whole data set and listed together. Only a sha256 finds a flipped bit in a JPEG, so every file is hashed as it is read.

The order is: decode, turn as EXIF says (what a viewer shows), centre crop, resize. The resize is Pillow's bicubic filter, which widens with
the reduction and so does not alias; ACAI, VAE-GAN and clean-fid also use bicubic.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import PIL
from PIL import Image, ImageFile, ImageOps, features

from zoo.data.source import Chunk
from zoo.errors import ZooError

DECODER = f"pillow {PIL.__version__}, libjpeg-turbo {features.version_feature('libjpeg_turbo')}"
FILTER = "pillow bicubic, antialiased"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_FORMATS = {b"\xff\xd8": "JPEG", b"\x89PNG": "PNG", b"RIFF": "WEBP", b"BM": "BMP"}  # first bytes -> Pillow's name


class BadImage(Exception):
    """Why one image file cannot be used: a short reason, without the file's name."""


@dataclass(frozen=True)
class ImageDecoder:
    """How the bytes of an image file become (channels, size, size) uint8.

    size: pixels, height = width of the result.
    channels: 3 (RGB) or 1 (grey).
    crop: side in pixels of the centred square that is kept; None keeps the largest one.
    convert: also accept the other of grey and RGB, palettes and bilevel images, and convert them; otherwise a file of another mode is bad.
        Alpha, CMYK and more than 8 bits per channel are always bad: how to flatten them is the owner's decision.

    Raises ZooError for values out of range.
    """

    size: int
    channels: int = 3
    crop: int | None = None
    convert: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ZooError(f"data.image_size={self.size} is not possible: choose at least 1 pixel.")
        if self.crop is not None and self.crop < 1:
            raise ZooError(f"data.crop={self.crop} is not possible: choose at least 1 pixel, or null for the largest centred square.")
        if self.channels not in (1, 3):
            raise ZooError(f"data.channels={self.channels} is not possible: choose 3 (RGB) or 1 (grey).")

    def settings(self) -> dict[str, Any]:
        """Everything that decides the pixels, for a store's manifest."""
        shape = {"size": self.size, "channels": self.channels, "crop": self.crop, "convert": self.convert}
        return shape | {"filter": FILTER, "orientation": "exif", "decoder": DECODER}

    def decode(self, data: bytes) -> np.ndarray:
        """The image in `data`, a whole file, as (channels, size, size) uint8. Raises BadImage with the reason."""
        if not data:
            raise BadImage("empty file")
        kind = next((name for start, name in _FORMATS.items() if data.startswith(start)), None)
        if kind is None:
            raise BadImage("not an image but a web page" if data.lstrip()[:1] == b"<" else "not an image")
        try:
            with Image.open(BytesIO(data), formats=[kind]) as image:
                self._check(image)
                image.load()
                ImageOps.exif_transpose(image, in_place=True)
                square = centre_crop(image, self.crop)
        except BadImage:
            raise
        except Exception as error:  # a damaged file makes Pillow raise nearly anything: OSError, SyntaxError, struct.error, ...
            truncated = "truncated" in str(error).lower()
            raise BadImage(f"truncated {kind}" if truncated else f"damaged {kind} ({type(error).__name__})") from error
        return to_array(resize(square if square.mode == self._mode else square.convert(self._mode), self.size))

    @property
    def _mode(self) -> str:
        return "RGB" if self.channels == 3 else "L"

    def _check(self, image: ImageFile.ImageFile) -> None:
        need = self._mode
        if getattr(image, "is_animated", False) and image.format != "MPO":  # MPO: a telephone's JPEG with a preview behind it
            raise BadImage("animated, save one frame of it")
        if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
            raise BadImage(f"mode {image.mode} with transparency, need {need}: put it on a background first")
        if image.mode.startswith("I") or (image.format == "PNG" and "16" in str(image.tile[0][3])):  # Pillow cuts colour PNGs to 8 bits
            raise BadImage(f"more than 8 bits per channel, need mode {need}: convert it first")
        if image.mode != need and not (self.convert and image.mode in ("RGB", "L", "P", "1")):
            raise BadImage(f"mode {image.mode}, need {need}" + (": convert it first" if self.convert else ""))
        if self.crop is not None and min(image.size) < self.crop:
            raise BadImage(f"size {image.width}×{image.height} is smaller than the crop {self.crop}")


def centre_crop(image: Image.Image, crop: int | None) -> Image.Image:
    """The centred square of `crop` pixels, or the largest one; odd margins leave the extra pixel right and below."""
    side = crop or min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def resize(image: Image.Image, size: int) -> Image.Image:
    """The square image at size × size, antialiased; unchanged if it has that size."""
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BICUBIC)


def to_array(image: Image.Image) -> np.ndarray:
    """(C, H, W) uint8 of an RGB or grey image."""
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def decode_all(load: Callable[[str], bytes], names: Sequence[str], decoder: ImageDecoder) -> Chunk:
    """Reads, hashes and decodes the files `names`, one thread per core: a row of the Chunk for each.

    `load` gives the bytes of a file, in any thread, or raises. Nothing is raised for a bad file; one that cannot be read has no sha256.
    """
    images = np.zeros((len(names), decoder.channels, decoder.size, decoder.size), np.uint8)

    def work(row: int) -> tuple[str, str]:  # digest, reason
        try:
            data = load(names[row])
        except FileNotFoundError:
            return "", "missing file"
        except Exception as error:  # disk errors, a zip's checksum, an unknown compression
            return "", f"cannot be read ({error})"
        digest = hashlib.sha256(data).hexdigest()
        try:
            images[row] = decoder.decode(data)
        except BadImage as error:
            return digest, str(error)
        return digest, ""

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(work, range(len(names))))
    return Chunk(images, {row: reason for row, (_, reason) in enumerate(results) if reason}, [digest for digest, _ in results])
