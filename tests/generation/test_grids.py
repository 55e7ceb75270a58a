"""Tables of images, of a model whose codes are its pixels."""

import pytest
import torch

from zoo.batch import Batch, to_uint8
from zoo.generation import grids
from zoo.models.base import Autoencoder
from zoo.models.udt import UDT
from zoo.viz import tiling
from zoo.viz.tiling import grid_of


class Pixels(Autoencoder):
    """Code = pixels; attributes are added to the code, to see that they arrive."""

    def __init__(self):
        super().__init__((1, 2, 2), 4)
        self.largest = 0

    def encode(self, image, attributes=None):
        return image.flatten(1) + (0 if attributes is None else attributes.float().sum(1, keepdim=True))

    def decode(self, latent):
        self.largest = max(self.largest, len(latent))
        return latent.unflatten(1, (1, 2, 2))


@pytest.fixture
def model():
    return Pixels().eval()


def images(count, seed=0):
    return 2 * torch.rand(count, 1, 2, 2, generator=torch.Generator().manual_seed(seed)) - 1


def test_samples_depend_on_the_seed_only(model):
    first, again, other = grids.samples(model, 200, 1), grids.samples(model, 200, 1), grids.samples(model, 200, 2)
    assert first.shape == (200, 1, 2, 2)
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.testing.assert_close(grids.samples(model, 64, 0), to_uint8(model.sample(64, torch.Generator().manual_seed(0))))


def test_reconstructions_stand_beside_their_originals(model):
    given = images(5)
    pairs = grids.reconstructions(model, given)
    assert torch.equal(pairs[:, 0], to_uint8(given))
    assert torch.equal(pairs[:, 1], pairs[:, 0])
    white = grids.reconstructions(model, given, torch.ones(5, 2))  # the attributes add 2 to every pixel
    assert torch.equal(white[:, 0], to_uint8(given))
    assert (white[:, 1] == 255).all()


def test_interpolations_run_evenly_from_first_to_second_between_the_originals(model):
    given = images(6)
    codes = grids.codes(model, given)
    line = grids.interpolations(model, codes[0::2], codes[1::2], 5)
    assert torch.equal(line[:, 0], to_uint8(given[0::2]))
    assert torch.equal(line[:, 4], to_uint8(given[1::2]))
    middle = to_uint8((given[0::2] + given[1::2]) / 2)
    torch.testing.assert_close(line[:, 2], middle, atol=1, rtol=0)
    table = grids.between(given, line)
    assert table.shape == (3, 7, 1, 2, 2)
    assert torch.equal(table[:, 0], to_uint8(given[0::2]))
    assert torch.equal(table[:, 1:6], line)
    assert torch.equal(table[:, 6], to_uint8(given[1::2]))


def test_a_square_is_bilinear_between_its_corners(model):
    given = images(4)
    table = grids.square(model, grids.codes(model, given), 3)
    assert table.shape == (3, 3, 1, 2, 2)
    for corner, (row, column) in zip(to_uint8(given), ((0, 0), (0, 2), (2, 0), (2, 2)), strict=True):
        assert torch.equal(table[row, column], corner)
    torch.testing.assert_close(table[1, 1], to_uint8(given.mean(0)), atol=1, rtol=0)
    torch.testing.assert_close(table[0, 1], to_uint8(given[:2].mean(0)), atol=1, rtol=0)
    torch.testing.assert_close(table[1, 0], to_uint8(given[[0, 2]].mean(0)), atol=1, rtol=0)


def test_edits_go_along_the_vector_by_the_strength(model):
    codes, vectors = torch.zeros(2, 4), torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, -1.0]])
    table = grids.edits(model, codes, vectors, torch.tensor([0.0, 0.5, 1.0]))
    assert table.shape == (2, 3, 1, 2, 2)
    assert table[0, :, 0, 0, 0].tolist() == [128, 191, 255]
    assert table[1, :, 0, 1, 1].tolist() == [128, 64, 0]
    assert (table[0, :, 0, 1] == 128).all()


def test_pairs_stand_one_below_the_other_and_gaps_are_white():
    pairs = torch.arange(6, dtype=torch.uint8).view(3, 2, 1, 1, 1)  # (0, 1), (2, 3), (4, 5)
    rows = grids.one_below_the_other(pairs, 2)[..., 0, 0, 0]
    assert rows.tolist() == [[0, 2], [1, 3], [4, 255], [5, 255]]


