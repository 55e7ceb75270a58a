"""A small classifier of the data set's own labels as features network; the one for `faces` ships with the package.

Its training is deterministic on a CPU, and the caller's random numbers are left alone.
"""

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import Generator, Tensor
from torch.nn import functional as F

from zoo.data.store import Store
from zoo.errors import ZooError
from zoo.features import cache as files
from zoo.features.base import Features
from zoo.files import locked
from zoo.metrics.probes import varying
from zoo.nets.convnet import ConvClassifier
from zoo.progress import chunks

FORMAT = 2  # raise it with anything that changes what the same config gives
SHIPPED = Path(__file__).parent / "weights"
CHUNK = 256  # images at once when nothing is trained
STATISTICS = 10_000  # training images that the features are standardised with


@dataclass(frozen=True)
class ClassifierTrainingConfig:
    """AdamW under one cycle of the learning rate; it lasts `epochs`, but at least `least` and at most `most` images."""

    epochs: int = 10
    least: int = 2_000
    most: int = 200_000
    batch_size: int = 128
    lr: float = 4e-3
    weight_decay: float = 0.05
    seed: int = 0

    def batch(self, count: int) -> int:
        """Batch size for `count` training images: smaller for few, so that there are steps enough to learn something."""
        return min(max(32, count // 16), self.batch_size, count)

    def images(self, count: int) -> int:
        """Images to train on where the data set has `count`: whole batches."""
        batch = self.batch(count)
        return -(-min(max(self.epochs * count, self.least), self.most) // batch) * batch


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


def train(store: Store, config: ClassifierTrainingConfig, device: torch.device, task: str) -> ConvClassifier:
    """A classifier of the labels of the store's training images, BatchNorm folded in, its large weights rounded to float16."""
    rows = store.indices("train")
    labels = torch.from_numpy(store.attributes[rows])
    classes, used = store.has_classes, torch.from_numpy(varying(store.attributes[rows])).to(device)
    share = labels.float().mean(0).clamp(1e-6, 1 - 1e-6).to(device)
    prior = torch.zeros_like(share) if classes else share.logit()  # logit adjustment (2007.07314): the net answers for even odds
    generator = Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)  # not torch.manual_seed: that one would reach the GPUs', too
        net = ConvClassifier(store.channels, labels.shape[1])
    net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images, batch = config.images(len(rows)), config.batch(len(rows))
    optimizer = torch.optim.AdamW(net.parameters(), config.lr, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=images // batch, pct_start=0.2)
    epochs = -(-images // len(rows))
    order = torch.cat([torch.randperm(len(rows), generator=generator) for _ in range(epochs)])
    with torch.enable_grad():
        for start, stop in chunks(images, batch, task):
            chosen = order[start:stop]
            image = as_input(torch.from_numpy(store.images[rows[chosen.numpy()]]).to(device))
            target = labels[chosen].to(device)
            logits = net(image)
            if classes:
                loss = F.cross_entropy(logits, target.argmax(1))
            else:
                loss = F.binary_cross_entropy_with_logits((logits + prior)[:, used], target[:, used].float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    ready = net.eval().fused()
    for parameter in ready.parameters():
        parameter.copy_(parameter.half())
    return ready


@torch.no_grad()
def standardisation(net: ConvClassifier, store: Store, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation (D,) of the features of at most 10,000 training images; the deviation of a dead one is not quite 0."""
    rows = store.indices("train")
    few = rows[:: -(-len(rows) // STATISTICS)]
    seen = of_images(store, few, device, "standardising the features", lambda image: net.means(as_input(image))).double()
    deviation = seen.std(0, correction=0)
    return seen.mean(0).float(), deviation.clamp_min(1e-3 * deviation.mean()).float()


@torch.no_grad()
def measured(classifier: Classifier, store: Store, device: torch.device) -> dict[str, Any]:
    """What the classifier gets right on the test images: classes: "accuracy"; attributes: the mean "balanced_accuracy" as "accuracy"."""
    rows = store.indices("test")
    answers = of_images(store, rows, device, "measuring the features' network", classifier.predict).numpy()
    labels = store.attributes[rows].astype(bool)
    if classifier.classes:
        return {"accuracy": float((answers.argmax(1) == labels.argmax(1)).mean())}
    used = varying(store.attributes[store.indices("train")]) & varying(store.attributes[rows])
    balanced = {
        name: float(balanced_accuracy_score(labels[:, i], answers[:, i] > 0.5))
        for i, name in enumerate(classifier.attribute_names)
        if used[i]
    }
    return {"accuracy": float(np.mean(list(balanced.values()))), "balanced_accuracy": balanced}


def of_images(store: Store, positions: np.ndarray, device: torch.device, task: str, function: Callable[[Tensor], Tensor]) -> Tensor:
    """A function of uint8 images on the device, of these images of the store, chunk by chunk, on the CPU."""
    parts = (positions[start:stop] for start, stop in chunks(len(positions), CHUNK, task))
    return torch.cat([function(torch.from_numpy(store.images[part]).to(device)).cpu() for part in parts])


def as_input(image: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1], in the memory layout that convolutions are fastest with."""
    if image.dtype != torch.uint8:
        raise ValueError(f"a features network takes uint8 images, not {image.dtype}")
    return image.to(torch.float32, memory_format=torch.channels_last).div_(127.5).sub_(1)
