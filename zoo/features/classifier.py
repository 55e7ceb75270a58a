"""A small classifier of the data set's own labels as features network; the one for `faces` ships with the package."""

import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.data.store import Store
from zoo.errors import ZooError
from zoo.features import cache as files
from zoo.features.base import Features
from zoo.features.classifier_training import STATISTICS, ClassifierTrainingConfig, as_input, pieces, train, varying
from zoo.files import locked
from zoo.nets.convnet import ConvClassifier

FORMAT = 2  # raise it with anything that changes what the same config gives
SHIPPED = Path(__file__).parent / "weights"


class Classifier(Features):
    """Means over the image of the first and the last stage's maps, each standardised on training images: (B, 152).

    Chosen by how well Fréchet distances tell disturbed faces: the last stage alone overlooks noise, and the two in the middle only repeat.
    """

    name = "classifier"
    mean: Tensor
    deviation: Tensor

    def __init__(self, content: dict[str, Any]) -> None:
        """`content` as in the files: "weights" (tensors, the large ones in float16) and "about" (plain values)."""
        super().__init__()
        self.about: dict[str, Any] = content["about"]
        self.attribute_names: tuple[str, ...] = tuple(self.about["attribute_names"])
        self.classes: bool = self.about["classes"]
        with torch.device("meta"):  # draws no random numbers
            self.net = ConvClassifier(self.about["channels"], len(self.attribute_names), norm=False)
        self.dim = content["weights"]["mean"].numel()
        self.register_buffer("mean", torch.zeros(self.dim))
        self.register_buffer("deviation", torch.ones(self.dim))
        self.load_state_dict({name: value.float() for name, value in content["weights"].items()}, assign=True)
        self.eval().requires_grad_(False)
        values = [value.numpy().tobytes() for _, value in sorted(self.state_dict().items())]
        self.sha256 = hashlib.sha256(b"".join(values)).hexdigest()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # up to twice as fast on a CPU

    def forward(self, image: Tensor) -> Tensor:
        return (self.net.means(as_input(image)) - self.mean) / self.deviation

    def predict(self, image: Tensor) -> Tensor:
        """Probabilities (B, A) of (B, C, H, W) uint8: of the classes, adding up to 1, or of each attribute on its own.

        An attribute's is as if images with and without it were equally many.
        """
        logits = self.net(as_input(image))
        return logits.softmax(1) if self.classes else logits.sigmoid()

    def identity(self) -> dict[str, Any]:
        shown = ("data", "image_size", "images", "accuracy", "balanced_accuracy")
        return {"name": self.name, "dim": self.dim, "sha256": self.sha256} | {key: self.about[key] for key in shown if key in self.about}


def classifier_of(store: Store, cache: Path, device: torch.device | str = "cpu") -> Classifier:
    """The classifier of this data set: shipped (faces at 64 and 32 pixels), from `cache`/features, or trained once and kept there.

    Of several processes at once one trains and the others wait. Raises ZooError for data without labels, a damaged installation
    or a folder that cannot be written to.
    """
    device = torch.device(device)
    if (shipped := shipped_file(store)) is not None:
        return Classifier(shipped).to(device)
    name = store.manifest["name"]
    if not varying(store.attributes[store.indices("train")]).any():
        raise ZooError(
            f"The images of '{name}' have no labels to train the features' network on: "
            f"name an InceptionV3 instead with features=inception features.weights=FILE."
        )
    config = ClassifierTrainingConfig()
    key = hashlib.sha256(json.dumps([FORMAT, store.sha256, asdict(config)]).encode()).hexdigest()
    path = Path(cache) / "features" / f"{name}-{store.image_size}-{key[:12]}.pt"
    with locked(path, f"training the features' network on {name}"):
        content = files.read_cached(path, "It is trained anew.")
        if content is None:
            print(f"training the features' network on {name} once: it stays in {path}.", file=sys.stderr, flush=True)
            content = trained(store, config, device)
            files.write(content, path)
    return Classifier(content).to(device)


def shipped_file(store: Store) -> dict[str, Any] | None:
    """The content of the file that ships for this kind of data, whatever their seed and number; None if there is none."""
    path = SHIPPED / f"{store.manifest['name']}-{store.image_size}.pt"
    if not path.exists():
        return None
    try:
        content = files.read(path)
    except ZooError as error:
        raise ZooError(f"{error} Install the zoo anew.") from None
    about = content["about"]
    same = about["drawing"] == store.manifest["settings"].get("drawing") and about["attribute_names"] == list(store.attribute_names)
    return content if same else None


def trained(store: Store, config: ClassifierTrainingConfig, device: torch.device) -> dict[str, Any]:
    """Trains on the store's training images and measures on its test images: the content of a file, see `Classifier`."""
    name = store.manifest["name"]
    rows = store.indices("train")
    net = train(store, config, device, f"training the features' network on {name}")
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean, deviation = standardisation(net, store, device)
    weights = {f"net.{key}": value.half() for key, value in net.cpu().state_dict().items()} | {"mean": mean, "deviation": deviation}
    about = {
        "attribute_names": list(store.attribute_names),
        "classes": store.has_classes,
        "channels": store.channels,
        "data": name,
        "image_size": store.image_size,
        "images": config.images(len(rows)),
        "drawing": store.manifest["settings"].get("drawing"),
    }
    classifier = Classifier({"about": about, "weights": weights}).to(device)
    return {"about": about | measured(classifier, store, device), "weights": weights}


@torch.no_grad()
def standardisation(net: ConvClassifier, store: Store, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation (D,) of the features of at most 10,000 training images; the deviation of a dead one is not quite 0."""
    rows = store.indices("train")
    few = rows[:: -(-len(rows) // STATISTICS)]
    found = [net.means(as_input(image)).cpu() for _, image in pieces(store, few, device, "standardising the features")]
    seen = torch.cat(found).double()
    deviation = seen.std(0, correction=0)
    return seen.mean(0).float(), deviation.clamp_min(1e-3 * deviation.mean()).float()


@torch.no_grad()
def measured(classifier: Classifier, store: Store, device: torch.device) -> dict[str, Any]:
    """What the classifier gets right on the test images: classes: "accuracy"; attributes: the mean "balanced_accuracy" as "accuracy"."""
    rows = store.indices("test")
    answers = np.empty((len(rows), len(classifier.attribute_names)), np.float32)
    for part, image in pieces(store, rows, device, "measuring the features' network"):
        answers[part] = classifier.predict(image).cpu().numpy()
    labels = store.attributes[rows].astype(bool)
    if classifier.classes:
        return {"accuracy": float((answers.argmax(1) == labels.argmax(1)).mean())}
    given = (answers > 0.5) == labels
    used = varying(store.attributes[store.indices("train")]) & varying(store.attributes[rows])
    balanced = {
        name: float((given[labels[:, i], i].mean() + given[~labels[:, i], i].mean()) / 2)
        for i, name in enumerate(classifier.attribute_names)
        if used[i]
    }
    return {"accuracy": float(np.mean(list(balanced.values()))), "balanced_accuracy": balanced}
