"""Any folder of images: classes, splits, and what is refused."""

import numpy as np
import pytest

from tests.data.makers import make_folder
from zoo.data.folder import Folder, split_by_name
from zoo.data.images import ImageDecoder
from zoo.errors import ZooError

FLAT = [f"{k}.png" for k in range(40)]


def refusal(root) -> str:
    with pytest.raises(ZooError) as caught:
        Folder(root).scan()
    return str(caught.value)


def test_a_flat_folder_has_no_classes_and_is_split_by_name(tmp_path):
    make_folder(tmp_path, FLAT)
    source = Folder(tmp_path, image_size=16)
    listing = source.scan()
    assert listing.names == sorted(FLAT)
    assert source.attribute_names == ()
    assert listing.attributes.shape == (40, 0)
    assert np.bincount(listing.splits).tolist() == [36, 2, 2]  # complete, without overlap
    chunk = source.read(0, 40)
    assert chunk.errors == {}
    assert chunk.images.shape == (40, 3, 16, 16)
    np.testing.assert_array_equal(chunk.images[7], ImageDecoder(16).decode((tmp_path / listing.names[7]).read_bytes()))
    assert (Folder(tmp_path, seed=1).scan().splits != listing.splits).any()
    np.testing.assert_array_equal(Folder(tmp_path).scan().splits, listing.splits)


def test_sub_folders_are_classes(tmp_path):
    make_folder(tmp_path, ["cat/1.jpg", "cat/2.JPEG", "cat/old/3.webp", "dog/1.bmp", "dog/2.png", ".git/9.png", "dog/.hidden.png"])
    (tmp_path / "dog" / "notes.txt").write_text("no image")
    source = Folder(tmp_path, image_size=8)
    listing = source.scan()
    assert listing.names == ["cat/1.jpg", "cat/2.JPEG", "cat/old/3.webp", "dog/1.bmp", "dog/2.png"]
    assert source.attribute_names == ("cat", "dog")
    np.testing.assert_array_equal(listing.attributes, [[1, 0]] * 3 + [[0, 1]] * 2)
    assert sorted(listing.splits) == [0, 0, 0, 1, 2]
    assert source.read(0, 5).errors == {}


def test_one_sub_folder_is_no_class(tmp_path):
    make_folder(tmp_path, ["images/1.png", "images/2.png", "images/3.png"])
    source = Folder(tmp_path)
    assert source.scan().attributes.shape == (3, 0)
    assert source.attribute_names == ()


def test_train_val_and_test_are_used_as_they_are(tmp_path):
    make_folder(tmp_path, ["train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "test/dog/1.png", "test/dog/2.png"])
    source = Folder(tmp_path)
    listing = source.scan()
    expected = {"test/dog/1.png": 2, "test/dog/2.png": 2, "train/cat/1.png": 0, "train/dog/1.png": 0, "val/cat/1.png": 1}
    assert dict(zip(listing.names, listing.splits.tolist(), strict=True)) == expected
    assert source.attribute_names == ("cat", "dog")
    np.testing.assert_array_equal(listing.attributes[:, 0], [0, 0, 1, 0, 1])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/1.png", "test/1.png", "test/2.png"], "images in test, train, but splits need exactly train, val and test"),
        (["train/1.png", "val/1.png", "test/1.png", "extra/1.png"], "images in extra, test, train, val"),
        (["1.png", "cat/1.png", "dog/1.png"], "beside sub-folders"),
        (["train/1.png", "train/cat/1.png", "val/cat/1.png", "test/cat/1.png"], "without a class, such as train/1.png"),
        (["1.png", "2.png"], "holds 2 images"),
        ([".hidden.png"], "no images"),
    ],
)
def test_unclear_layouts_are_refused(tmp_path, names, message):
    make_folder(tmp_path, names)
    assert message in refusal(tmp_path)
    assert str(tmp_path) in refusal(tmp_path)


def test_folder_that_is_not_given_missing_or_empty(tmp_path):
    for root in (None, tmp_path / "nowhere", tmp_path):
        assert "data.root=DIR" in refusal(root)
        assert root is None or str(root) in refusal(root)


def test_grey_and_palette_are_converted_and_the_rest_is_reported(tmp_path):
    for mode, name in (("RGB", "a.png"), ("L", "b.png"), ("P", "c.png"), ("RGBA", "d.png"), ("CMYK", "e.jpg")):
        make_folder(tmp_path, [name], mode=mode)
    (tmp_path / "f.jpg").write_bytes(b"")
    for channels in (3, 1):
        chunk = Folder(tmp_path, 8, channels=channels).read(0, 6)
        assert chunk.images.shape == (6, channels, 8, 8)
        assert list(chunk.errors) == [3, 4, 5]
        assert chunk.errors[5] == "empty file"


def test_a_crop_is_taken_from_the_centre(tmp_path):
    make_folder(tmp_path, ["a.png", "b.png", "c.png"], size=(40, 32))
    assert Folder(tmp_path, 8, crop=33).read(0, 1).errors == {0: "size 40×32 is smaller than the crop 33"}
    whole, cropped = (Folder(tmp_path, 20, crop=crop).read(0, 1).images for crop in (32, 20))
    assert (whole != cropped).any()


def test_fingerprint_follows_names(tmp_path):
    make_folder(tmp_path, ["x/1.png", "y/2.png", "y/3.png"])
    before = Folder(tmp_path).fingerprint()
    assert Folder(tmp_path, image_size=8).fingerprint() == before
    (tmp_path / "y" / "3.png").rename(tmp_path / "x" / "3.png")  # the same file with another class
    assert Folder(tmp_path).fingerprint() != before


def test_split_by_name_ignores_the_order_and_keeps_the_sizes():
    names = [f"{k}.jpg" for k in range(1000)]
    splits = split_by_name(names, 50, 70)
    assert np.bincount(splits).tolist() == [880, 50, 70]
    np.testing.assert_array_equal(split_by_name(names[::-1], 50, 70), splits[::-1])
    assert abs(np.flatnonzero(splits).mean() - 500) < 80  # not the first or the last ones