def test_never_more_than_a_chunk_is_decoded_at_once(model):
    codes = torch.randn(100, 4)
    table = grids.interpolations(model, codes, codes.flip(0), 31)
    assert model.largest <= grids.CHUNK
    assert torch.equal(table[70:72], grids.interpolations(model, codes[70:72], codes.flip(0)[70:72], 31))


def test_grids_are_drawn_with_the_attributes(model):
    given = images(4)
    batches = (Batch(given, attributes, torch.arange(4)) for attributes in (torch.zeros(4, 2), torch.ones(4, 2)))
    plain, known = (grids.image_grids(model, batch, batch) for batch in batches)
    assert torch.equal(plain["samples"], known["samples"])
    originals, white = list(given), list(torch.ones_like(given))  # the attributes add 2 to every pixel
    assert torch.equal(plain["reconstructions"], grid_of(torch.stack(originals + originals), 4))
    assert torch.equal(known["reconstructions"], grid_of(torch.stack(originals + white), 4))
    row = [originals[0], *white, *white, originals[1], originals[2], *white, *white, originals[3]]
    assert torch.equal(known["interpolations"], grid_of(torch.stack(row), 10))


class Halves(UDT):
    """Content = left half of the pixels, attribute = right half; rich = the first of three attributes."""

    def __init__(self):
        Autoencoder.__init__(self, (1, 2, 2), 4)
        self.content_dim = self.attribute_dim = 2
        self.register_buffer("column", torch.tensor(0))

    def content(self, image):
        return image[:, 0, :, 0]

    def attribute(self, image):
        return image[:, 0, :, 1]

    def decode(self, latent):
        return torch.stack([latent[:, :2], latent[:, 2:]], 2)[:, None]


def test_a_transfer_has_guides_in_rows_and_targets_in_columns():
    model, targets, guides = Halves().eval(), images(3), images(2, seed=1)
    table = grids.transfers(model, targets, guides)
    assert table.shape == (3, 4, 1, 2, 2)
    assert (table[0, 0] == 255).all()
    assert torch.equal(table[0, 1:], to_uint8(targets))
    assert torch.equal(table[1:, 0], to_uint8(guides))
    for row in range(2):
        for column in range(3):
            assert torch.equal(table[1 + row, 1 + column, 0, :, 0], to_uint8(targets[column, 0, :, 0]))
            assert torch.equal(table[1 + row, 1 + column, 0, :, 1], to_uint8(guides[row, 0, :, 1]))


def test_the_picture_of_a_transfer_shows_the_first_of_each_domain():
    model, given = Halves().eval(), images(20)
    rich = torch.arange(20) % 2
    attributes = torch.stack([rich, 1 - rich, torch.zeros_like(rich)], 1).byte()
    table = grids.transfers(model, given[0::2][:8], given[1::2][:8])
    picture = grids.transfer(model, given, attributes)
    assert torch.equal(picture, grid_of(table.flatten(0, 1) / 127.5 - 1, 9))
    assert grids.transfer(model, given, torch.zeros_like(attributes)) is None
    assert grids.transfer(model, given, torch.ones_like(attributes)) is None


def test_edits_move_images_without_an_attribute_towards_those_with_it(model):
    """Codes are pixels, so an attribute that means "white" adds white."""
    given, has = images(60).clamp(-1, 0.5), torch.zeros(60, 3)
    has[20:40, 1], has[50, 0], has[2::2, 2] = 1, 1, 1  # the first is too rare
    given[20:40] = 1
    grid = grids.attribute_edits(model, given, has, ["Rare", "White", "Even"])
    names = tiling.labelled(torch.zeros(3, 2 * 66 + 2, 10 * 66 + 2, dtype=torch.uint8), rows=["White", "Even"]).shape
    assert grid.shape == names
    cells = grid[:, 2:, -10 * 66 :].unfold(1, 64, 66).unfold(2, 64, 66).float().mean((0, 3, 4))  # (2, 10), mean grey of each image
    for face in (cells[0, :5], cells[0, 5:]):
        assert face[0] == pytest.approx(face[1].item(), abs=1)  # the original and its reconstruction
        assert face[1] < face[2] < face[3]
    assert grids.attribute_edits(model, given, has[:, :1], ["Rare"]) is None
    classes = torch.nn.functional.one_hot(torch.arange(60) % 3)
    assert grids.attribute_edits(model, given, classes, ["0", "1", "2"]) is None
