"""CelebA and CelebA-HQ: joined by name, strict about the tables, the same from folder and zip."""

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.makers import ATTRIBUTES, make_celeba, make_celeba_hq, smooth_image, write_attributes, zip_images
from zoo.data.celeba import CelebA
from zoo.data.celeba_hq import CelebAHQ
from zoo.data.images import ImageDecoder
from zoo.errors import ZooError

COUNT = 20


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("original") / "celeba"
    return root, make_celeba(root, COUNT)


@pytest.fixture
def root(original, tmp_path) -> Path:
    """A copy that the test may break."""
    return shutil.copytree(original[0], tmp_path / "celeba")


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def refusal(root: Path, **options) -> str:
    with pytest.raises(ZooError) as caught:
        CelebA(root, **options).scan()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def test_listing_and_pixels(original):
    root, attributes = original
    source = CelebA(root, image_size=32, crop=140)
    listing = source.scan()
    assert listing.names == [f"{k + 1:06d}.jpg" for k in range(COUNT)]
    assert source.attribute_names == ATTRIBUTES
    assert (source.channels, source.image_size) == (3, 32)
    np.testing.assert_array_equal(listing.attributes, attributes)
    np.testing.assert_array_equal(listing.splits, [0] * 12 + [1] * 4 + [2] * 4)  # every image in exactly one split
    assert set(listing.digests) == {"list_attr_celeba.txt", "list_eval_partition.txt"}
    chunk = source.read(3, 9)
    assert chunk.errors == {}
    assert chunk.images.shape == (6, 3, 32, 32)
    assert len(set(chunk.digests)) == 6
    data = (root / "img_align_celeba" / listing.names[5]).read_bytes()
    np.testing.assert_array_equal(chunk.images[2], ImageDecoder(32, crop=140).decode(data))


def test_zip_equals_folder_bit_for_bit(original, root):
    plain = CelebA(original[0])
    expected, listing = plain.read(0, COUNT), plain.scan()
    zip_images(root)
    packed = CelebA(root)
    found = packed.read(0, COUNT)
    assert packed.scan().names == listing.names
    assert found.digests == expected.digests
    np.testing.assert_array_equal(found.images, expected.images)


def test_zip_members_elsewhere_and_dangerous_names_stay_out(root, tmp_path):
    zip_images(root)
    with zipfile.ZipFile(root / "img_align_celeba.zip", "a") as archive:
        for name in ("../../evil.jpg", "/evil.jpg", "__MACOSX/img_align_celeba/._000001.jpg", "img_align_celeba/notes.txt"):
            archive.writestr(name, b"x")
    before = sorted(tmp_path.rglob("*"))
    source = CelebA(root)
    assert len(source.scan().names) == COUNT
    assert source.read(0, COUNT).errors == {}
    assert sorted(tmp_path.rglob("*")) == before


