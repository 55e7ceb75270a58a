"""Images side by side as one picture: a white gutter of 2 pixels, labels where they need some, PNG."""

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import pad

from zoo.batch import to_uint8

GUTTER, WHITE = 2, 255  # pixels, and their value
SMALLEST = 64  # pixels; smaller images are enlarged by a whole factor, as long as they stay below


def enlarged(images: Tensor, factor: int | None = None) -> Tensor:
    """(..., H, W) -> (..., H·factor, W·factor), each pixel a square; by default so that small images can be seen."""
    factor = factor or max(1, SMALLEST // images.shape[-1])
    return images.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def in_rows(images: Tensor, columns: int) -> Tensor:
    """(N, ...) uint8 -> (R, columns, ...), row by row; what is left of the last row is white."""
    gaps = images.new_full((-len(images) % columns, *images.shape[1:]), WHITE)
    return torch.cat([images, gaps]).unflatten(0, (-1, columns))


def tile(images: Tensor, columns: int) -> Tensor:
    """(N, C, H, W) uint8 -> one picture (3, H', W') uint8, row by row, with a white gutter around each image."""
    cells = pad(images.expand(-1, 3, -1, -1), (GUTTER, 0, GUTTER, 0), value=WHITE)  # (N, 3, H + 2, W + 2)
    page = in_rows(cells, min(columns, len(images))).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    return pad(page, (0, GUTTER, 0, GUTTER), value=WHITE)


def grid_of(images: Tensor, columns: int) -> Tensor:
    """(N, C, H, W) in [-1, 1] -> one picture (3, H', W') uint8, row by row; small images are enlarged by a whole factor."""
    return tile(enlarged(to_uint8(images.cpu())), columns)


def columns_for(count: int) -> int:
    """How many columns show `count` images best: few gaps, and no higher than wide."""
    root = math.isqrt(count - 1) + 1  # ⌈√count⌉
    return min(range(root, 2 * root), key=lambda columns: (-count % columns, columns))


def labelled(grid: Tensor, columns: Sequence[str] = (), rows: Sequence[str] = ()) -> Tensor:
    """A picture of `tile` with a heading over each column and a name left of each row, on white, wherever the text fits into its cell."""
    font = ImageFont.load_default(12)
    height, width = grid.shape[1:]
    across, down = (width - GUTTER) / max(1, len(columns)), (height - GUTTER) / max(1, len(rows))
    columns = columns if all(font.getlength(text) < across for text in columns) else ()
    rows = rows if down >= 14 else ()
    top = 18 if columns else 0
    left = max((int(font.getlength(text)) + 11 for text in rows), default=0)
    page = Image.new("RGB", (left + width, top + height), "white")
    page.paste(_opened(grid), (left, top))
    draw = ImageDraw.Draw(page)
    for k, text in enumerate(columns):
        draw.text((left + (k + 0.5) * across + GUTTER / 2, top / 2 + 1), text, fill="#404040", font=font, anchor="mm")
    for k, text in enumerate(rows):
        draw.text((left - 5, top + (k + 0.5) * down + GUTTER / 2), text, fill="#404040", font=font, anchor="rm")
    return torch.from_numpy(np.array(page)).permute(2, 0, 1)


def png(image: Tensor) -> bytes:
    """A picture (3, H, W) or a grey one (1, H, W) uint8 as a PNG file; the same bytes each time."""
    buffer = BytesIO()
    _opened(image).save(buffer, "PNG")
    return buffer.getvalue()


def save(grid: Tensor, path: Path) -> None:
    """Writes a picture (3, H, W) uint8 as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(grid))


def _opened(image: Tensor) -> Image.Image:
    """(3, H, W) or (1, H, W) uint8 -> Pillow's RGB or grey image."""
    return Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy())
