"""The drawn faces: the same everywhere, redrawable factor by factor, with attributes that agree with what is seen."""

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.data.faces.dataset import (
    ATTRIBUTE_NAMES,
    FACTOR_GROUPS,
    FACTOR_NAMES,
    Faces,
    attributes_of,
    export_celeba,
    render,
    sample_factors,
    swap_factors,
)
from zoo.data.source import SPLITS
from zoo.data.store import prepare
from zoo.errors import ZooError

STYLES = {  # what has no influence while the presence is 0
    "glasses": [name for name in FACTOR_GROUPS["Eyeglasses"] if name != "glasses"],
    "hat": [name for name in FACTOR_GROUPS["Wearing_Hat"] if name != "hat"],
    "beard": ["beard_style", "beard_density"],
    "moustache": ["moustache_width", "moustache_thickness"],
    "bangs": ["bangs_length"],
    "lipstick": ["lipstick_hue"],
}


def column(name: str) -> int:
    return FACTOR_NAMES.index(name)


def changed(factors: np.ndarray, **values: float) -> np.ndarray:
    """The factors with some of them set."""
    result = factors.copy()
    for name, value in values.items():
        result[:, column(name)] = value
    return result


def differ(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Largest difference of two pictures' grey levels, per face and pixel (N, H, W)."""
    return np.abs(a.astype(int) - b).max(1)


@pytest.fixture(scope="module")
def factors() -> np.ndarray:
    return sample_factors(40, seed=3)


def test_factors_depend_on_seed_and_position_only() -> None:
    few, many = sample_factors(5, seed=7), sample_factors(300, seed=7)
    assert few.dtype == np.float32
    assert few.shape == (5, len(FACTOR_NAMES))
    np.testing.assert_array_equal(few, many[:5])
    assert not np.array_equal(few, sample_factors(5, seed=8))
    assert not np.array_equal(few, sample_factors(5, seed=7, stream=1))
    assert len(set(FACTOR_NAMES)) == len(FACTOR_NAMES)
    assert np.isfinite(many).all()


def test_pictures_are_the_same_everywhere() -> None:
    """Means of four faces; other machines may differ in the last bits of sines and roots."""
    images = render(sample_factors(4, seed=0), 32)
    np.testing.assert_allclose(images.mean((2, 3)), GOLDEN_MEANS, atol=1)
    np.testing.assert_array_equal(images, render(sample_factors(4, seed=0), 32))


@pytest.mark.parametrize("size", [24, 64, (40, 30)])
def test_each_face_is_drawn_as_if_alone(factors: np.ndarray, size: int | tuple[int, int]) -> None:
    together = render(factors[:20], size)
    assert together.dtype == np.uint8
    assert together.shape == (20, 3, *((size, size) if isinstance(size, int) else size))
    alone = np.concatenate([render(row[None], size) for row in factors[:20]])
    assert differ(together, alone).max() <= 1


def test_size_changes_the_resolution_only(factors: np.ndarray) -> None:
    small = render(factors, 64).astype(float)
    for times in (2, 4):
        large = render(factors, 64 * times).reshape(len(factors), 3, 64, times, 64, times).mean((3, 5))
        assert np.abs(small - large).mean() < 1.5
    assert render(factors[:2], 16).std() > 20  # the smallest size still shows something


def test_what_is_absent_leaves_no_trace(factors: np.ndarray) -> None:
    for presence, styles in STYLES.items():
        without = changed(factors, **{presence: 0})
        restyled = changed(without, **dict.fromkeys(styles, 0.9))
        np.testing.assert_array_equal(render(without), render(restyled), err_msg=presence)


def test_glasses_change_only_what_lies_under_them(factors: np.ndarray) -> None:
    upright = changed(factors, yaw=0, tilt=0, shift_x=0, shift_y=0, zoom=0.95)
    seen = differ(render(changed(upright, glasses=0)), render(changed(upright, glasses=1)))
    y, x = (np.mgrid[:64, :64] + 0.5) / 32 - 1
    region = (np.abs(x) < 0.62) & (y > -0.25) & (y < 0.3)
    assert (seen[:, ~region] == 0).all()
    assert ((seen[:, region] > 8).mean(1) > 0.05).all()


def test_redrawing_takes_the_guides_glasses(factors: np.ndarray) -> None:
    target, guide = factors[:20], factors[20:]
    swapped = swap_factors(target, Eyeglasses=guide)
    glasses = [column(name) for name in FACTOR_GROUPS["Eyeglasses"]]
    others = [k for k in range(len(FACTOR_NAMES)) if k not in glasses]
    np.testing.assert_array_equal(swapped[:, glasses], guide[:, glasses])
    np.testing.assert_array_equal(swapped[:, others], target[:, others])
    np.testing.assert_array_equal(swap_factors(swapped, Eyeglasses=target), target)  # swapping back restores
    bare = changed(guide, glasses=0)
    assert not attributes_of(swap_factors(target, Eyeglasses=bare, Wearing_Hat=guide[:1]))[:, ATTRIBUTE_NAMES.index("Eyeglasses")].any()
    with pytest.raises(ZooError, match="Eyeglasses"):
        swap_factors(target, Eyeglases=guide)


def test_attributes_agree_with_factors() -> None:
    many = sample_factors(2000, seed=1)
    attributes = attributes_of(many)
    assert attributes.dtype == np.uint8
    assert attributes.shape == (2000, len(ATTRIBUTE_NAMES))
    assert len(ATTRIBUTE_NAMES) >= 14
    frequency = dict(zip(ATTRIBUTE_NAMES, attributes.mean(0), strict=True))
    assert all(0.02 < share < 0.98 for share in frequency.values()), frequency
    has = dict(zip(ATTRIBUTE_NAMES, attributes.astype(bool).T, strict=True))
    presences = {"Eyeglasses": "glasses", "Wearing_Hat": "hat", "Male": "male", "Bald": "bald", "Mustache": "moustache"}
    for name, presence in presences.items():
        np.testing.assert_array_equal(has[name], many[:, column(presence)] == 1)
    assert not (has["Goatee"] & has["No_Beard"]).any()
    assert not (has["Bald"] & has["Bangs"]).any()
    colors = sum(has[name].astype(int) for name in ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"))
    assert colors.max() == 1
    assert (colors[has["Bald"]] == 0).all()
    assert has["Male"][has["Mustache"]].all()
    assert has["Young"][has["Gray_Hair"]].mean() < has["Young"].mean()


@pytest.mark.parametrize("attribute", ATTRIBUTE_NAMES)
def test_every_attribute_can_be_seen(attribute: str) -> None:
    """A guide of the other class changes the picture and the attribute."""
    many = changed(sample_factors(400, seed=2), hat=0)
    label = attributes_of(many)[:, ATTRIBUTE_NAMES.index(attribute)]
    haired = many[:, column("bald")] == 0
    target = many[haired & (label == 0)] if attribute == "Bald" else many[haired & (label == label[haired][0])]
    guide = many[label != attributes_of(target)[0, ATTRIBUTE_NAMES.index(attribute)]]
    count = min(8, len(target), len(guide))
    swapped = swap_factors(target[:count], **{attribute: guide[:count]})
    flipped = attributes_of(swapped) != attributes_of(target[:count])
    assert flipped[:, ATTRIBUTE_NAMES.index(attribute)].all()
    assert (differ(render(swapped), render(target[:count])).max((1, 2)) >= 4).all()


def test_source_lists_and_reads_what_render_draws() -> None:
    faces = Faces(image_size=24, seed=5, train=6, val=3, test=4)
    listing = faces.scan()
    assert listing.names[0] == "000001.jpg"
    assert len(set(listing.names)) == 13
    assert [int((listing.splits == k).sum()) for k in range(len(SPLITS))] == [6, 3, 4]
    assert listing.factors is not None
    assert len(np.unique(listing.factors, axis=0)) == 13
    np.testing.assert_array_equal(listing.attributes, attributes_of(listing.factors))
    whole = faces.read(0, 13)
    assert not whole.errors
    assert whole.images.shape == (13, 3, 24, 24)
    pieces = np.concatenate([faces.read(start, min(start + 5, 13)).images for start in range(0, 13, 5)])
    assert differ(whole.images, pieces).max() <= 1
    assert differ(whole.images, render(listing.factors, 24)).max() <= 1
    more = Faces(image_size=24, seed=5, train=9, val=3, test=4)
    assert listing.factors[9:].tolist() == more.factors[12:].tolist()  # more to train on: the same to test on
    assert more.fingerprint() != faces.fingerprint() == Faces(24, 5, 6, 3, 4).fingerprint()
    for bad in ({"image_size": 15}, {"train": 0}, {"seed": -1}):
        with pytest.raises(ZooError):
            Faces(**bad)


def test_export_reads_back_as_celeba(tmp_path: Path) -> None:
    faces = Faces(64, seed=1, train=5, val=2, test=3)
    listing = faces.scan()
    export_celeba(faces, tmp_path / "celeba")
    count, names, *rows = (tmp_path / "celeba" / "list_attr_celeba.txt").read_text().splitlines()
    assert int(count) == 10
    assert names.split() == list(ATTRIBUTE_NAMES)
    table = {row.split()[0]: [int(sign) for sign in row.split()[1:]] for row in rows}
    parts = dict(line.split() for line in (tmp_path / "celeba" / "list_eval_partition.txt").read_text().splitlines())
    drawn = faces.read(0, 10).images
    for k, name in enumerate(listing.names):
        picture = Image.open(tmp_path / "celeba" / "img_align_celeba" / name)
        assert picture.size == (178, 218)
        square = picture.crop((15, 35, 163, 183)).resize((64, 64), Image.Resampling.BILINEAR, reducing_gap=None)
        assert np.abs(np.asarray(square).transpose(2, 0, 1).astype(int) - drawn[k]).mean() < 3
        assert [(sign + 1) // 2 for sign in table[name]] == listing.attributes[k].tolist()
        assert int(parts[name]) == listing.splits[k]
    with pytest.raises(ZooError, match="not an empty folder"):
        export_celeba(faces, tmp_path / "celeba")


GOLDEN_MEANS = [[148.5, 159.2, 140.7], [112.2, 108.6, 94.7], [123.2, 98.4, 98.1], [106.8, 106.4, 98.4]]


def test_no_face_is_in_two_splits():
    faces = Faces(image_size=16, train=300, val=100, test=200)
    rows = {row.tobytes() for row in faces.factors}
    assert len(rows) == 600
    assert sum((faces.scan().splits == k).sum() for k in range(3)) == 600


@pytest.mark.slow
def test_all_faces_are_drawn_in_ninety_seconds_on_two_cores(tmp_path):
    start = time.perf_counter()
    assert len(prepare(Faces(), tmp_path)) == 32_000
    assert time.perf_counter() - start < 90
