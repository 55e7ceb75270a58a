"""What can be read from codes by linear probes, a small network, neighbours, regression and clusters: fitted on train, scored on test.

After the fact, on frozen codes, and to convergence, where ACAI (1807.07543) trains its single layer beside the autoencoder: the numbers
do not depend on a learning rate or on when one stops. scikit-learn and scipy do the work, in float64 on the CPU.

Codes are (N, D) on train and (M, D) on test, of any device and float type. All raise ZooError for values not finite.
"""

import warnings
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import average_precision_score, balanced_accuracy_score, r2_score
from sklearn.metrics.cluster import contingency_matrix
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.feature_sets import check_features

TOLERANCE = 1e-5  # largest slope of the mean loss: scores move by less than 1e-3 from there on
ITERATIONS = 20_000  # tens to hundreds are needed
MLP_PENALTY = 1.0  # scikit-learn's alpha; with its own 1e-4 the network overfits and scores up to 0.05 less (measured on known tasks)
PCA_IMAGES = 10_000
CLUSTERING_STARTS = 20
PENALTY = 1e-6  # on squared coefficients, beside a mean squared error: only for codes that are copies of each other

Probe = TypeVar("Probe", LogisticRegression, MLPClassifier)


class AttributeProbe(NamedTuple):
    """One score in [0, 1] per attribute, (A,) float64; NaN for attributes that have a single value in train or test."""

    balanced_accuracy: Tensor  # mean of the accuracies on images with and without it: chance is 0.5, however rare it is
    average_precision: Tensor  # chance is the attribute's share


