"""What is measured, and the one loop that all measurements share: rows computed in chunks over all ranks, returned in order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from zoo.batch import Batch, to_float, to_uint8
from zoo.data.loader import subset
from zoo.data.store import Store
from zoo.errors import ZooError
from zoo.evaluation.descriptors import METRICS
from zoo.features.base import Features
from zoo.features.cache import reference_features
from zoo.features.classifier import classifier_of
from zoo.features.inception import inception_from
from zoo.hardware import distributed
from zoo.metrics.feature_sets import frechet_distance, moments
from zoo.metrics.probes import varying
from zoo.models.base import Autoencoder
from zoo.progress import chunks
from zoo.runs.measurements import Measurement

T = TypeVar("T")
CHUNK = 128  # images at once; a part of the protocol as far as rounding goes


class Codes(NamedTuple):
    """Codes of N images, in the order of the store."""

    latents: Tensor  # (N, latent_dim) float32
    attributes: Tensor  # (N, A) uint8 in {0, 1}
    positions: Tensor  # (N,) int64, in the store


@dataclass
class EvalContext:
    """A model in eval mode, the data it is measured on, and the protocol's settings. Callers hold `torch.no_grad()`.

    Args:
        model: On its device.
        store: The data.
        split: What is measured on: "test", or "val" during training.
        count: N, images of every comparison; fewer where the split has fewer.
        features: The features network on the model's device; None where the data have no labels and none was named.
        cache: Folder of the packed stores, where features of real images are kept.
        seed: Of all draws.
        priors: Names of the densities that are fitted to the model's latents, beside its own prior.
    """

    model: Autoencoder
    store: Store
    split: str = "test"
    count: int = 10_000
    features: Features | None = None
    cache: Path = Path()
    seed: int = 0
    priors: Sequence[str] = ("gaussian", "mixture")

    def __post_init__(self) -> None:
        self.count = min(self.count, len(self.store.indices(self.split)))
        self.wanted: set[str] | None = None  # names of metrics; None = all
        self.notes: list[str] = []  # what is not measured, and why
        self._cache: dict[str, Any] = {}

    def wants(self, *names: str) -> bool:
        """Whether any of these metrics is asked for."""
        return self.wanted is None or not self.wanted.isdisjoint(names)

    def records(self, group: str, scores: dict[str, float], prior: str | None = None, item: str | None = None) -> list[Measurement]:
        """Scores of a group by metric (those of one prior, of one attribute or perturbation) as records; without those nobody wants."""
        found = []
        for metric in (METRICS[group][name] for name in scores if self.wants(name)):
            n = self.count if metric.max_n is None else min(self.count, metric.max_n)
            network = self.features.name if self.features is not None and metric.uses_features else None
            found.append(Measurement(group, metric.name, scores[metric.name], self.split, n, prior, network, item))
        return found

    def once(self, what: str, compute: Callable[[], T]) -> T:
        """The result of `compute()`, kept under the name `what`: several metrics share codes and statistics."""
        if what not in self._cache:
            self._cache[what] = compute()
        return self._cache[what]

    @property
    def device(self) -> torch.device:
        return self.model.device

    def positions(self, split: str, limit: int | None) -> Tensor:
        """Positions in the store of at most `limit` images of a split, always the same ones: (N,) int64."""
        return torch.from_numpy(subset(self.store.indices(split), limit))

    def batch(self, positions: Tensor) -> Batch:
        """These images of the store as a float batch on the device."""
        rows = positions.numpy()
        parts = (torch.from_numpy(self.store.images[rows]), torch.from_numpy(self.store.attributes[rows]), positions)
        return to_float(Batch(*(part.to(self.device) for part in parts)))

    def rows(self, total: int, task: str, work: Callable[[int, int], Tensor], size: int = CHUNK) -> Tensor:
        """`rows_of`, on the device."""
        return rows_of(total, task, work, size).to(self.device)

    def reference(self) -> Tensor:
        """Features of the N real images (N, D): computed once for all models, then read from the cache."""
        assert self.features is not None
        features, positions = self.features, self.positions(self.split, self.count)

        def work(start: int, stop: int) -> Tensor:
            return features(torch.from_numpy(self.store.images[positions[start:stop].numpy()]).to(self.device))

        compute = partial(self.rows, len(positions), f"features of {self.split} images", work)
        return self.once("reference", lambda: reference_features(features, self.store, self.split, positions, self.cache, compute))

    def frechet(self, fake: Tensor) -> float:
        """The Fréchet distance of these features (N, D) to those of the real images."""
        real = self.once("moments", lambda: moments(self.reference()))
        return frechet_distance(real, moments(fake))

    def codes(self, split: str, limit: int | None = None, use_attributes: bool = True) -> Codes:
        """Deterministic codes (`Autoencoder.encode`) of at most `limit` images of a split, on the device.

        `use_attributes`: the model may read the images' attributes; otherwise the codes hold what it sees in the images alone.
        """
        use_attributes = use_attributes or not self.model.reads_attributes
        positions = self.positions(split, limit)

        def encode(start: int, stop: int) -> Tensor:
            batch = self.batch(positions[start:stop])
            return self.model.encode(batch.image, batch.attributes if use_attributes else None).float()

        def compute() -> Codes:
            latents = self.rows(len(positions), f"codes of {split} images", encode)
            return Codes(latents, torch.from_numpy(self.store.attributes[positions.numpy()]).to(self.device), positions)

        return self.once(f"codes {split} {limit} {use_attributes}", compute)


def rows_of(total: int, task: str, work: Callable[[int, int], Tensor], size: int = CHUNK) -> Tensor:
    """`work(start, stop)` for consecutive chunks of `range(total)`, each on one rank: all rows in order, on every rank.

    Chunks are the same for any number of ranks, so the rows are, too: none doubled, none padded. Shows progress as `task`. An error on
    one rank is raised on all of them, so that none waits for the others.
    """
    rank, world = (dist.get_rank(), dist.get_world_size()) if distributed() else (0, 1)
    mine: dict[int, Tensor] = {}
    failure: Exception | None = None
    try:
        for start, stop in chunks(total, size, task, shown=rank == 0):
            if start // size % world == rank:
                mine[start] = work(start, stop)
    except Exception as error:
        failure = error
    if world > 1:
        everyone: list[Any] = [None] * world
        dist.all_gather_object(everyone, failure or {start: rows.cpu() for start, rows in mine.items()})
        failure = failure or next((part for part in everyone if isinstance(part, Exception)), None)
        mine = {start: rows for part in everyone if isinstance(part, dict) for start, rows in part.items()}
    if failure is not None:
        raise failure
    return torch.cat([mine[start] for start in sorted(mine)])


def quantised(images: Tensor) -> Tensor:
    """What is measured of generated images: `to_uint8`. Raises ZooError if some are not finite, which would look like black pixels."""
    if not images.isfinite().all():
        raise ZooError(
            "The model makes images that are not finite: it has diverged, so train it anew with a lower optimizer.lr or "
            "trainer.gradient_clip_val=1."
        )
    return to_uint8(images)


def features_of(context: EvalContext, name: str, weights: str | None) -> Features | None:
    """The features network for a context: "classifier" or "inception". None, and a note, for data without labels. Raises ZooError."""
    if name == "inception":
        return inception_from(weights, context.device)
    if name != "classifier":
        raise ZooError(f"features={name} is not known; use classifier or inception.")
    if weights is not None:
        raise ZooError("features.weights belongs to features=inception; the classifier ships with the package or is trained once.")
    if not varying(context.store.attributes).any():
        context.notes.append("Nothing is measured in feature space: the data have no labels for a classifier; use features=inception.")
        return None
    return classifier_of(context.store, context.cache, context.device)
