"""How well UDT takes its attribute from one image to another, and what its content code still tells of it (Press et al., 2001.05017).

Three edits of the measured split: add(poor, guide), remove(rich) and swap(rich, guide), each of other random pairs. A classifier judges
them; on `faces` the same face is drawn again with the guide's glasses, or without its own, so that there the error is known pixel by pixel.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from zoo.batch import to_uint8
from zoo.data.store import Store
from zoo.evaluation.attributes import CLASSIFIER_METRICS, Edits, judge_of, possible_edits, tied, true_images
from zoo.evaluation.context import EvalContext, quantised
from zoo.evaluation.descriptors import METRICS, PAIRS
from zoo.metrics.edits import Errors, attribute_preservation, change, classified_as, errors, masked_relative_mse, unmasked_relative_mse
from zoo.metrics.probes import linear_probe_attributes, mlp_probe_attribute, reduce, varying
from zoo.models.training_config import seed_of
from zoo.models.udt import UDT
from zoo.progress import busy
from zoo.runs.measurements import Measurement

WAYS: dict[str, Callable[[UDT, Tensor, Tensor], Tensor]] = {
    "add": UDT.add,
    "remove": lambda model, rich, guide: model.remove(rich),
    "swap": UDT.swap,
}
CONTENT = ("content_linear", "content_mlp")
EDITED = tuple(name for name in METRICS["transfer"] if name not in CONTENT)
LEAST = 10  # images of each domain
TRAIN_IMAGES = 20_000  # codes that the probes are fitted to
TRANSFERS = 30  # key of a random stream


class Pairs(NamedTuple):
    """What is to be edited, and after which image; a removal needs none, and its guides are those of its truths."""

    edits: Edits
    guides: np.ndarray  # (P,) int64, position in the store


def transfer(context: EvalContext) -> list[Measurement]:
    """The numbers of a UDT: of each way `add`, `remove` and `swap`, of up to 1,000 pairs, and of its content code.

    `<way>_success`, `<way>_success_reconstruction`: share of edits, and of plain reconstructions, whose attribute the classifier judges
    as wanted: absent after a removal, else present. `<way>_attribute_preservation`: share of the other attributes that it judges as in
    the plain reconstruction, without those tied to the edited one. Only where the features network is a classifier of these attributes.
    `<way>_masked_relative_mse`, `<way>_unmasked_relative_mse` (`faces` only): see `masked_relative_mse`, `unmasked_relative_mse`. The
    truth of a removal is drawn after the one of several faces without the attribute that makes the change most like the one that was
    made; without glasses all are the same.
    `content_linear`, `content_mlp`: balanced accuracy of telling rich from poor by the content code, 0.5 = not at all; probes fitted to
    codes of 20,000 training images.

    Empty for other models, and with a note where fewer than 10 images have the attribute or lack it. The same on all ranks.
    """
    model, store = context.model, context.store
    if not isinstance(model, UDT):
        return []
    column = int(model.column)
    rich = int(store.attributes[store.indices(context.split), column].sum())
    poor = len(store.indices(context.split)) - rich
    if min(rich, poor) < LEAST:
        counts = f"{rich} images of the split '{context.split}' have {store.attribute_names[column]} and {poor} lack it"
        context.notes.append(f"Transfer is not measured: {counts}, and {LEAST} of each are needed.")
        return []
    scores: dict[str, float] = {}
    if context.wants(*EDITED):
        found = pairs_of(context, column)
        fewest, wanted = min(len(pairs.guides) for pairs in found.values()), min(PAIRS, context.count)
        if fewest < wanted:
            only = f"only {fewest} pairs instead of {wanted}: the split '{context.split}' has no more"
            context.notes.append(f"Transfer is measured on {only}.")
        for way, pairs in found.items():
            scores |= {f"{way}_{name}": value for name, value in scores_of(context, model, way, pairs, column).items()}
    if context.wants(*CONTENT):
        scores |= content_scores(context, model, column)
    return context.records("transfer", scores)


def scores_of(context: EvalContext, model: UDT, way: str, pairs: Pairs, column: int) -> dict[str, float]:
    """The scores of one way, without its name; {} if it is impossible."""
    store = context.store
    varied = torch.from_numpy(varying(store.attributes[store.indices("train")]))  # (A,); on the others the classifier has learnt nothing
    others = (varied & ~tied(store.attribute_names)[column]).to(context.device)
    classifier = judge_of(context) if varied[column] else None
    with_truths = pairs.edits.truths.size > 0
    if len(pairs.guides) == 0 or (classifier is None and not with_truths):
        return {}

    def measure(start: int, stop: int) -> Tensor:
        edits, guides = pairs.edits.take(slice(start, stop)), pairs.guides[start:stop]
        batch = context.batch(torch.from_numpy(edits.positions))
        plain = model.reconstruct(batch.image, batch.attributes)
        edited = WAYS[way](model, batch.image, context.batch(torch.from_numpy(guides)).image)
        before, after = quantised(plain), quantised(edited)
        rows: list[Tensor] = []
        if classifier is not None:
            columns, wanted = (torch.from_numpy(field).to(context.device) for field in (edits.columns, edits.wanted))
            was, now = classifier.predict(before), classifier.predict(after)
            rows += [classified_as(now, columns, wanted), classified_as(was, columns, wanted)]
            rows.append(attribute_preservation(now, was, others.expand_as(now)))
        if with_truths:
            truths = to_uint8(true_images(store, edits, change(plain, edited)))
            rows += errors(to_uint8(batch.image), before, after, truths)
        return torch.stack(rows, 1)  # (B, 3, 4 or 7)

    columns = context.rows(len(pairs.guides), f"pairs to {way}", measure).cpu().double().unbind(1)
    scores: dict[str, float] = {}
    if classifier is not None:
        scores |= {name: values.mean().item() for name, values in zip(CLASSIFIER_METRICS, columns, strict=False)}
    if with_truths:
        summed = Errors(*columns[-len(Errors._fields) :])
        scores |= {"masked_relative_mse": masked_relative_mse(summed), "unmasked_relative_mse": unmasked_relative_mse(summed)}
    return scores


def pairs_of(context: EvalContext, column: int) -> dict[str, Pairs]:
    """Random pairs for each way, the same for the same seed: poor with rich, rich with poor, rich with other rich."""
    store = context.store
    positions = store.indices(context.split)
    generator = Generator().manual_seed(seed_of(context.seed, TRANSFERS))
    positions = positions[torch.randperm(len(positions), generator=generator).numpy()]
    has = store.attributes[positions, column] == 1
    rich, poor = positions[has], positions[~has]
    sides = {"add": (poor, rich), "remove": (rich, poor), "swap": (rich, np.roll(rich, 1))}
    return {way: pairs_between(store, *sides[way], column, way != "remove", min(PAIRS, context.count)) for way in WAYS}


def pairs_between(store: Store, targets: np.ndarray, guides: np.ndarray, column: int, wanted: bool, limit: int) -> Pairs:
    """Up to `limit` possible pairs of one target and one guide."""
    count = min(len(targets), len(guides))
    # Added are the guide's own glasses; what takes the place of something removed is free (which colour of hair?).
    edits, possible = possible_edits(store, targets[:count], guides[:count], column, wanted, each_its_own=wanted)
    return Pairs(edits.take(slice(limit)), guides[:count][possible][:limit])


def content_scores(context: EvalContext, model: UDT, column: int) -> dict[str, float]:
    """What a linear probe and a network of 2×512 units read of the domain from content codes."""
    train, test = context.codes("train", TRAIN_IMAGES), context.codes(context.split, context.count)
    a, b, reduced = reduce(train.latents[:, : model.content_dim], test.latents[:, : model.content_dim])
    if reduced:
        least = f"{model.content_dim} dimensions of content were reduced to {a.shape[1]} principal components"
        context.notes.append(f"To probe the domain, {least}; what the others tell is not seen.")
    known, truth = (codes.attributes[:, column, None] for codes in (train, test))
    scores: dict[str, float] = {}
    with busy(f"probing {len(a):,} content codes"):
        if context.wants("content_linear"):
            scores["content_linear"] = linear_probe_attributes(a, known, b, truth).balanced_accuracy.item()
        if context.wants("content_mlp"):
            scores["content_mlp"] = mlp_probe_attribute(a, known[:, 0], b, truth[:, 0])
    return scores
