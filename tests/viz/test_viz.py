"""Grids, labels, PNG and GIF files."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.viz.tiling import GIF_BYTES, animation, columns_for, enlarged, gif, grid_of, labelled, png, tile


def opened(data):
    return Image.open(BytesIO(data))


def frames_of(data):
    film = opened(data)
    shown = []
    for k in range(film.n_frames):
        film.seek(k)
        shown.append((np.asarray(film.convert("RGB")).astype(int), film.info["duration"]))
    return shown


def test_images_stand_row_by_row_with_white_gutters_of_two_pixels():
    images = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 3, 4, 4)
    grid = tile(images, columns=3)
    assert grid.shape == (3, 2 * 6 + 2, 3 * 6 + 2)
    for k in range(6):
        top, left = 2 + 6 * (k // 3), 2 + 6 * (k % 3)
        assert (grid[:, top : top + 4, left : left + 4] == (k if k < 5 else 255)).all()  # a place that is left is white
        grid[:, top : top + 4, left : left + 4] = 255
    assert (grid == 255).all()
    assert tile(images[:1], columns=8).shape == (3, 8, 8)  # a single image has its gutter, too


def test_small_images_are_enlarged_by_whole_squares():
    image = torch.tensor([[[1, 2], [3, 4]]], dtype=torch.uint8)
    assert enlarged(image, 2).tolist() == [[[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]]
    assert [enlarged(torch.zeros(1, side, side)).shape[-1] for side in (1, 28, 32, 64, 100)] == [64, 56, 64, 64, 100]
    assert grid_of(torch.zeros(2, 1, 28, 28), columns=2).shape == (3, 60, 118)


def test_columns_leave_few_gaps_and_no_more_rows_than_columns():
    assert [columns_for(count) for count in (1, 2, 4, 7, 8, 10, 16, 30, 64)] == [1, 2, 2, 4, 4, 5, 4, 6, 8]
    for count in range(1, 200):
        columns = columns_for(count)
        assert -(-count // columns) <= columns
        assert -count % columns <= columns / 3


def test_labels_stand_outside_the_images():
    grid = tile(torch.zeros(6, 3, 64, 64, dtype=torch.uint8), columns=3)
    page = labelled(grid, columns=["a", "b", "c"], rows=["first", "second"])
    top, left = page.shape[1] - grid.shape[1], page.shape[2] - grid.shape[2]
    assert torch.equal(page[:, top:, left:], grid)
    for k in range(3):  # each heading above its column
        head = page[:, :top, left + 2 + 66 * k : left + 66 * (k + 1)]
        ink = (head < 128).any(0).nonzero()[:, 1].float()
        assert ink.mean() == pytest.approx(32, abs=2)
    for k in range(2):
        ink = (page[:, top + 2 + 66 * k : top + 66 * (k + 1), :left] < 128).any(0).nonzero()
        assert ink[:, 0].float().mean() == pytest.approx(32, abs=4)
        assert ink[:, 1].min() > 0  # nothing is cut off
        assert ink[:, 1].max() < left - 1
    assert (page[:, :top, :left] == 255).all()


def test_headings_that_do_not_fit_are_left_out():
    grid = tile(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), columns=2)
    assert torch.equal(labelled(grid, columns=["a long heading", "b"], rows=[]), grid)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_keeps_every_value(channels):
    image = torch.randint(0, 256, (channels, 5, 7), dtype=torch.uint8)
    back = torch.from_numpy(np.array(opened(png(image)))).view(5, 7, channels).permute(2, 0, 1)
    assert torch.equal(back, image)
    assert png(image) == png(image.clone())


def test_a_gif_goes_there_and_back_and_pauses_at_the_ends():
    values = torch.tensor([0, 60, 120, 180, 240], dtype=torch.uint8)
    shown = frames_of(gif(values.view(5, 1, 1, 1).expand(5, 3, 8, 8)))
    assert [int(frame[0, 0, 0]) for frame, _ in shown] == [0, 60, 120, 180, 240, 180, 120, 60]  # the next one is the first again
    assert [duration for _, duration in shown] == [500, 50, 50, 50, 500, 50, 50, 50]
    assert opened(gif(values.view(5, 1, 1, 1).expand(5, 3, 8, 8))).info["loop"] == 0


def test_grey_frames_are_exact_and_coloured_ones_close():
    grey = torch.randint(0, 256, (3, 1, 16, 16), dtype=torch.uint8).expand(3, 3, 16, 16)
    for (frame, _), true in zip(frames_of(gif(grey)), grey, strict=False):
        np.testing.assert_array_equal(frame, true.permute(1, 2, 0).numpy())
    x = torch.linspace(0, 255, 64)
    colours = torch.stack([x[:, None].expand(64, 64), x[None].expand(64, 64), torch.full((64, 64), 90.0)]).to(torch.uint8)
    (frame, _), *_ = frames_of(gif(torch.stack([colours, colours.flip(1)])))
    error = (frame - colours.permute(1, 2, 0).numpy()) ** 2
    assert error.mean() < 30  # 256 colours for 4,096: squares of 16 values a side


def test_an_animation_is_halved_until_it_is_small_enough():
    noise = torch.randint(0, 256, (31, 4, 1, 128, 128), dtype=torch.uint8)
    data = animation(noise, columns=2)
    assert len(data) < GIF_BYTES
    assert opened(data).size in [(2 * side + 6, 2 * side + 6) for side in (64, 32)]
    small = torch.randint(0, 256, (3, 4, 3, 16, 16), dtype=torch.uint8)
    assert opened(animation(small, columns=4)).size == (4 * 18 + 2, 20)
