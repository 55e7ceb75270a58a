"""Two processes measure what one measures: the same numbers, no image doubled or left out."""

import pytest
import torch
import torch.distributed as dist

from tests.evaluation.numbers import evaluate
from tests.evaluation.ranks import on_both_of_two_ranks
from zoo.errors import ZooError
from zoo.evaluation.context import rows_of


def numbers(store_path, cache):
    from zoo.data.store import Store
    from zoo.evaluation.context import EvalContext
    from zoo.features.classifier import classifier_of
    from zoo.models.vae import VAE
    from zoo.nets.conv import ConvBackbone

    torch.manual_seed(0)
    store = Store.open(store_path)
    model = VAE(backbone=ConvBackbone(image_size=32, channels=3, width=16), latent_dim=8).eval()
    torch.manual_seed(dist.get_rank() if dist.is_initialized() else 7)  # nothing may depend on it
    return evaluate(EvalContext(model, store, features=classifier_of(store, cache), cache=cache))


@pytest.mark.slow
def test_two_ranks_measure_what_one_measures(faces, untrained, tmp_path):
    for found in on_both_of_two_ranks(tmp_path, lambda: numbers(faces.path, tmp_path / "cache")):
        assert found == untrained


def ordered():
    rows = (rows_of(total, "numbers", lambda start, stop: torch.arange(start, stop)[:, None] * 1.0, size=3) for total in (20, 2))
    return [found[:, 0].tolist() for found in rows]


def test_rows_of_two_ranks_come_in_order_and_once(tmp_path):
    for many, few in on_both_of_two_ranks(tmp_path, ordered):
        assert many == [*range(20)]
        assert few == [0, 1]  # one rank has nothing to do


def failing():
    def work(start, stop):
        if start == 3:  # the second rank's
            raise ZooError("These images are not finite.")
        return torch.zeros(stop - start)

    try:
        rows_of(20, "numbers", work, size=3)
    except ZooError as error:
        return str(error)


def test_an_error_of_one_rank_is_raised_on_all(tmp_path):
    assert on_both_of_two_ranks(tmp_path, failing) == ["These images are not finite."] * 2