def reduce(train: Tensor, test: Tensor, dimensions: int = 256, above: int = 1024) -> tuple[Tensor, Tensor, bool]:
    """Codes of more than `above` dimensions as their first `dimensions` principal components on train, others as they are; whether it did.

    Components of at most 10,000 evenly spaced training codes, by randomised SVD with a fixed seed, fewer of them if N is smaller:
    (N, 256) and (M, 256) float32 on the CPU. 15 s on one core for D = 12,288 and about three copies of those codes.
    """
    if train.shape[1] <= above:
        return train, test, False
    check_features("The principal components of codes", 2, train)
    check_features("The principal components of codes", 1, train, test)
    fitted = train[:: -(-len(train) // PCA_IMAGES)].float().cpu().numpy()
    analysis = PCA(min(dimensions, len(fitted)), svd_solver="randomized", random_state=0).fit(fitted)
    a, b = (torch.from_numpy(analysis.transform(codes.float().cpu().numpy())) for codes in (train, test))
    return a, b, True


def standardise(train: Tensor, test: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Codes of mean 0 and standard deviation 1 on train, float64. A dimension that is constant there, up to float32's rounding, is 0."""
    a, b = (codes.double().cpu().numpy() for codes in (train, test))
    mean, deviation = a.mean(0), a.std(0)  # (D,)
    constant = deviation <= 1e-6 * np.abs(mean)
    scale = np.where(constant, 0, 1 / np.where(constant, 1, deviation))
    return (a - mean) * scale, (b - mean) * scale


def linear_probe_classes(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    """Accuracy on test in [0, 1] of multinomial logistic regression on standardised codes, for classes (N,) and (M,).

    Penalty ½‖w‖² beside the summed loss. Raises ZooError for fewer than two classes in train.
    """
    a, b = _prepare("The linear probe", 1, train, train_labels, test, test_labels)
    known = train_labels.cpu().numpy()
    if len(np.unique(known)) < 2:
        raise ZooError("The linear probe needs at least 2 classes among the training images, and there is only 1.")
    return float((_converged(LogisticRegression(), a, known).predict(b) == test_labels.cpu().numpy()).mean())


def linear_probe_attributes(train: Tensor, train_attributes: Tensor, test: Tensor, test_attributes: Tensor) -> AttributeProbe:
    """Scores on test of one logistic regression per attribute on standardised codes, for attributes (N, A) and (M, A) in {0, 1}.

    Images with and without the attribute weigh the same in total, as balanced accuracy counts them.
    """
    a, b = _prepare("The linear probe", 2, train, train_attributes, test, test_attributes)
    known, truth = train_attributes.cpu().numpy(), test_attributes.cpu().numpy()
    scores = np.full((2, known.shape[1]), np.nan)
    for i in np.flatnonzero(varying(known) & varying(truth)):
        margin = _converged(LogisticRegression(class_weight="balanced"), a, known[:, i]).decision_function(b)  # (M,)
        scores[:, i] = balanced_accuracy_score(truth[:, i], margin > 0), average_precision_score(truth[:, i], margin)
    return AttributeProbe(*torch.from_numpy(scores))


def mlp_probe_attribute(train: Tensor, train_attribute: Tensor, test: Tensor, test_attribute: Tensor) -> float:
    """Balanced accuracy on test in [0, 1] of a network with two layers of 512 ReLU units, for one attribute (N,) and (M,) in {0, 1}.

    On standardised codes, by Adam, images with and without the attribute weighing the same in total. Converged means: on a tenth of
    the training images, held out, no epoch of the last 10 has raised the balanced accuracy; the weights of the best epoch are scored, as
    beyond it the network learns its images by heart. The seed is fixed. NaN if fewer than 10 images have it, or lack it, in train, or
    none in test. 20,000 codes of 28 dimensions take 10 to 50 s on one core.
    """
    a, b = _prepare("The network probe", 1, train, train_attribute, test, test_attribute)
    known, truth = train_attribute.cpu().numpy(), test_attribute.cpu().numpy()
    counts = np.bincount(known, minlength=2)
    if counts.min() < 10 or not varying(truth):
        return np.nan
    network = MLPClassifier((512, 512), alpha=MLP_PENALTY, early_stopping=True, random_state=0)
    fitted = _converged(network, a.astype(np.float32), known, len(known) / (2 * counts[known]))
    return float(balanced_accuracy_score(truth, fitted.predict(b.astype(np.float32))))


def knn_accuracy(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, k: int = 10) -> float:
    """Accuracy on test in [0, 1] of the majority among the k nearest standardised training codes, for classes (N,) and (M,).

    Of equally frequent classes the one wins that has the nearest code. Raises ZooError for fewer than k training images.
    """
    neighbours = _neighbours(1, train, train_labels, test, test_labels, k)  # (M, k)
    classes, known = np.unique(train_labels.cpu().numpy(), return_inverse=True)
    votes = np.zeros((len(test), len(classes)))
    ranked = 1 + 0.5 ** np.arange(2, k + 2)  # what is beyond 1 adds up to less than 1/2
    np.add.at(votes, (np.arange(len(test))[:, None], known[neighbours]), ranked)
    return float((classes[votes.argmax(1)] == test_labels.cpu().numpy()).mean())


def knn_balanced_accuracy(train: Tensor, train_attributes: Tensor, test: Tensor, test_attributes: Tensor, k: int = 10) -> Tensor:
    """Balanced accuracy on test of the k nearest standardised training codes, for attributes (N, A) and (M, A) in {0, 1}: (A,) float64.

    An attribute is taken as present if it is more frequent among the neighbours than in train, as a majority would hardly ever find
    a rare one; if it is just as frequent, as in the nearest code. NaN for attributes that have a single value in train or test.
    Raises ZooError for fewer than k training images.
    """
    neighbours = _neighbours(2, train, train_attributes, test, test_attributes, k)  # (M, k)
    known, truth = train_attributes.cpu().numpy().astype(np.int64), test_attributes.cpu().numpy()
    excess = known[neighbours].sum(1) * len(known) - k * known.sum(0)  # (M, A), exact
    present = np.where(excess == 0, known[neighbours[:, 0]], excess > 0)
    scores = np.full(known.shape[1], np.nan)
    for i in np.flatnonzero(varying(known) & varying(truth)):
        scores[i] = balanced_accuracy_score(truth[:, i], present[:, i])
    return torch.from_numpy(scores)


def factor_r2(train: Tensor, train_factors: Tensor, test: Tensor, test_factors: Tensor) -> Tensor:
    """R² on test of each factor's least-squares prediction from the codes, for factors (N, F) and (M, F): (F,) float64.

    1: the codes hold it linearly; 0 or below: no better than its mean. NaN for factors that are constant in train or test.
    """
    a, b = _prepare("The R² of factors", 2, train, train_factors, test, test_factors)
    known, truth = train_factors.double().cpu().numpy(), test_factors.double().cpu().numpy()
    predicted = Ridge(PENALTY * len(a)).fit(a, known).predict(b)  # (M, F)
    scores = r2_score(truth, predicted, multioutput="raw_values")
    return torch.from_numpy(np.where(varying(known) & varying(truth), scores, np.nan))


def clustering_accuracy(train: Tensor, test: Tensor, test_labels: Tensor, clusters: int, seed: int = 0) -> float:
    """Accuracy on test in [0, 1] of k-means fitted to train: codes (N, D) and (M, D), classes (M,) int64.

    ACAI's protocol (1807.07543, section 4.2): codes are whitened by the training codes' principal components, grouped by k-means on train,
    and clusters are matched one to one with classes on test, so that most of test is right: chance is above 1 / clusters. The authors take
    the best of 1,000 random starts; here it is the best of 20 by k-means++, at a fiftieth of the cost. Raises ZooError for too few codes.
    """
    check_features("The clustering accuracy", 1, train, test)
    if len(train) < clusters:
        raise ZooError(f"The clustering accuracy needs at least {clusters} training images for {clusters} clusters, not {len(train)}.")
    if test_labels.shape != (len(test),):
        raise ValueError(f"classes are ({len(test)},), not {tuple(test_labels.shape)}")
    a, b = whiten(train, test)
    means = KMeans(clusters, n_init=CLUSTERING_STARTS, max_iter=1000, random_state=seed)
    with threadpool_limits(1, "openmp"):  # threads would add up the members of a cluster in any order
        found = means.fit(a).predict(b)
    hits = contingency_matrix(test_labels.cpu().numpy(), found)  # (classes, clusters)
    return float(hits[linear_sum_assignment(hits, maximize=True)].sum() / len(test))


def whiten(train: Tensor, test: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Codes (N, D) and (M, D) along the principal components of train, with variance 1 there: float32, of the same shapes.

    Components whose standard deviation is below 1e-6 of the largest hold nothing but float32's rounding and become 0.
    """
    a, b = standardise(train, test)
    variances, axes = np.linalg.eigh(a.T @ a / len(a))  # ascending
    empty = variances <= 1e-12 * variances[-1]
    onto = axes * np.where(empty, 0, 1 / np.sqrt(np.where(empty, 1, variances)))  # (D, D)
    return (a @ onto).astype(np.float32), (b @ onto).astype(np.float32)


def _prepare(metric: str, ndim: int, train: Tensor, known: Tensor, test: Tensor, truth: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Standardised codes, after all that can be wrong with them or with their labels of `ndim` dimensions."""
    check_features(metric, 1, train, test)
    if known.ndim != ndim or len(known) != len(train) or truth.shape != (len(test), *known.shape[1:]):
        expected = "(N,) and (M,)" if ndim == 1 else "(N, A) and (M, A)"
        shapes = f"{tuple(known.shape)} and {tuple(truth.shape)}"
        raise ValueError(f"labels of N = {len(train)} and M = {len(test)} codes are {expected}, not {shapes}")
    return standardise(train, test)


def varying(values: np.ndarray) -> np.ndarray:
    """Which columns of (N, A) hold more than one value: (A,) bool."""
    return (values != values[:1]).any(0)


def _converged(probe: Probe, codes: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Probe:
    """The probe, fitted until no slope of the mean loss, or no rise of the held-out score, exceeds TOLERANCE; else RuntimeError."""
    probe.set_params(tol=TOLERANCE, max_iter=ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            return probe.fit(codes, labels, weights)
        except ConvergenceWarning as warning:
            raise RuntimeError(f"the probe did not converge in {ITERATIONS:,} iterations") from warning


def _neighbours(ndim: int, train: Tensor, known: Tensor, test: Tensor, truth: Tensor, k: int) -> np.ndarray:
    """Rows in train of the k nearest codes to each of test, nearest first: (M, k) int64. Exact, in float64."""
    if len(train) < k:
        raise ZooError(f"The nearest-neighbour accuracy with k = {k} needs at least {k} training images, not {len(train)}.")
    a, b = _prepare("The nearest-neighbour accuracy", ndim, train, known, test, truth)
    return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(a).kneighbors(b, return_distance=False)
