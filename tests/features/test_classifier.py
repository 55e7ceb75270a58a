"""The features' classifier: what it learns, what it claims, and what is kept of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.features.toys import TEST, Marks, Stripes, Unlabelled
from zoo.data.faces.dataset import ATTRIBUTE_NAMES, Faces, attributes_of, render, sample_factors
from zoo.data.store import Store, prepare
from zoo.errors import ZooError
from zoo.features import classifier as module
from zoo.features.cache import read, write
from zoo.features.classifier import SHIPPED, Classifier, classifier_of


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def stripes(caches):
    return prepare(Stripes(), caches)


@pytest.fixture(scope="module")
def marks(caches):
    return prepare(Marks(), caches)


@pytest.fixture(scope="module")
def of_classes(stripes, caches):
    return classifier_of(stripes, caches)


@pytest.fixture(scope="module")
def of_attributes(marks, caches):
    return classifier_of(marks, caches)


def images_of(store, split="test"):
    rows = store.indices(split)
    return torch.from_numpy(store.images[rows]), torch.from_numpy(store.attributes[rows])


# --- what it learns -----------------------------------------------------------------------------------------------------------


def test_classes_are_learned_and_the_claim_is_true(of_classes, stripes):
    images, labels = images_of(stripes)
    given = of_classes.predict(images)
    assert of_classes.classes
    assert given.shape == (TEST, 3)
    torch.testing.assert_close(given.sum(1), torch.ones(TEST))
    accuracy = (given.argmax(1) == labels.argmax(1)).double().mean().item()
    assert accuracy >= 0.95
    assert of_classes.identity()["accuracy"] == pytest.approx(accuracy, abs=1e-9)
    assert "balanced_accuracy" not in of_classes.identity()


def test_attributes_are_learned_each_on_its_own_and_the_claim_is_true(of_attributes, marks):
    images, labels = images_of(marks)
    given = of_attributes.predict(images)
    assert not of_attributes.classes
    assert given.shape == (TEST, 4)
    claimed = of_attributes.identity()["balanced_accuracy"]
    assert list(claimed) == ["Across", "Rare"]  # the others cannot be measured
    for column, name in enumerate(claimed):
        truth, answer = labels[:, column] == 1, given[:, column] > 0.5
        balanced = (answer[truth].double().mean() + (~answer[~truth]).double().mean()) / 2
        assert balanced >= 0.9
        assert claimed[name] == pytest.approx(balanced.item(), abs=1e-9)
    assert of_attributes.identity()["accuracy"] == pytest.approx(np.mean(list(claimed.values())))


def test_shuffled_labels_are_not_learned(tmp_path):
    accuracy = classifier_of(prepare(Stripes(shuffled=True), tmp_path), tmp_path).identity()["accuracy"]
    assert accuracy < 1 / 3 + 4 * (2 / 9 / TEST) ** 0.5  # chance, and four standard errors


# --- what it gives ------------------------------------------------------------------------------------------------------------


def test_features_are_standardised_on_the_training_images(of_classes, stripes):
    features = of_classes(images_of(stripes, "train")[0])
    assert features.dtype == torch.float32
    assert features.shape[1] == of_classes.dim
    torch.testing.assert_close(features.mean(0), torch.zeros(of_classes.dim), atol=1e-3, rtol=0)
    deviation = features.std(0, correction=0)
    alive = deviation > 0.99
    torch.testing.assert_close(deviation[alive], torch.ones(int(alive.sum())), atol=1e-3, rtol=0)
    assert alive.double().mean() > 0.8
    assert features.isfinite().all()


@pytest.mark.parametrize("what", ["forward", "predict"])
def test_a_row_depends_on_its_image_only_and_on_no_randomness(of_attributes, marks, what):
    images = images_of(marks)[0][:9]
    look = getattr(of_attributes, what)
    together = look(images)
    torch.manual_seed(1)
    assert torch.equal(together, look(images))
    torch.testing.assert_close(together, torch.cat([look(image[None]) for image in images]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together.flip(0), look(images.flip(0)), rtol=1e-4, atol=1e-4)


def test_it_is_frozen(of_classes):
    assert not of_classes.training
    assert not any(parameter.requires_grad for parameter in of_classes.parameters())


def test_it_takes_uint8_images_of_its_channels(of_classes):
    with pytest.raises(ValueError, match="uint8"):
        of_classes(torch.zeros(2, 1, 16, 16))
    with pytest.raises(ValueError, match="square images"):
        of_classes(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))


def test_identity_is_json_and_names_the_weights(of_classes, of_attributes):
    identity = json.loads(json.dumps(of_classes.identity()))
    assert {"name": "classifier", "data": "stripes", "image_size": 16, "images": 2560}.items() <= identity.items()
    assert identity["dim"] == of_classes.dim
    assert len(identity["sha256"]) == 64
    assert identity["sha256"] != of_attributes.identity()["sha256"]


# --- what is kept -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def trainings(monkeypatch):
    """Counts trainings."""
    seen = []
    original = module.trained
    monkeypatch.setattr(module, "trained", lambda *arguments: seen.append(arguments) or original(*arguments))
    return seen


def test_the_second_time_nothing_is_trained(of_classes, stripes, caches, trainings, capfd):
    again = classifier_of(stripes, caches)
    assert trainings == []
    assert capfd.readouterr().err == ""
    assert again.identity() == of_classes.identity()
    images = images_of(stripes)[0]
    assert torch.equal(again(images), of_classes(images))
    assert torch.equal(again.predict(images), of_classes.predict(images))


def test_training_says_why_and_leaves_random_state_and_grad_mode_alone(tmp_path, trainings, capfd):
    store = prepare(Stripes(seed=3), tmp_path)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with torch.no_grad():
        first = classifier_of(store, tmp_path)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.rand(3), expected)
    assert "training the features' network on stripes once" in capfd.readouterr().err
    torch.manual_seed(6)
    assert module.trained(store, module.ClassifierTrainingConfig(), torch.device("cpu"))["weights"]["net.head.weight"].equal(
        first.net.head.weight.half()
    )


def test_other_data_or_another_config_is_another_file(stripes, of_classes, caches, tmp_path, monkeypatch, trainings):
    content = {"about": of_classes.about, "weights": of_classes.state_dict()}
    monkeypatch.setattr(module, "trained", lambda *arguments: trainings.append(arguments) or content)
    for store in (stripes, prepare(Stripes(seed=1), caches)):
        classifier_of(store, tmp_path)
    other = module.ClassifierTrainingConfig(lr=1e-3)
    monkeypatch.setattr(module, "ClassifierTrainingConfig", lambda: other)
    classifier_of(stripes, tmp_path)
    assert len(trainings) == 3
    assert len(list((tmp_path / "features").glob("stripes-16-*.pt"))) == 3


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "code"])
def test_a_damaged_file_is_named_and_trained_anew(stripes, of_classes, caches, tmp_path, trainings, monkeypatch, capfd, damage):
    [kept] = (caches / "features").glob("stripes-*.pt")
    path = tmp_path / "features" / kept.name
    path.parent.mkdir()
    data = bytearray(kept.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
    path.write_bytes({"truncated": data[:-100], "empty": b""}.get(damage, data))
    if damage == "code":
        torch.save({"about": os.system}, path)
    content = read(kept)
    monkeypatch.setattr(module, "trained", lambda *arguments: trainings.append(arguments) or content)
    assert classifier_of(stripes, tmp_path).identity() == of_classes.identity()
    assert len(trainings) == 1
    said = capfd.readouterr().err
    assert str(path) in said
    assert "trained anew" in said
    assert classifier_of(stripes, tmp_path).identity() == of_classes.identity()  # repaired
    assert len(trainings) == 1


def test_a_folder_that_cannot_be_written_to(stripes, tmp_path):
    (tmp_path / "features").write_text("a file")
    with pytest.raises(ZooError, match=r"cannot write to the cache folder .*data\.cache=DIR"):
        classifier_of(stripes, tmp_path)


def test_nothing_half_written_stays(tmp_path):
    with pytest.raises(AttributeError):
        write({"a": lambda: 0}, tmp_path / "x.pt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", [(), ("Always", "Ever")])
def test_data_without_labels_are_refused(tmp_path, names):
    with pytest.raises(ZooError, match=r"'unlabelled' have no labels .*features=inception features\.weights=FILE"):
        classifier_of(prepare(Unlabelled(names), tmp_path), tmp_path)


def test_of_two_processes_one_trains(stripes, tmp_path):
    command = [sys.executable, "-m", "tests.features.test_classifier", str(stripes.path), str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, cwd=Path(__file__).parents[2], **pipes) for _ in range(2)]
    said = [process.communicate(timeout=200) for process in processes]
    assert said[0][0] == said[1][0] != ""
    assert sum("once: it stays in" in errors for _, errors in said) == 1, said
    assert len(list((tmp_path / "features").glob("*.pt"))) == 1


# --- what ships ---------------------------------------------------------------------------------------------------------------


def test_the_shipped_files_are_small_and_in_half_precision():
    paths = sorted(SHIPPED.glob("*"))
    assert [path.name for path in paths] == ["faces-32.pt", "faces-64.pt"]
    assert sum(path.stat().st_size for path in paths) <= 2_000_000


@pytest.mark.parametrize("size", [64, 32])
def test_the_shipped_classifier_is_used_for_any_faces_and_as_good_as_it_claims(size, tmp_path, trainings):
    store = prepare(Faces(size, seed=7, train=2, val=1, test=2), tmp_path)
    classifier = classifier_of(store, tmp_path)
    assert trainings == []
    assert classifier.identity()["data"] == "faces"
    assert classifier.identity()["image_size"] == size
    assert classifier.attribute_names == ATTRIBUTE_NAMES
    factors = sample_factors(1000, seed=12345)
    given = classifier.predict(torch.from_numpy(render(factors, size))).numpy() > 0.5
    truth = attributes_of(factors) == 1
    balanced = [(given[truth[:, i], i].mean() + (~given[~truth[:, i], i]).mean()) / 2 for i in range(len(ATTRIBUTE_NAMES))]
    assert np.mean(balanced) == pytest.approx(classifier.identity()["accuracy"], abs=0.02)
    assert classifier.identity()["accuracy"] > 0.85


def test_faces_of_another_drawing_or_size_are_not_given_the_shipped_one(tmp_path, trainings, monkeypatch):
    store = prepare(Faces(64, train=2, val=1, test=2), tmp_path)
    content = read(SHIPPED / "faces-64.pt")
    monkeypatch.setattr(module, "trained", lambda *arguments: trainings.append(arguments) or content)
    classifier_of(prepare(Faces(48, train=8, val=1, test=2), tmp_path), tmp_path)
    assert len(trainings) == 1
    store.manifest["settings"]["drawing"] = -1
    classifier_of(store, tmp_path)
    assert len(trainings) == 2


def test_a_damaged_installation_is_named(tmp_path, monkeypatch):
    store = prepare(Faces(64, train=2, val=1, test=2), tmp_path)
    (tmp_path / "faces-64.pt").write_bytes(b"no archive")
    monkeypatch.setattr(module, "SHIPPED", tmp_path)
    with pytest.raises(ZooError, match=r"faces-64\.pt is damaged .*Install the zoo anew"):
        classifier_of(store, tmp_path)


def test_the_files_hold_what_makes_a_classifier(of_classes, caches):
    [kept] = (caches / "features").glob("stripes-*.pt")
    content = read(kept)
    assert Classifier(content).sha256 == of_classes.sha256
    assert all(value.dtype == torch.float16 for name, value in content["weights"].items() if name.startswith("net."))


# --- what it reacts to --------------------------------------------------------------------------------------------------------


def frechet(one, other):
    """The Fréchet distance of two sets of features (N, D)."""
    one, other = one.double(), other.double()
    first, second = torch.cov(one.T), torch.cov(other.T)
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    return ((one.mean(0) - other.mean(0)).square().sum() + first.trace() + second.trace() - 2 * cross).item()


def blurred(images, sigma):
    weights = torch.exp(-0.5 * (torch.arange(-6, 7) / sigma) ** 2)
    weights = (weights / weights.sum()).expand(3, 1, 1, 13)
    at_least_float32 = torch.nn.functional.pad(images, [6] * 4, mode="reflect")
    return torch.nn.functional.conv2d(torch.nn.functional.conv2d(at_least_float32, weights, groups=3), weights.mT, groups=3)


def patched(images, side):
    images = images.clone()
    low = 32 - side // 2
    images[:, :, low : low + side, low : low + side] = 128
    return images


def moved(images, pixels):
    return torch.nn.functional.pad(images, [pixels, 0, 0, 0], mode="replicate")[..., :64]


DISTURBANCES = {
    "blur": (blurred, (0.5, 1, 2)),
    "noise": (lambda images, sigma: images + sigma * torch.randn(images.shape, generator=torch.Generator().manual_seed(0)), (5, 10, 20)),
    "brightness": (lambda images, levels: images + levels, (5, 10, 20)),
    "colour": (lambda images, levels: images + levels * torch.tensor([1.0, 0, -1]).view(3, 1, 1), (5, 10, 20)),
    "ghost": (lambda images, share: (1 - share) * images + share * images.flip(0), (0.1, 0.25, 0.5)),
    "patch": (patched, (4, 8, 16)),
    "shift": (moved, (1, 2, 4)),
}


@pytest.mark.slow
def test_the_distance_grows_with_every_disturbance(tmp_path):
    classifier = classifier_of(prepare(Faces(64, train=2, val=1, test=2), tmp_path), tmp_path)
    drawn = [torch.from_numpy(render(sample_factors(2000, seed=seed), 64)) for seed in (1, 2)]

    def features(images):
        return torch.cat([classifier(part) for part in images.split(250)])

    real = features(drawn[0])
    floor = frechet(real, features(drawn[1]))
    for name, (disturb, levels) in DISTURBANCES.items():
        disturbed = [disturb(drawn[1].float(), level).round().clamp(0, 255).to(torch.uint8) for level in levels]
        distances = [frechet(real, features(images)) for images in disturbed]
        assert floor < distances[0] < distances[1] < distances[2], (name, floor, distances)
        assert distances[2] > 3 * floor, (name, floor, distances)


if __name__ == "__main__":  # one of two processes
    torch.set_num_threads(1)
    print(classifier_of(Store.open(Path(sys.argv[1])), Path(sys.argv[2])).sha256)
