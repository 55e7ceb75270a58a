"""How well attributes can be edited: codes are moved along attribute vectors, decoded, and judged by a classifier.

An edit is decode(encode(x) ± v), v the mean code with the attribute minus the mean code without it: added where it is absent, taken
away where it is present (Larsen et al. 2016, 1512.09300, section 4.2). On `faces` the same face can be drawn again with the attribute:
the exact yardstick. The style of what is new is free (which glasses?), so the truth is drawn after the one of several guides that makes
the change most like the one that was made.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from zoo.data.faces.dataset import FACTOR_GROUPS, FACTOR_NAMES, attributes_of, render_in_parallel, swap_factors
from zoo.data.store import Store
from zoo.evaluation.context import EvalContext, quantised
from zoo.evaluation.descriptors import EDITS, METRICS
from zoo.features.classifier import Classifier
from zoo.metrics.edits import (
    Changes,
    attribute_preservation,
    attribute_vectors,
    change,
    change_cosine,
    change_share,
    changes,
    classified_as,
    nearest,
)
from zoo.runs.measurements import Measurement

CLASSIFIER_METRICS = tuple(name for name, metric in METRICS["attributes"].items() if metric.uses_features)  # by a classifier
TRUE = tuple(name for name in METRICS["attributes"] if name not in CLASSIFIER_METRICS)  # against the true edit
VECTOR_IMAGES = 10_000  # training images that the vectors are made of
CANDIDATES = 10_000  # images of the split among which those to be edited are found, whatever N is
LEAST = 10  # of each direction; an attribute with fewer is left out
GUIDES = 8  # faces of which one lends its style to the truth; with 16 the scores hardly change (measured)
SKETCH = 16  # pixels: the size at which guides are compared; at full size they would choose nearly the same (measured)

# Attributes of which one decides on another: a beard of one kind is none of another, and a bald head has no bangs.
TIED = (
    {"5_o_Clock_Shadow", "Goatee", "No_Beard", "Sideburns"},
    {"Bald", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"},
    {"Bald", "Straight_Hair", "Wavy_Hair"},
    {"Bald", "Bangs"},
)


class Edits(NamedTuple):
    """What is to be edited: E rows, those of one image beside each other."""

    positions: np.ndarray  # (E,) int64, of the original in the store
    columns: np.ndarray  # (E,) int64, of the attribute
    wanted: np.ndarray  # (E,) bool, True = to be added
    truths: np.ndarray  # (E, K, F) float32, factors of K right answers; K = 0 where nothing can be redrawn

    def take(self, rows: slice | np.ndarray) -> "Edits":
        """Some of them."""
        return Edits(*(field[rows] for field in self))


def attributes(context: EvalContext) -> list[Measurement]:
    """Each metric as the mean over the attributes, and each attribute's own value, with its name as the item.

    `success`, `success_reconstruction`: share of edits, and of plain reconstructions, whose attribute the classifier judges as wanted.
    `attribute_preservation`: share of the other attributes that it judges as in the plain reconstruction, without those tied to the
    edited one.
    `truth_cosine`, `truth_share` (`faces` only): how the made change compares with the true one, see `change_cosine`, `change_share`.
    `truth_mse` (`faces` only): error of the edit against the truth, and beside it `reconstruction_mse`, both of [0, 1] images.

    An attribute is left out if it does not vary in the training images, or if fewer than 10 images can be edited either way. Empty if
    the model cannot encode, or the features network is no classifier of these attributes. The same on all ranks.
    """
    model, store, classifier = context.model, context.store, judge_of(context)
    if classifier is None or not model.can_encode:
        return []
    known = context.codes("train", VECTOR_IMAGES)
    varied = known.attributes.amin(0) < known.attributes.amax(0)  # (A,); on the others the classifier has learnt nothing
    edits = edits_of(context, varied.nonzero()[:, 0].tolist())
    if edits is None:
        return []
    vectors = attribute_vectors(known.latents, known.attributes)  # (A, latent_dim)
    others = varied & ~tied(store.attribute_names).to(varied.device)  # (A, A)
    with_truths = edits.truths.size > 0 and context.wants(*TRUE)

    def measure(start: int, stop: int) -> Tensor:
        rows = edits.take(slice(start, stop))
        images, places = np.unique(rows.positions, return_inverse=True)  # each is edited several times
        column, wanted, which = (torch.from_numpy(part).to(context.device) for part in (rows.columns, rows.wanted, places))
        batch = context.batch(torch.from_numpy(images))
        codes = model.encode(batch.image, batch.attributes).float()
        plain = model.decode(codes)
        edited = model.decode(codes[which] + torch.where(wanted[:, None], vectors[column], -vectors[column]))
        before, after = classifier.predict(quantised(plain))[which], classifier.predict(quantised(edited))
        scores = [classified_as(after, column, wanted), classified_as(before, column, wanted)]
        scores.append(attribute_preservation(after, before, others[column]))
        if with_truths:
            truths = true_images(store, rows, change(plain[which], edited))
            scores += changes(batch.image[which], plain[which], edited, truths)
        return torch.stack(scores, 1)  # (B, 3 or 7)

    rows = context.rows(len(edits.positions), "edits of attributes", measure).cpu()
    tables = {int(column): _averages(rows[torch.from_numpy(edits.columns == column)]) for column in np.unique(edits.columns)}
    names = (*CLASSIFIER_METRICS, *TRUE) if with_truths else CLASSIFIER_METRICS
    found = context.records("attributes", {name: sum(table[name] for table in tables.values()) / len(tables) for name in names})
    for column, table in tables.items():
        found += context.records("attributes", table, item=store.attribute_names[column])
    return found


def judge_of(context: EvalContext) -> Classifier | None:
    """The features network, where it is a classifier of the data's attributes."""
    judge = context.features
    if isinstance(judge, Classifier) and judge.attribute_names == context.store.attribute_names and not judge.classes:
        return judge
    return None


