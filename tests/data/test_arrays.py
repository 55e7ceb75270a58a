"""MNIST, Fashion-MNIST, CIFAR-10 and SVHN: every pixel and label arrives, damaged files do not."""

import os
import pickle
from functools import partial

import numpy as np
import pytest

from tests.data.makers import idx_bytes, make_cifar, make_mnist, make_svhn
from zoo.data.arrays import LAYOUTS, Arrays
from zoo.data.source import SPLITS
from zoo.data.store import prepare
from zoo.errors import ZooError

MNIST, FashionMNIST, CIFAR10, SVHN = (partial(Arrays, layout) for layout in LAYOUTS)

MAKERS = {
    MNIST: make_mnist,
    FashionMNIST: lambda root: make_mnist(root, folder="FashionMNIST"),
    CIFAR10: make_cifar,
    SVHN: make_svhn,
}


@pytest.mark.parametrize("source_of", MAKERS)
def test_pixels_labels_and_splits(source_of, tmp_path):
    images, labels = MAKERS[source_of](tmp_path)
    source = source_of(tmp_path)
    listing, native = source.scan(), images.shape[-1]
    count, train = len(images), len(images) - 12
    assert len(listing.names) == len(set(listing.names)) == count
    np.testing.assert_array_equal(listing.attributes.argmax(1), labels)
    np.testing.assert_array_equal(listing.attributes.sum(1), 1)
    assert len(source.attribute_names) == 10
    assert source.image_size == native
    np.testing.assert_array_equal(source.read(0, count).images, images.reshape(count, -1, native, native))
    np.testing.assert_array_equal(source.read(3, 7).images, source.read(0, count).images[3:7])
    parts = [set(np.flatnonzero(listing.splits == k)) for k in range(len(SPLITS))]
    assert parts[0] | parts[1] == set(range(train))  # val comes out of train
    assert not parts[0] & parts[1]
    assert parts[2] == set(range(train, count))
    assert len(parts[1]) == train // 10
    np.testing.assert_array_equal(source_of(tmp_path).scan().splits, listing.splits)
    assert len(listing.digests) == len({*source.layout.train, *source.layout.test})


def test_packed_files_are_the_same(tmp_path):
    images, _ = make_mnist(tmp_path, packed=True)
    np.testing.assert_array_equal(MNIST(tmp_path).read(0, 52).images[:, 0], images)


def test_32_pixels_are_padded_and_other_sizes_resized(tmp_path):
    images, _ = make_mnist(tmp_path)
    padded = MNIST(tmp_path, image_size=32).read(0, 5).images
    np.testing.assert_array_equal(padded[:, 0, 2:-2, 2:-2], images[:5])
    assert padded.sum() == images[:5].astype(int).sum()
    for size in (14, 64):
        resized = MNIST(tmp_path, image_size=size).read(0, 5).images
        assert resized.shape == (5, 1, size, size)
        assert abs(resized.mean() - images[:5].mean()) < 3
    make_cifar(tmp_path)
    assert CIFAR10(tmp_path, image_size=64).read(38, 42).images.shape == (4, 3, 64, 64)
    assert MNIST(tmp_path).settings() != MNIST(tmp_path, image_size=32).settings()
    for size, values in ((28, 784), (32, 784), (20, 400)):
        assert prepare(MNIST(tmp_path, image_size=size), tmp_path / "cache").original_values == values
    with pytest.raises(ZooError, match="image_size"):
        MNIST(tmp_path, image_size=0)


@pytest.mark.parametrize("source_of", MAKERS)
def test_missing_folder_or_file(source_of, tmp_path):
    for root in (None, tmp_path / "nowhere", tmp_path):
        for ask in (source_of(root).scan, source_of(root).fingerprint):
            with pytest.raises(ZooError, match=r"data\.root=DIR") as caught:
                ask()
            assert root is None or str(root) in str(caught.value)
    MAKERS[source_of](tmp_path)
    source = source_of(tmp_path)
    before = source.fingerprint()
    path = tmp_path / source.layout.test[0]
    os.utime(path, ns=(1, 1))
    assert source.fingerprint() != before
    path.unlink()
    with pytest.raises(ZooError, match=rf"has no {source.layout.test[0]}.*data\.root=DIR"):
        source.scan()


@pytest.mark.parametrize("source_of", MAKERS)
@pytest.mark.parametrize("damage", ["truncated", "empty", "web page"])
def test_damaged_files(source_of, damage, tmp_path):
    MAKERS[source_of](tmp_path)
    path = tmp_path / source_of().layout.train[0]
    data = path.read_bytes()
    path.write_bytes({"truncated": data[: len(data) * 2 // 3], "empty": b"", "web page": b"<html>quota exceeded</html>"}[damage])
    with pytest.raises(ZooError, match=rf"{path.name}.* damaged or truncated .*download it again\.$"):
        source_of(tmp_path).scan()


def test_labels_must_fit_the_images(tmp_path):
    make_mnist(tmp_path)
    labels = tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    for wrong, message in ((np.zeros(39), "39 labels"), (np.full(40, 10), "labels from 10 to 10")):
        labels.write_bytes(idx_bytes(wrong))
        with pytest.raises(ZooError, match=message):
            MNIST(tmp_path).scan()


class Evil:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (self.canary,)


@pytest.mark.parametrize("protocol", [2, 5])
def test_a_pickle_cannot_run_code(tmp_path, protocol):
    make_cifar(tmp_path)
    path, canary = tmp_path / "cifar-10-batches-py" / "data_batch_3", tmp_path / "canary"
    content = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps(content, protocol))  # harmless in either protocol
    assert len(CIFAR10(tmp_path).scan().names) == 52
    path.write_bytes(pickle.dumps({**content, "more": Evil(str(canary))}, protocol))
    with pytest.raises(ZooError, match=r"asks for \w+\.mkdir"):
        CIFAR10(tmp_path).scan()
    assert not canary.exists()
