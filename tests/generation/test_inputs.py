"""Image files as input: the pixels are those the data set's own reader makes, and what cannot be used is named."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.makers import make_celeba, smooth_image
from zoo.data.celeba import CelebA
from zoo.data.folder import Folder
from zoo.errors import ZooError
from zoo.generation.inputs import decode, image_files, read_images

CELEBA = {"_target_": "zoo.data.celeba.CelebA", "crop": 148}
FOLDER = {"_target_": "zoo.data.folder.Folder", "crop": None}


def photo(path, width, height, mode="RGB"):
    smooth_image(np.random.default_rng(width), width, height, mode).save(path)
    return path


def test_files_of_the_data_set_become_the_very_images_of_its_store(tmp_path):
    make_celeba(tmp_path, 5)
    files = sorted((tmp_path / "img_align_celeba").iterdir())
    source = CelebA(tmp_path, image_size=32, crop=148)
    source.scan()
    stored = source.read(0, 5).images
    images = read_images(files, (3, 32, 32), CELEBA)
    assert images.dtype == torch.float32
    np.testing.assert_array_equal(((images + 1) * 127.5).round().numpy(), stored)
    assert not np.array_equal(decode(files[0], (3, 32, 32), FOLDER), stored[0])  # the crop matters


def test_folder_crops_count_in_pixels_of_any_file(tmp_path):
    file = photo(tmp_path / "a.png", 60, 50)
    photo(tmp_path / "b.png", 60, 50)
    photo(tmp_path / "c.png", 60, 50)
    source = Folder(tmp_path, image_size=16, crop=20)
    source.scan()
    np.testing.assert_array_equal(decode(file, (3, 16, 16), {**FOLDER, "crop": 20}), source.read(0, 1).images[0])
    with pytest.raises(ZooError, match=r"a\.png cannot be used \(size 60×50 is smaller than the crop 55\)"):
        decode(file, (3, 16, 16), {**FOLDER, "crop": 55})


def test_celebas_crop_is_not_for_other_photos(tmp_path):
    file = photo(tmp_path / "large.png", 400, 300)
    largest = np.asarray(Image.open(file).crop((50, 0, 350, 300)).resize((64, 64), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(decode(file, (3, 64, 64), CELEBA), largest.transpose(2, 0, 1))
    assert decode(photo(tmp_path / "small.png", 30, 20), (3, 64, 64), CELEBA).shape == (3, 64, 64)


def test_a_colour_photo_becomes_grey_for_a_grey_model(tmp_path):
    file = photo(tmp_path / "a.jpg", 40, 40)
    assert read_images([file], (1, 28, 28), {}).shape == (1, 1, 28, 28)


def test_what_image_may_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name in ("b.png", "a.jpg", "note.txt", ".hidden.png"):
        (tmp_path / "folder" / name).write_bytes(b"")
    inside = ["folder/a.jpg", "folder/b.png"]
    assert list(map(str, image_files("folder"))) == inside
    assert list(map(str, image_files(["x.png", "folder"]))) == ["x.png", *inside]
    assert list(map(str, image_files(7))) == ["7"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ZooError, match="empty holds no images"):
        image_files("empty")
    with pytest.raises(ZooError, match="names no file"):
        image_files([])


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty file"), (b"hello", "not an image"), (b"<html>", "web page"), (b"\xff\xd8\xff", "JPEG")],
)
def test_an_unreadable_picture_is_named_with_the_reason(tmp_path, content, reason):
    file = tmp_path / "bad.jpg"
    file.write_bytes(content)
    for source in (CELEBA, FOLDER):
        with pytest.raises(ZooError, match=r"bad\.jpg cannot be used \(.*" + reason):
            read_images([file], (3, 16, 16), source)
    with pytest.raises(ZooError, match=r"gone\.jpg cannot be read \(No such file"):
        read_images([tmp_path / "gone.jpg"], (3, 16, 16), FOLDER)
    Image.new("RGBA", (20, 20)).save(tmp_path / "clear.png")
    with pytest.raises(ZooError, match="transparency"):
        read_images([tmp_path / "clear.png"], (3, 16, 16), FOLDER)
