"""Images side by side as one picture: a white gutter of 2 pixels, labels where they need some; PNG, and GIF where they move."""

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from zoo.batch import to_uint8
from zoo.progress import chunks

GUTTER, WHITE = 2, 255  # pixels, and their value
FRAME_MS, PAUSE_MS = 50, 500  # how long a frame is shown, and the first and the last one
GIF_BYTES = 2_000_000
GIF_PIXELS = 4_000_000  # of all frames one way: with more, only digits would stay below GIF_BYTES, so nothing is tried
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


def animation(frames: Tensor, columns: int) -> bytes:
    """(T, N, C, H, W) uint8 -> a GIF of a grid of N, there and back for ever, made half as large until it has less than 2 MB."""
    while True:
        smallest = frames.shape[-1] < 32
        if smallest or frames[:, :, 0].numel() <= GIF_PIXELS:
            data = gif(torch.stack([tile(frame, columns) for frame in frames]))
            if smallest or len(data) < GIF_BYTES:
                return data
        frames = avg_pool2d(frames.flatten(0, 1).float(), 2).round().to(torch.uint8).unflatten(0, frames.shape[:2])


def gif(frames: Tensor) -> bytes:
    """(T, 3, H, W) uint8 -> a GIF, there and back for ever: 256 colours a frame, undithered (that would flicker); grey is exact."""
    if bool((frames == frames[:, :1]).all()):
        images = [_opened(frame[:1]) for frame in frames]
    else:  # one refinement by k-means halves the error of the median cut; more change nothing
        cut, plain = Image.Quantize.MEDIANCUT, Image.Dither.NONE
        pieces = chunks(len(frames), 1, "animation", "frames")
        images = [_opened(frames[k]).quantize(256, method=cut, kmeans=1, dither=plain) for k, _ in pieces]
    forth_and_back = images + images[-2:0:-1]
    durations = [PAUSE_MS if k % max(1, len(frames) - 1) == 0 else FRAME_MS for k in range(len(forth_and_back))]
    buffer = BytesIO()
    forth_and_back[0].save(buffer, "GIF", save_all=True, append_images=forth_and_back[1:], duration=durations, loop=0)
    return buffer.getvalue()
