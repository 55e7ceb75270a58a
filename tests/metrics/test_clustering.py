"""Clustering accuracy on data whose clusters are known."""

import numpy as np
import pytest
import torch

from zoo.errors import ZooError
from zoo.metrics.probes import clustering_accuracy, whiten


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def blobs(count: int, classes: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (count, 4) of well separated classes, and the classes (count,)."""
    labels = torch.arange(count) % classes
    return 8 * normal(classes, 4, seed=99)[labels] + 0.2 * normal(count, 4, seed=seed), labels


def test_separated_classes_are_found_whatever_they_are_called():
    (train, _), (test, truth) = blobs(500), blobs(200, seed=1)
    assert clustering_accuracy(train, test, truth, 5) == 1
    for names in (torch.tensor([3, 0, 4, 1, 2]), torch.tensor([10, 7, 30, 2, 5])):
        assert clustering_accuracy(train, test, names[truth], 5) == 1


def test_labels_that_do_not_belong_to_the_codes_leave_chance():
    (train, _), (test, truth) = blobs(500), blobs(5000, seed=1)
    shuffled = truth[torch.randperm(5000, generator=torch.Generator().manual_seed(0))]
    assert clustering_accuracy(train, test, shuffled, 5) == pytest.approx(1 / 5, abs=0.03)


def test_each_cluster_stands_for_one_class_only():
    (train, _), (test, truth) = blobs(500), blobs(500, seed=1)
    assert clustering_accuracy(train, test, truth // 2, 5) == pytest.approx(3 / 5)  # classes 0, 0, 1, 1, 2: one cluster of each pair counts
    assert clustering_accuracy(train, test, torch.zeros_like(truth), 5) == pytest.approx(1 / 5)


def test_a_dimension_of_huge_variance_does_not_drown_the_others():
    (train, _), (test, truth) = blobs(2000), blobs(500, seed=1)
    mix = normal(5, 5, seed=7)

    def drowned(codes, seed):
        return torch.cat([codes, 1e4 * normal(len(codes), 1, seed=seed)], 1) @ mix

    assert clustering_accuracy(drowned(train, 2), drowned(test, 3), truth, 5) > 0.95


def test_whitened_codes_are_uncorrelated_on_train_and_keep_empty_dimensions_empty():
    mix = normal(3, 5, seed=1)  # of rank 3 in 5 dimensions, and one more that is constant
    train, test = (torch.cat([normal(count, 3, seed=count) @ mix + 4, torch.ones(count, 1)], 1) for count in (1000, 300))
    a, b = whiten(train, test)
    expected = np.diag([0, 0, 0, 1, 1, 1])
    np.testing.assert_allclose(a.T @ a / 1000, expected, atol=1e-3)
    np.testing.assert_allclose(b.T @ b / 300, expected, atol=0.3)
    np.testing.assert_allclose(a.mean(0), 0, atol=1e-3)


def test_the_same_codes_give_the_same_number_and_the_seed_counts():
    train, test, truth = normal(600, 6), normal(300, 6, seed=1), torch.arange(300) % 10
    scores = [clustering_accuracy(train, test, truth, 10, seed) for seed in (0, 0, 1, 2, 3)]
    assert scores[0] == scores[1]
    assert len(set(scores)) > 1


def test_a_collapsed_encoder_gets_the_largest_class_right():
    truth = torch.tensor([0] * 30 + [1] * 50 + [2] * 20)
    assert clustering_accuracy(torch.ones(100, 3), torch.ones(100, 3), truth, 3) == 0.5


def test_bad_input_is_one_sentence():
    (train, _), (test, truth) = blobs(20), blobs(20)
    with pytest.raises(ZooError, match="at least 5 training images for 5 clusters, not 4"):
        clustering_accuracy(train[:4], test, truth, 5)
    with pytest.raises(ZooError, match="clustering accuracy cannot be measured: 20 of 20"):
        clustering_accuracy(train, test * torch.inf, truth, 5)
    with pytest.raises(ValueError, match=r"classes are \(20,\)"):
        clustering_accuracy(train, test, truth[:, None], 5)
