"""Decoding: which files are refused and why, and that the pixels are the expected ones."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tests.data.makers import smooth_image
from zoo.data.images import BadImage, ImageDecoder, decode_all
from zoo.errors import ZooError


def encode(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def photo() -> Image.Image:
    return smooth_image(np.random.default_rng(0), 178, 218)


def reason(data: bytes, training_config: ImageDecoder) -> str:
    with pytest.raises(BadImage) as caught:
        training_config.decode(data)
    return str(caught.value)


STRICT, LENIENT = ImageDecoder(64), ImageDecoder(64, convert=True)


def test_crop_and_resize_are_those_of_torchvision_on_pillow(photo):
    from torchvision.transforms import v2

    data = encode(photo)
    steps = v2.Compose([v2.CenterCrop(148), v2.Resize(64, v2.InterpolationMode.BICUBIC)])
    expected = np.asarray(steps(Image.open(BytesIO(data)))).transpose(2, 0, 1)
    np.testing.assert_array_equal(ImageDecoder(64, crop=148).decode(data), expected)


def test_an_image_of_the_right_size_keeps_every_value():
    pixels = np.random.default_rng(1).integers(0, 256, (24, 24, 3), np.uint8)
    data = encode(Image.fromarray(pixels), "PNG")
    np.testing.assert_array_equal(ImageDecoder(24).decode(data), pixels.transpose(2, 0, 1))


def test_resize_does_not_alias():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255  # a filter that skips pixels would give 0 or 255, not grey
    small = ImageDecoder(32).decode(encode(Image.fromarray(stripes), "PNG"))
    assert np.abs(small.astype(int) - 127.5).max() < 8


def test_default_crop_is_the_largest_centred_square():
    pixels = np.zeros((20, 41, 3), np.uint8)
    pixels[:, 10:30] = 200
    np.testing.assert_array_equal(ImageDecoder(20).decode(encode(Image.fromarray(pixels), "PNG")), 200)


def test_exif_orientation_is_applied(photo):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: show it turned clockwise by 90°
    turned = ImageDecoder(178, crop=178).decode(encode(photo, exif=exif, quality=95)).astype(int)
    upright = np.rot90(ImageDecoder(178, crop=178).decode(encode(photo, quality=95)).astype(int), -1, axes=(1, 2))
    assert np.abs(turned - upright).max() <= 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_a_truncated_file_is_never_accepted(photo, kind):
    data = encode(photo.crop((0, 0, 96, 96)), kind)
    for kept in [5, 20, *np.linspace(30, len(data) - 40, 25).astype(int)]:
        assert kind in reason(data[:kept], STRICT)
    cause = "damaged WEBP (OSError)" if kind == "WEBP" else f"truncated {kind}"  # the WebP library does not tell why
    assert reason(data[: len(data) // 2], STRICT) == cause


def test_empty_foreign_and_web_page():
    assert reason(b"", STRICT) == "empty file"
    assert reason(b"%PDF-1.4 and so on", STRICT) == "not an image"
    assert reason(b"\n<!DOCTYPE html><title>Quota exceeded</title>", STRICT) == "not an image but a web page"


@pytest.mark.parametrize(("mode", "kind"), [("L", "JPEG"), ("CMYK", "JPEG"), ("RGBA", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("1", "PNG")])
def test_strict_decoding_refuses_other_modes(photo, mode, kind):
    data = encode(photo.convert(mode), kind)
    assert reason(data, STRICT).startswith(f"mode {mode}")
    assert "need RGB" in reason(data, STRICT)


@pytest.mark.parametrize(("mode", "kind"), [("L", "JPEG"), ("P", "PNG"), ("1", "PNG"), ("RGB", "WEBP"), ("RGB", "BMP")])
@pytest.mark.parametrize("channels", [1, 3])
def test_lenient_decoding_converts_what_has_one_meaning(photo, mode, kind, channels):
    image = photo.convert(mode)
    pixels = ImageDecoder(64, channels, convert=True).decode(encode(image, kind))
    assert pixels.shape == (channels, 64, 64)
    expected = image.convert("L" if channels == 1 else "RGB")
    assert abs(pixels.mean() - np.asarray(expected.crop((0, 20, 178, 198))).mean()) < 2


@pytest.mark.parametrize("mode", ["CMYK", "RGBA", "LA"])
def test_lenient_decoding_refuses_what_needs_a_decision(photo, mode):
    message = reason(encode(photo.convert(mode), "JPEG" if mode == "CMYK" else "PNG"), LENIENT)
    assert mode in message
    assert "first" in message


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_per_channel_are_refused(channels):
    rows = np.random.default_rng(2).integers(0, 256, (8, 1 + 8 * channels * 2), np.uint8)
    rows[:, 0] = 0  # no filter
    header = struct.pack(">IIBBBBB", 8, 8, 16, {1: 0, 3: 2}[channels], 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")):
        data += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    assert "more than 8 bits" in reason(data, ImageDecoder(8, channels, convert=True))


def test_palette_with_a_transparent_colour_is_refused(photo):
    assert "transparency" in reason(encode(photo.convert("P"), "PNG", transparency=0), LENIENT)


def test_animation_is_refused(photo):
    assert "animated" in reason(encode(photo, "WEBP", save_all=True, append_images=[photo.rotate(180)]), LENIENT)


def test_smaller_than_the_crop():
    data = encode(Image.new("RGB", (100, 80)))
    assert reason(data, ImageDecoder(64, crop=148)) == "size 100×80 is smaller than the crop 148"


@pytest.mark.parametrize("wrong", [{"size": 0}, {"size": 8, "crop": 0}, {"size": 8, "channels": 4}])
def test_decoding_refuses_impossible_values(wrong):
    with pytest.raises(ZooError, match="not possible"):
        ImageDecoder(**wrong)


def test_decode_all_keeps_good_rows_and_names_bad_ones(photo):
    good = encode(photo)
    files = {"a": good, "b": b"", "d": good[:-3000], "e": good}
    chunk = decode_all(files.__getitem__, ["a", "b", "c", "d", "e"], ImageDecoder(32))
    assert chunk.errors == {1: "empty file", 2: "cannot be read ('c')", 3: "truncated JPEG"}
    np.testing.assert_array_equal(chunk.images[[0, 4]], np.stack([ImageDecoder(32).decode(good)] * 2))
    assert chunk.digests[0] == chunk.digests[4] != chunk.digests[3]
    assert chunk.digests[2] == ""
    assert len(chunk.digests[1]) == 64
