"""How well classes fall into clusters of codes that nobody labelled: ACAI's protocol (Berthelot et al. 2019, 1807.07543, section 4.2).

Codes are whitened by the training codes' principal components, grouped by k-means on train, and clusters are matched one to one with
classes on test. The authors take the best of 1,000 random starts; here it is the best of 20 by k-means++, at a fiftieth of the cost.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics.cluster import contingency_matrix
from threadpoolctl import threadpool_limits
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.feature_sets import check_features
from zoo.metrics.probes import standardise

STARTS = 20


def clustering_accuracy(train: Tensor, test: Tensor, test_labels: Tensor, clusters: int, seed: int = 0) -> float:
    """Accuracy on test in [0, 1] of k-means fitted to train: codes (N, D) and (M, D), classes (M,) int64.

    Clusters are named so that most of test is right: chance is above 1 / clusters. Raises ZooError for too few or not finite codes.
    """
    check_features("The clustering accuracy", 1, train, test)
    if len(train) < clusters:
        raise ZooError(f"The clustering accuracy needs at least {clusters} training images for {clusters} clusters, not {len(train)}.")
    if test_labels.shape != (len(test),):
        raise ValueError(f"classes are ({len(test)},), not {tuple(test_labels.shape)}")
    a, b = whiten(train, test)
    means = KMeans(clusters, n_init=STARTS, max_iter=1000, random_state=seed)
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