def test_zip_bomb_and_bad_checksum_are_bad_images(root, monkeypatch):
    zip_images(root)
    path = root / "img_align_celeba.zip"
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("img_align_celeba/000003.jpg")
        largest = max(info.file_size for info in archive.infolist())
    data[member.header_offset + 30 + len(member.filename) + member.file_size // 2] ^= 1
    path.write_bytes(data)
    chunk = CelebA(root).read(0, COUNT)
    assert list(chunk.errors) == [2]
    assert "CRC" in chunk.errors[2]
    monkeypatch.setattr("zoo.data.celeba.MEMBER_LIMIT_BYTES", largest - 1)
    assert "unpacks to" in "".join(CelebA(root).read(0, COUNT).errors.values())


def test_layouts_of_torchvision_kaggle_and_the_authors(original, tmp_path):
    expected = CelebA(original[0]).scan()
    parent = CelebA(original[0].parent)  # torchvision: root/celeba/…
    assert parent.scan().names == expected.names

    authors = tmp_path / "authors"
    for place, name in (("Img", "img_align_celeba"), ("Anno", "list_attr_celeba.txt"), ("Eval", "list_eval_partition.txt")):
        (authors / place).mkdir(parents=True)
        os.symlink(original[0] / name, authors / place / name)
    kaggle = tmp_path / "kaggle"
    shutil.copytree(original[0] / "img_align_celeba", kaggle / "img_align_celeba" / "img_align_celeba")
    lines = (original[0] / "list_attr_celeba.txt").read_text().splitlines()[1:]
    table = ["image_id," + ",".join(lines[0].split()), *(",".join(line.split()) for line in lines[1:])]
    (kaggle / "list_attr_celeba.csv").write_text("\n".join(table))
    partition = (original[0] / "list_eval_partition.txt").read_text().replace(" ", ",")
    (kaggle / "list_eval_partition.csv").write_text("image_id,partition\n" + partition)
    for root in (authors, kaggle):
        source = CelebA(root)
        listing = source.scan()
        assert listing.names == expected.names
        assert source.attribute_names == ATTRIBUTES
        np.testing.assert_array_equal(listing.attributes, expected.attributes)
        np.testing.assert_array_equal(listing.splits, expected.splits)
        assert source.fingerprint()
        assert source.read(0, 2).errors == {}


def test_reordered_rows_still_join_by_name(original, root):
    expected = CelebA(original[0]).scan()
    for table, head in (("list_attr_celeba.txt", 2), ("list_eval_partition.txt", 0)):
        lines = (root / table).read_text().splitlines()
        (root / table).write_text("\n".join(lines[:head] + lines[head:][::-1]))
    found = CelebA(root).scan()
    assert found.names == expected.names
    np.testing.assert_array_equal(found.attributes, expected.attributes)
    np.testing.assert_array_equal(found.splits, expected.splits)


def test_folder_that_is_not_given_missing_or_empty(tmp_path):
    for root in (None, tmp_path / "nowhere", tmp_path):
        for source in (CelebA, CelebAHQ):
            for ask in (source(root).scan, source(root).fingerprint):
                with pytest.raises(ZooError, match=r"data\.root=DIR") as caught:
                    ask()
                assert "attr" in str(caught.value)
                assert root is None or str(root) in str(caught.value)


@pytest.mark.parametrize("name", ["img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt"])
def test_a_missing_part_is_named(root, name):
    (root / name).rename(root / "elsewhere")
    assert f"has no {name}" in refusal(root)
    assert str(root) in refusal(root)


def test_an_empty_folder_of_images_or_a_broken_zip(root):
    shutil.rmtree(root / "img_align_celeba")
    (root / "img_align_celeba").mkdir()
    assert "img_align_celeba" in refusal(root)
    assert "empty" in refusal(root)
    (root / "img_align_celeba.zip").write_bytes(b"<html>quota exceeded</html>")
    assert "not a complete zip" in refusal(root)
    (root / "img_align_celeba" / "readme.txt").write_text("nothing")
    assert "holds no .jpg" in refusal(root)


ROW = "000003.jpg"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\n000003.jpg", "\n000002.jpg", "line 5: 000002.jpg has a second row"),
        ("\n000003.jpg ", "\n000003.jpg 1 ", "line 5: 000003.jpg has 41 values for 40 attributes"),
        ("\n000003.jpg  1", "\n000003.jpg  0", "line 5: 000003.jpg has the value '0', but only -1 and 1"),
        ("Attribute_1 ", "Attribute_0 ", "line 2: the names of the attributes should stand here, each once"),
        ("20\nAttribute_0 ", "Attribute_0 ", "line 1: the number of images should stand here"),
        ("20\nAttribute_0 ", "<html>\nAttribute_0 ", "line 1: the number of images should stand here, not '<html>'"),
        ("20\nAttribute_0 ", "21\nAttribute_0 ", "line 1: 21 rows are announced, but 20 follow"),
        ("20\nAttribute_0 ", "19\nAttribute_0 ", "line 1: 19 rows are announced, but 20 follow"),
    ],
)
def test_malformed_attribute_file(original, root, old, new, message):
    path = root / "list_attr_celeba.txt"
    attributes = original[1].copy()
    attributes[2, 0] = 1
    write_attributes(path, [f"{k + 1:06d}.jpg" for k in range(COUNT)], attributes)
    change(path, old, new)
    assert message in refusal(root)
    assert str(path) in refusal(root)
    assert "original download" in refusal(root)


def test_attribute_row_missing(root):
    path = root / "list_attr_celeba.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(["19", *lines[1:4], *lines[5:]]))  # without 000003.jpg
    message = refusal(root)
    assert "1 images in" in message
    assert "have no row in" in message
    assert "000003.jpg" in message
    assert "data.partial=true" in message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("000003.jpg 0", "000003.jpg 3", "line 3: a file's name and 0, 1 or 2 should stand here, not '000003.jpg 3'"),
        ("000003.jpg 0", "000003.jpg", "line 3: a file's name and 0, 1 or 2"),
        ("000003.jpg 0", "000002.jpg 0", "line 3: 000002.jpg has a second row"),
        ("000003.jpg 0\n", "", "has no row for 1 images (000003.jpg)"),
    ],
)
def test_malformed_partition(root, old, new, message):
    change(root / "list_eval_partition.txt", old, new)
    assert message in refusal(root)
    assert "list_eval_partition.txt" in refusal(root)


def test_an_empty_split_is_refused(root):
    path = root / "list_eval_partition.txt"
    path.write_text(path.read_text().replace(".jpg 1", ".jpg 0"))
    assert "split val" in refusal(root)


def test_partial_copies(original, root):
    for k in (2, 5, 19):
        (root / "img_align_celeba" / f"{k:06d}.jpg").unlink()
    message = refusal(root)
    assert "3 of the 20 images listed" in message
    assert "000002.jpg, 000005.jpg, 000019.jpg" in message
    assert "data.partial=true" in message
    source = CelebA(root, partial=True)
    listing = source.scan()
    kept = [k for k in range(COUNT) if k + 1 not in (2, 5, 19)]
    assert listing.names == [f"{k + 1:06d}.jpg" for k in kept]
    np.testing.assert_array_equal(listing.attributes, original[1][kept])
    assert source.read(0, len(kept)).errors == {}