def _averages(rows: Tensor) -> dict[str, float]:
    """The scores of one attribute from the rows of its edits."""
    columns = rows.double().unbind(1)
    scores = {name: column.mean().item() for name, column in zip(CLASSIFIER_METRICS, columns, strict=False)}
    if len(columns) > len(CLASSIFIER_METRICS):
        found = Changes(*columns[len(CLASSIFIER_METRICS) :])
        values = change_cosine(found), change_share(found), found.truth_mse.mean().item(), found.reconstruction_mse.mean().item()
        scores |= dict(zip(TRUE, values, strict=True))
    return scores


def edits_of(context: EvalContext, columns: list[int]) -> Edits | None:
    """All edits of these attributes, each of as many images without as with it, the first of the split. None if all have too few."""
    store, positions = context.store, context.positions(context.split, CANDIDATES).numpy()
    parts: list[Edits] = []
    for column in columns:
        has = store.attributes[positions, column] == 1
        if min(has.sum(), (~has).sum()) >= LEAST:
            sides = ((positions[has != wanted][: 2 * EDITS], positions[has == wanted], wanted) for wanted in (True, False))  # enough
            both = [possible_edits(store, targets, guides, column, wanted)[0] for targets, guides, wanted in sides]
            count = min(EDITS, *(len(edits.positions) for edits in both))
            if count >= LEAST:
                parts += [edits.take(slice(count)) for edits in both]
    if not parts:
        return None
    order = np.argsort(np.concatenate([part.positions for part in parts]), kind="stable")
    return Edits(*map(np.concatenate, zip(*parts, strict=True))).take(order)


def possible_edits(
    store: Store, targets: np.ndarray, guides: np.ndarray, column: int, wanted: bool, each_its_own: bool = False
) -> tuple[Edits, np.ndarray]:
    """Edits of `targets` (N,), all without what is wanted, and which are possible, (N,) bool: a bald face cannot be given bangs.

    `guides` have it. Truths are drawn after several of them, or with `each_its_own` after the one that stands in the target's place.
    """
    possible, truths = np.ones(len(targets), bool), np.empty((len(targets), 0, 0), np.float32)
    name = store.attribute_names[column]
    if store.factors is not None and store.factor_names == FACTOR_NAMES and name in FACTOR_GROUPS:
        lenders = store.factors[guides][None] if each_its_own else store.factors[guides[: 4 * GUIDES], None]  # (1, N, F) or (G, 1, F)
        swapped = np.stack([swap_factors(store.factors[targets], **{name: factors}) for factors in lenders])  # (G, N, F)
        works = np.stack([attributes_of(factors)[:, column] == wanted for factors in swapped])  # (G, N)
        chosen = np.flatnonzero(works.any(1))[:GUIDES]  # a bald guide has no colour of hair to give
        possible = np.logical_and(works[chosen].all(0), works.any(0))
        truths = swapped[chosen if each_its_own else np.resize(chosen, GUIDES)].swapaxes(0, 1)  # (N, K, F)
    edits = Edits(targets, np.full(len(targets), column), np.full(len(targets), wanted), truths)
    return edits.take(possible), possible


def tied(names: tuple[str, ...]) -> Tensor:
    """Which attribute is decided by which, itself included: (A, A) bool."""
    return torch.tensor([[one == other or any({one, other} <= group for group in TIED) for other in names] for one in names])


def true_images(store: Store, edits: Edits, made: Tensor) -> Tensor:
    """The redrawn faces (E, C, H, W) in [-1, 1], each after the guide that comes nearest to the change `made` (E, C, H, W) of it."""
    faces = np.concatenate([store.factors[edits.positions][:, None], edits.truths], 1)  # type: ignore[index]  # (E, 1 + K, F)
    sketches = drawn(faces, SKETCH).to(made.device)
    chosen = nearest(adaptive_avg_pool2d(made, SKETCH), change(sketches[:, :1], sketches[:, 1:])).cpu().numpy()
    return drawn(edits.truths[np.arange(len(chosen)), chosen][:, None], store.image_size)[:, 0].to(made.device)


def drawn(factors: np.ndarray, size: int) -> Tensor:
    """Draws faces (E, K, F) -> (E, K, 3, size, size) in [-1, 1]."""
    images = render_in_parallel(factors.reshape(-1, factors.shape[-1]), size)
    return torch.from_numpy(images).unflatten(0, factors.shape[:2]) / 127.5 - 1
