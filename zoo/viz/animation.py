"""Images that move, as GIF."""

from io import BytesIO

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from zoo.progress import chunks
from zoo.viz.tiling import _opened, tile

FRAME_MS, PAUSE_MS = 50, 500  # how long a frame is shown, and the first and the last one
GIF_BYTES = 2_000_000
GIF_PIXELS = 4_000_000  # of all frames one way: with more, only digits would stay below GIF_BYTES, so nothing is tried


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