def test_a_cut_attribute_file_is_usable_as_partial(original, root):
    path = root / "list_attr_celeba.txt"
    path.write_text("\n".join(path.read_text().splitlines()[: 2 + 18]))
    assert "20 rows are announced, but 18 follow" in refusal(root)
    listing = CelebA(root, partial=True).scan()
    np.testing.assert_array_equal(listing.attributes, original[1][:18])


def test_nothing_in_common(root):
    for path in list((root / "img_align_celeba").iterdir()):
        path.rename(path.with_name(f"x{path.name}"))
    assert "different data sets" in refusal(root, partial=True)


def test_bad_images_are_listed_with_reasons_and_the_rest_is_read(original, root):
    folder = root / "img_align_celeba"
    expected = CelebA(original[0]).read(0, COUNT).images
    picture = smooth_image(np.random.default_rng(9), 178, 218)
    whole = (folder / "000001.jpg").read_bytes()
    (folder / "000001.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "000002.jpg").write_bytes(b"")
    (folder / "000003.jpg").write_bytes(b"<html>quota exceeded</html>")
    (folder / "000004.jpg").write_bytes(os.urandom(500))
    picture.convert("L").save(folder / "000005.jpg")
    picture.convert("CMYK").save(folder / "000006.jpg")
    picture.convert("RGBA").save(folder / "000007.jpg", "PNG")
    picture.crop((0, 0, 100, 80)).save(folder / "000008.jpg")
    source = CelebA(root)
    source.scan()
    (folder / "000009.jpg").unlink()  # while the store is being built
    chunk = source.read(0, COUNT)
    assert chunk.errors == {
        0: "truncated JPEG",
        1: "empty file",
        2: "not an image but a web page",
        3: "not an image",
        4: "mode L, need RGB",
        5: "mode CMYK, need RGB",
        6: "mode RGBA with transparency, need RGB: put it on a background first",
        7: "size 100×80 is smaller than the crop 148",
        8: "missing file",
    }
    np.testing.assert_array_equal(chunk.images[9:], expected[9:])


def test_fingerprint_follows_the_files_and_settings_the_options(root):
    first = CelebA(root).fingerprint()
    assert CelebA(root, image_size=32).fingerprint() == first == CelebA(root.parent).fingerprint()
    image = root / "img_align_celeba" / "000007.jpg"
    os.utime(image, ns=(1, 1))
    second = CelebA(root).fingerprint()
    image.rename(image.with_name("x.jpg"))
    third = CelebA(root).fingerprint()
    os.utime(root / "list_attr_celeba.txt", ns=(1, 1))
    assert len({first, second, third, CelebA(root).fingerprint()}) == 4
    assert CelebA(root, crop=140).settings() != CelebA(root).settings() != CelebA(root, image_size=32).settings()


def test_celeba_hq_splits_by_name_without_a_mapping(tmp_path):
    attributes = make_celeba_hq(tmp_path, COUNT)
    source = CelebAHQ(tmp_path, image_size=48)
    listing = source.scan()
    assert listing.names == [f"{k}.jpg" for k in range(COUNT)]  # 2 before 10
    np.testing.assert_array_equal(listing.attributes, attributes)
    assert np.bincount(listing.splits).tolist() == [18, 1, 1]
    chunk = source.read(10, 12)
    data = (tmp_path / "CelebA-HQ-img" / "10.jpg").read_bytes()
    np.testing.assert_array_equal(chunk.images[0], ImageDecoder(48).decode(data))
    Image.new("L", (96, 96)).save(tmp_path / "CelebA-HQ-img" / "11.jpg")
    assert source.read(10, 12).errors == {1: "mode L, need RGB"}
    (tmp_path / "CelebA-HQ-img" / "11.jpg").unlink()
    with pytest.raises(ZooError, match=r"1 of the 20 images .*11\.jpg.*partial"):
        source.scan()


def test_celeba_hq_follows_the_official_partition(tmp_path):
    root = tmp_path / "CelebAMask-HQ"
    make_celeba_hq(root, COUNT)
    by_name = CelebAHQ(tmp_path).fingerprint()
    mapping = root / "CelebA-HQ-to-CelebA-mapping.txt"
    mapping.write_text("idx orig_idx orig_file\n" + "".join(f"{k}        {70 - k}      {71 - k:06d}.jpg\n" for k in range(COUNT)))
    (root / "list_eval_partition.txt").write_text("".join(f"{k:06d}.jpg {k % 3}\n" for k in range(200)))
    listing = CelebAHQ(tmp_path).scan()
    np.testing.assert_array_equal(listing.splits, [(71 - k) % 3 for k in range(COUNT)])
    assert CelebAHQ(tmp_path).fingerprint() != by_name
    assert len(listing.digests) == 3
    change(mapping, "\n7 ", "\nseven ")
    with pytest.raises(ZooError, match="line 9"):
        CelebAHQ(tmp_path).scan()
