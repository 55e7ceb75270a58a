"""Probes on data whose answer is known."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from zoo.errors import ZooError
from zoo.metrics import probes
from zoo.metrics.probes import (
    factor_r2,
    knn_accuracy,
    knn_balanced_accuracy,
    linear_probe_attributes,
    linear_probe_classes,
    mlp_probe_attribute,
    reduce,
    standardise,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def phi(x: float) -> float:
    """Distribution function of N(0, 1)."""
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def gaussians(count: int, distance: float, share: float = 0.5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (count, 5) of two classes, unit Gaussians `distance` apart in an oblique direction, and the classes (count,)."""
    labels = (torch.rand(count, generator=torch.Generator().manual_seed(seed)) < share).long()
    direction = torch.tensor([1.0, -1, 1, 0, 1]) / 2
    return normal(count, 5, seed=seed + 1) + distance * labels[:, None] * direction, labels


def blobs(count: int, classes: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (count, 6) of classes so far apart that nothing can go wrong."""
    labels = torch.arange(count) % classes
    return 20 * torch.eye(6)[labels] + normal(count, 6, seed=seed), labels


# Standardising and reducing


def test_codes_are_standardised_by_train_and_constant_dimensions_are_zero():
    train, test = normal(500, 4) * torch.tensor([3.0, 1e-3, 1e4, 1]) + 7, normal(100, 4, seed=1)
    train[:, 3] = 0.1
    a, b = standardise(train, test)
    np.testing.assert_allclose(a.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(a.std(0), [1, 1, 1, 0], atol=1e-9)
    assert (b[:, 3] == 0).all()
    expected = (test[:, :3].double() - train[:, :3].double().mean(0)) / train[:, :3].double().std(0, correction=0)
    np.testing.assert_allclose(b[:, :3], expected.numpy(), rtol=1e-6)


def test_rounding_noise_around_a_large_constant_is_no_signal():
    train = torch.full((100, 2), 1e4)
    train[::2, 0] += 1e-3  # the next float32
    assert (train[0, 0] != train[1, 0]).item()
    assert (standardise(train, train)[0] == 0).all()


def test_few_dimensions_are_left_as_they_are():
    train, test = normal(20, 1024), normal(10, 1024)
    a, b, reduced = reduce(train, test)
    assert not reduced
    assert a is train
    assert b is test


def test_many_dimensions_become_the_principal_components_of_train():
    axes = torch.linalg.qr(normal(1500, 8, seed=1)).Q.T  # (8, 1500), orthonormal
    scale = 2.0 ** torch.arange(8, 0, -1)
    train, test = normal(300, 8) * scale, normal(50, 8, seed=2) * scale
    a, b, reduced = reduce(train @ axes + 5, test @ axes + 5, dimensions=8)
    assert reduced
    assert a.shape == (300, 8)
    centred = train - train.mean(0)
    values = torch.linalg.svd(centred).S
    torch.testing.assert_close(a.norm(dim=0), values, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(torch.cdist(b, a), torch.cdist(test, train), rtol=1e-3, atol=1e-2)  # a rotation, the same for both
    again = reduce(train @ axes + 5, test @ axes + 5, dimensions=8)
    assert torch.equal(a, again[0])
    assert torch.equal(b, again[1])


def test_fewer_codes_than_components_make_fewer_components(monkeypatch):
    assert reduce(normal(40, 1100), normal(7, 1100))[0].shape == (40, 40)
    monkeypatch.setattr(probes, "PCA_IMAGES", 10)  # fitted on every 4th
    train, test, _ = reduce(normal(40, 1100), normal(7, 1100))
    assert train.shape == (40, 10)
    assert test.shape == (7, 10)
    torch.testing.assert_close(train[::4].mean(0), torch.zeros(10), atol=1e-4, rtol=0)


# Classes


def test_separable_classes_are_read_without_error():
    (train, known), (test, truth) = blobs(400), blobs(200, seed=1)
    assert linear_probe_classes(train, known, test, truth) == 1
    assert knn_accuracy(train, known, test, truth) == 1


def test_labels_must_belong_to_the_codes():
    train, test = normal(4000, 4), normal(4000, 4, seed=1)
    known, truth = train.argmax(1), test.argmax(1)
    order = torch.randperm(4000, generator=torch.Generator().manual_seed(0))
    for probe in (linear_probe_classes, knn_accuracy):
        assert probe(train, known, test, truth) > 0.9
        assert probe(train, known, test, truth[order]) == pytest.approx(0.25, abs=0.03)  # chance
        assert probe(train, known[order], test, truth) < 0.5  # random regions, which may overlap with the true ones


def test_linear_probe_reaches_the_bayes_accuracy_of_two_gaussians():
    (train, known), (test, truth) = gaussians(20_000, 2.0), gaussians(20_000, 2.0, seed=5)
    best = phi(1.0)  # Φ(d/2)
    assert linear_probe_classes(train, known, test, truth) == pytest.approx(best, abs=3 * math.sqrt(best * (1 - best) / 20_000))


def test_probes_do_not_depend_on_the_units_of_the_codes():
    (train, known), (test, truth) = gaussians(2000, 1.5), gaussians(2000, 1.5, seed=5)
    units, origin = torch.tensor([1e-3, 1, 50, 1e4, 8]), torch.tensor([0.0, 3, -100, 0, 1])
    for probe in (linear_probe_classes, knn_accuracy):
        plain = probe(train, known, test, truth)
        assert probe(train * units + origin, known, test * units + origin, truth) == pytest.approx(plain, abs=2e-3)


def test_classes_keep_their_numbers():
    (train, known), (test, truth) = blobs(400), blobs(200, seed=1)
    names = torch.tensor([7, 3, 100, 0])
    assert linear_probe_classes(train, names[known], test, names[truth]) == 1
    assert knn_accuracy(train, names[known], test, names[truth]) == 1
    assert knn_accuracy(train, names[known], test, names[truth] + 1) == 0


def test_linear_probe_is_trained_to_convergence():
    """Strongly correlated codes, as far from convergence after scikit-learn's own 100 iterations as probes ever are."""
    mix = normal(40, 40, seed=3) * torch.logspace(0, -3, 40)
    (train, test), weights = (normal(count, 40, seed=count) for count in (3000, 1000)), normal(40, 3, seed=4)
    known, truth = (codes.mm(weights).argmax(1) for codes in (train, test))
    a, b = standardise(train @ mix.T, test @ mix.T)
    reference = LogisticRegression(tol=1e-9, max_iter=100_000).fit(a, known.numpy()).score(b, truth.numpy())
    assert linear_probe_classes(train @ mix.T, known, test @ mix.T, truth) == pytest.approx(reference, abs=1e-3)


def test_a_probe_that_does_not_converge_says_so(monkeypatch):
    monkeypatch.setattr(probes, "ITERATIONS", 2)
    with pytest.raises(RuntimeError, match="did not converge in 2 iterations"):
        linear_probe_classes(*gaussians(500, 1.0), *gaussians(500, 1.0, seed=5))


# Nearest neighbours


def test_one_neighbour_of_known_codes_is_the_code_itself():
    codes, labels = normal(300, 3), torch.arange(300) % 7
    assert knn_accuracy(codes, labels, codes, labels, k=1) == 1


def test_neighbours_are_those_of_all_distances():
    (train, known), (test, truth) = gaussians(700, 1.0), gaussians(300, 1.0, seed=5)
    a, b = (torch.from_numpy(part) for part in standardise(train, test))
    nearest = torch.cdist(b, a, compute_mode="donot_use_mm_for_euclid_dist").topk(9, largest=False).indices
    expected = (known[nearest].mode(1).values == truth).double().mean().item()  # an odd k: no ties between two classes
    assert knn_accuracy(train, known, test, truth, k=9) == pytest.approx(expected, abs=1e-12)


def test_between_equally_frequent_classes_the_nearest_code_decides():
    train, known = torch.tensor([[0.0], [1.0], [-1.1], [1.5], [-1.6]]), torch.tensor([2, 1, 0, 1, 0])
    test = torch.tensor([[0.0], [0.04], [-0.08]])
    truth = torch.tensor([1, 1, 0])  # twice 0, twice 1 and the nearest, 2, in the minority: of 0 and 1 the nearer one
    assert knn_accuracy(train, known, test, truth, k=5) == 1


def test_a_rare_attribute_is_found_where_it_is_more_frequent_than_usual():
    """5 % have it: among them a neighbourhood with a share of 1/3, elsewhere none. A majority vote would score 0.5."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.rand(8000, 1, generator=generator)
    known = ((codes < 0.15) & (torch.rand(8000, 1, generator=generator) < 1 / 3)).byte()
    score = knn_balanced_accuracy(codes[:6000], known[:6000], codes[6000:], known[6000:])
    best = (1 + 0.85 / 0.95) / 2  # all with it are found; of the 95 % without, 10 % are mistaken
    assert score.item() == pytest.approx(best, abs=0.03)


def test_an_attribute_as_frequent_as_usual_is_taken_from_the_nearest_code():
    train, known = torch.tensor([[0.0], [1.0], [10.0], [11.0]]), torch.tensor([[1], [0], [0], [1]])
    test, truth = torch.tensor([[0.4], [0.6], [10.4], [10.6]]), torch.tensor([[1], [0], [0], [1]])
    assert knn_balanced_accuracy(train, known, test, truth, k=2).item() == 1


# Attributes


def test_balanced_accuracy_of_a_rare_attribute_reaches_the_best():
    (train, known), (test, truth) = gaussians(40_000, 2.0, share=0.03), gaussians(40_000, 2.0, share=0.03, seed=5)
    probe = linear_probe_attributes(train, known[:, None], test, truth[:, None])
    assert probe.balanced_accuracy.item() == pytest.approx(phi(1.0), abs=0.02)  # 1,200 images with it: a standard error of 0.006
    plain = LogisticRegression().fit(train.numpy(), known.numpy())
    expected = average_precision_score(truth.numpy(), plain.decision_function(test.numpy()))
    assert probe.average_precision.item() == pytest.approx(expected, abs=0.005)  # weights move the threshold, not the order


def test_chance_is_one_half_and_the_share():
    train, test = normal(6000, 4), normal(6000, 4, seed=1)
    known, truth = ((torch.rand(6000, 2, generator=torch.Generator().manual_seed(i)) < 0.1).byte() for i in (0, 1))
    probe = linear_probe_attributes(train, known, test, truth)
    torch.testing.assert_close(probe.balanced_accuracy, torch.full((2,), 0.5, dtype=torch.float64), atol=0.05, rtol=0)
    torch.testing.assert_close(probe.average_precision, torch.full((2,), 0.1, dtype=torch.float64), atol=0.03, rtol=0)
    torch.testing.assert_close(
        knn_balanced_accuracy(train, known, test, truth), torch.full((2,), 0.5, dtype=torch.float64), atol=0.05, rtol=0
    )


def test_average_precision_is_that_of_a_known_order():
    """One dimension: the probe's order is the code's, whatever it learns."""
    (train, known), (test, truth) = ((codes[:, :1], labels) for codes, labels in (gaussians(3000, 2.0), gaussians(2000, 2.0, seed=5)))
    probe = linear_probe_attributes(train, known[:, None], test, truth[:, None])
    assert probe.average_precision.item() == pytest.approx(average_precision_score(truth.numpy(), test[:, 0].numpy()), abs=1e-12)
    assert roc_auc_score(truth.numpy(), test[:, 0].numpy()) < 0.99  # it is not a matter of 1 = 1


def test_attributes_with_a_single_value_are_not_scored():
    (train, known), (test, truth) = gaussians(200, 4.0), gaussians(100, 4.0, seed=5)
    known = torch.stack([known, torch.zeros_like(known), known, torch.ones_like(known)], 1)
    truth = torch.stack([truth, truth, torch.ones_like(truth), truth], 1)
    probe = linear_probe_attributes(train, known, test, truth)
    for scores in (*probe, knn_balanced_accuracy(train, known, test, truth)):
        assert scores.isnan().tolist() == [False, True, True, True]
        assert scores[0] > 0.9


def xor(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (count, 4) whose first two signs, equal or not, are the attribute (count,) of a quarter of them."""
    codes = normal(2 * count, 4, seed=seed)
    labels = codes[:, 0] * codes[:, 1] > 0
    kept = (~labels | (torch.arange(2 * count) % 3 == 0)).nonzero()[:count, 0]
    return codes[kept], labels[kept].byte()


def test_a_network_reads_what_no_line_can_separate():
    (train, known), (test, truth) = xor(1000), xor(2000, seed=1)
    assert truth.float().mean() == pytest.approx(0.25, abs=0.03)
    assert linear_probe_attributes(train, known[:, None], test, truth[:, None]).balanced_accuracy.item() < 0.56
    score = mlp_probe_attribute(train, known, test, truth)
    assert score > 0.9
    torch.manual_seed(1)  # nothing may depend on it
    assert mlp_probe_attribute(train, known, test, truth) == score


def test_a_network_does_not_find_what_is_not_there():
    train, test = normal(500, 6), normal(4000, 6, seed=1)
    known, truth = ((torch.rand(count, generator=torch.Generator().manual_seed(count)) < 0.15).byte() for count in (500, 4000))
    assert mlp_probe_attribute(train, known, test, truth) == pytest.approx(0.5, abs=0.04)  # 600 images with it: 0.5 ± 0.012
    collapsed = mlp_probe_attribute(torch.full_like(train, 0.3), known, torch.full_like(test, 0.3), truth)
    assert collapsed == 0.5


def test_a_network_finds_a_rare_attribute_as_well_as_the_best():
    (train, known), (test, truth) = gaussians(2000, 2.0, share=0.1), gaussians(10_000, 2.0, share=0.1, seed=5)
    assert mlp_probe_attribute(train, known, test, truth) == pytest.approx(phi(1.0), abs=0.03)  # unbalanced: 0.70


def test_a_network_needs_some_of_both_kinds():
    (train, known), (test, truth) = gaussians(200, 4.0), gaussians(100, 4.0, seed=5)
    few = torch.zeros_like(known).index_fill(0, torch.arange(9), 1)
    for labels in (few, 1 - few, torch.zeros_like(known)):
        assert math.isnan(mlp_probe_attribute(train, labels, test, truth))
    assert math.isnan(mlp_probe_attribute(train, known, test, torch.ones_like(truth)))


# Factors


def test_r2_of_codes_with_noise_is_known():
    """z = f + σε, so the best linear prediction explains 1 / (1 + σ²) of f."""
    factors = normal(30_000, 3)
    noise = torch.tensor([0.0, 0.5, 2.0])
    codes = (factors + noise * normal(30_000, 3, seed=1)) @ normal(3, 3, seed=2)
    scores = factor_r2(codes[:20_000], 5 * factors[:20_000] - 3, codes[20_000:], 5 * factors[20_000:] - 3)
    torch.testing.assert_close(scores, (1 / (1 + noise.double().square())), atol=0.015, rtol=0)


def test_r2_is_zero_without_relation_and_nan_for_constant_factors():
    factors = torch.cat([normal(6000, 1), torch.full((6000, 1), 0.1)], 1)
    codes = normal(6000, 10, seed=1)
    scores = factor_r2(codes[:4000], factors[:4000], codes[4000:], factors[4000:])
    assert abs(scores[0]) < 0.02
    assert scores[1].isnan()


def test_copies_of_a_dimension_change_nothing():
    factors, codes = normal(3000, 1), normal(3000, 3, seed=1)
    factors = factors + codes[:, :1]
    doubled = torch.cat([codes, codes, torch.full((3000, 1), 4.0)], 1)
    plain, copied = (factor_r2(part[:2000], factors[:2000], part[2000:], factors[2000:]) for part in (codes, doubled))
    torch.testing.assert_close(plain, copied, atol=1e-5, rtol=0)
    assert 0.4 < plain.item() < 0.6


# Everything


def test_the_same_codes_give_the_same_numbers():
    (train, known), (test, truth) = gaussians(900, 1.0), gaussians(300, 1.0, seed=5)
    for probe in (linear_probe_classes, knn_accuracy):
        assert probe(train, known, test, truth) == probe(train, known, test, truth)
    for probe in (factor_r2, knn_balanced_accuracy):
        assert torch.equal(probe(train, known[:, None], test, truth[:, None]), probe(train, known[:, None], test, truth[:, None]))


def test_codes_of_a_collapsed_encoder_give_chance():
    train, test = torch.full((400, 4), 0.3), torch.full((200, 4), 0.3)
    known, truth = torch.arange(400) % 2, torch.arange(200) % 2
    assert linear_probe_classes(train, known, test, truth) == 0.5
    assert knn_accuracy(train, known, test, truth) == 0.5
    probe = linear_probe_attributes(train, known[:, None], test, truth[:, None])
    assert probe.balanced_accuracy.item() == 0.5
    assert probe.average_precision.item() == 0.5
    assert factor_r2(train, known[:, None], test, truth[:, None]).item() == pytest.approx(0, abs=1e-9)


def test_bad_input_is_one_sentence():
    (train, known), (test, truth) = blobs(40), blobs(20)
    with pytest.raises(ZooError, match="linear probe needs at least 2 classes"):
        linear_probe_classes(train, torch.zeros_like(known), test, truth)
    with pytest.raises(ZooError, match="k = 10 needs at least 10 training images, not 9"):
        knn_accuracy(train[:9], known[:9], test, truth)
    with pytest.raises(ZooError, match="R² of factors cannot be measured: 1 of 40"):
        factor_r2(train.where(torch.arange(40)[:, None] != 3, torch.nan), known[:, None], test, truth[:, None])
    with pytest.raises(ValueError, match=r"\(N,\) and \(M,\)"):
        knn_accuracy(train, known[:, None], test, truth[:, None])
    with pytest.raises(ValueError, match=r"\(N, A\) and \(M, A\)"):
        linear_probe_attributes(train, known[:, None], test, truth[:-1, None])
