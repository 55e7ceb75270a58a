"""What can be measured: each metric of the protocol with all that is known of it beside its value. No torch: tables need it, too."""

from typing import Any, NamedTuple

from zoo.errors import ZooError, nearest


class Metric(NamedTuple):
    """One metric of a group."""

    name: str
    label: str  # as the title of a column, without the group's name
    better: str | float | None = None  # "high", "low", the value to come near, or None where there is no better
    digits: int = 3  # after the point
    factor: float = 1  # what values are multiplied by in tables
    uses_features: bool = False  # of a network, whose name is then a part of the record
    max_n: int | None = None  # at most so many images, whatever N is


PATHS = 500  # interpolations whose smoothness in feature space is measured
LINE_IMAGES = 512  # make 256 pairs: ACAI, 1807.07543, section 3.2
INVARIANCE_IMAGES = 2_000
DRAWS, DRAWS_IMAGES = 64, 1_000  # importance-weighted: K, and images
EDITS = 100  # of each attribute and direction
PAIRS = 1_000  # of each way of transfer
WAYS = ("add", "remove", "swap")  # of transfer
PRIORS = ("gaussian", "mixture", "flow")  # that can be fitted to latents, in the order of tables

_METRICS: dict[str, list[Metric]] = {
    "samples": [
        Metric("frechet", "Fréchet", "low", uses_features=True),
        Metric("kernel_distance", "kernel distance × 10³", "low", 2, 1000, uses_features=True),
        Metric("kid", "KID × 10³", "low", 2, 1000, uses_features=True),  # the kernel distance of Inception's features
        Metric("precision", "precision", "high", uses_features=True),
        Metric("recall", "recall", "high", uses_features=True),
        Metric("density", "density", "high", uses_features=True),
        Metric("coverage", "coverage", "high", uses_features=True),
        Metric("laplacian_energy_ratio", "sharpness", 1.0, 2),
        Metric("latent_nll", "negative log-likelihood of latents, nats", "low", 2),
    ],
    "reconstructions": [
        Metric("mse", "mse", "low", 5),
        Metric("psnr", "psnr, dB", "high", 2),
        Metric("ssim", "ssim", "high"),
        Metric("lpips", "lpips", "low"),
        Metric("laplacian_energy_ratio", "sharpness", 1.0, 2),
        Metric("frechet", "Fréchet, reconstructions", "low", uses_features=True),
    ],
    "interpolations": [
        Metric("frechet", "Fréchet, midpoints", "low", uses_features=True),
        Metric("smoothness", "smoothness in feature space", "low", uses_features=True, max_n=PATHS),
        Metric("mean_distance", "mean distance of lines × 10³", "low", 2, 1000, max_n=LINE_IMAGES),
        Metric("line_smoothness", "smoothness of lines", "low", max_n=LINE_IMAGES),
        Metric("line_smoothness_unbiased", "smoothness of lines, unbiased", "low", max_n=LINE_IMAGES),
        Metric("line_undefined", "lines that do not turn", max_n=LINE_IMAGES),
    ],
    "representation": [
        Metric("linear_accuracy", "linear probe", "high"),
        Metric("knn_accuracy", "k-NN", "high"),
        Metric("clustering_accuracy", "clustering", "high"),
        Metric("linear_balanced_accuracy", "linear probe, balanced", "high"),
        Metric("linear_average_precision", "average precision", "high"),
        Metric("knn_balanced_accuracy", "k-NN, balanced", "high"),
        Metric("factor_r2", "factors, R²", "high"),
        Metric("mig", "MIG", "high"),
    ],
    "invariance": [Metric("distance", "change of the code", "low", max_n=INVARIANCE_IMAGES)],
    "likelihood": [
        Metric("bits_per_dim", "bits/dim", "low"),
        Metric("elbo_bits_per_dim", "bits/dim ≤ (ELBO)", "low"),
        Metric(f"iw{DRAWS}_bits_per_dim", f"bits/dim ≤ ({DRAWS} draws)", "low", max_n=DRAWS_IMAGES),
    ],
    "attributes": [
        Metric("success", "attribute changed", "high", uses_features=True, max_n=EDITS),
        Metric("success_reconstruction", "… already in reconstructions", uses_features=True, max_n=EDITS),
        Metric("attribute_preservation", "others kept", "high", uses_features=True, max_n=EDITS),
        Metric("truth_cosine", "cosine with the true change", "high", max_n=EDITS),
        Metric("truth_share", "share of the true change", max_n=EDITS),
        Metric("truth_mse", "mse to the truth", "low", 5, max_n=EDITS),
        Metric("reconstruction_mse", "mse of reconstructions", "low", 5, max_n=EDITS),
    ],
    "transfer": [
        *(
            Metric(f"{way}_{name}", f"{way}: {label}", better, uses_features=judged, max_n=PAIRS)
            for way in WAYS
            for name, label, better, judged in (
                ("success", "seen", "high", True),
                ("success_reconstruction", "seen in reconstructions", None, True),
                ("attribute_preservation", "others kept", "high", True),
                ("masked_relative_mse", "error, masked region", "low", False),
                ("unmasked_relative_mse", "error, elsewhere", 1.0, False),
            )
        ),
        Metric("content_linear", "domain, linear", 0.5),
        Metric("content_mlp", "domain, 2×512", 0.5),
    ],
}
METRICS = {group: {metric.name: metric for metric in metrics} for group, metrics in _METRICS.items()}  # group -> name -> metric


def selected(value: Any, option: str = "metrics") -> list[str] | None:
    """A setting that names groups and metrics -> the list of them; None, for everything, stays. Raises ZooError for an unknown name."""
    if value is None:
        return None
    names = [value] if isinstance(value, str) else value
    valid = sorted({*METRICS, *(name for group in METRICS.values() for name in group)})
    if not isinstance(names, list) or not names:
        raise ZooError(f"{option}={value} must be a list of names, like [samples,mse]; valid: {', '.join(valid)}.")
    for name in names:
        if name not in valid:
            raise ZooError(f"{option}={name} is not known; {nearest(str(name), valid)}")
    return names


def selected_priors(value: Any) -> tuple[str, ...]:
    """The setting `priors`, a list of names -> those names in the order of tables. Raises ZooError for an unknown name."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not set(names) <= set(PRIORS):
        raise ZooError(f"priors={value} must be a list of some of {', '.join(PRIORS)}, like [gaussian,mixture].")
    return tuple(name for name in PRIORS if name in names)
