"""Pictures inside an HTML file: data URLs, without loss where that is small enough, otherwise WebP."""

import base64
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image

QUALITIES = (95, 90, 80, 70, 60, 45, 30)  # of WebP, tried in this order; 95 is 40 dB and more above its error


class Picture(NamedTuple):
    """What an <img> needs."""

    url: str  # data:image/…;base64,…
    width: int  # pixels
    height: int


def embedded(path: Path, most: int) -> Picture | None:
    """A picture of at most `most` bytes (before base64), or as few as the lowest quality gives; None if the file cannot be read."""
    try:
        data = path.read_bytes()
        image = Image.open(BytesIO(data)).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # what Pillow raises for damaged files
        return None
    kind = "png"
    if len(data) <= 1.5 * most and len(lossless := _webp(image, lossless=True, method=0)) < len(data):  # saves a third at most
        kind, data = "webp", lossless
    for quality in QUALITIES:
        if len(data) <= most:
            break
        kind, data = "webp", _webp(image, quality=quality, method=2)
    return Picture(f"data:image/{kind};base64,{base64.b64encode(data).decode()}", *image.size)


def _webp(image: Image.Image, **options: int) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "WEBP", **options)
    return buffer.getvalue()
