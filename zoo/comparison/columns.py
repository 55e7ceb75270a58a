"""The numbers that runs are compared by, in the order of tables.

What a metric is called, what is better and how many digits it has lies with the metric, in `zoo.evaluation.descriptors`. A column of
samples is of any prior; a column of the group "best_prior" is of samples from the prior that gives the lowest Fréchet distance.
"""

from zoo.comparison.parts import Column
from zoo.evaluation.descriptors import METRICS, WAYS
from zoo.runs.measurements import DEFAULT_FEATURES, Quantity


def column(group: str, metric: str, features: str = DEFAULT_FEATURES) -> Column:
    """The column of a metric; where its values depend on a features network, of those from this network."""
    found = METRICS[group][metric]
    label = found.label if features == DEFAULT_FEATURES else f"{found.label}, {features.capitalize()}"
    return Column(label, Quantity(group, metric, features if found.uses_features else None), found.better, found.digits, found.factor)


def of_best_prior(column: Column) -> Column:
    """The same of samples from each model's best prior."""
    return column._replace(title=f"{column.title}, best prior", quantity=column.quantity._replace(group="best_prior"))


def logged(name: str, like: Column, suffix: str = "") -> Column:
    """The same as the run itself logs it of the validation split."""
    return like._replace(title=like.title + suffix, quantity=Quantity("", name))


HOURS = Column("hours × devices", Quantity("cost", "device_hours"), "low", 3)
PARAMETERS = Column("parameters, M", Quantity("cost", "parameters"), None, 2, 1e-6)
TRAINING_LOGGED = [  # of the validation split, by the run itself
    *(logged(metric, column("reconstructions", metric)) for metric in ("mse", "psnr")),
    logged("lines/mean_distance_median", column("interpolations", "mean_distance"), ", median"),
    logged("lines/smoothness_median", column("interpolations", "line_smoothness"), ", median"),
    Column("concurrent probe, median", Quantity("", "probe_accuracy_median"), "high"),
    Column("concurrent probe, balanced, median", Quantity("", "probe_balanced_accuracy_median"), "high"),
]
TABLES = {
    "Summary": [
        *(of_best_prior(column("samples", metric)) for metric in ("frechet", "laplacian_energy_ratio")),
        *(column("reconstructions", metric) for metric in ("mse", "frechet")),
        column("interpolations", "frechet"),
        *(column("representation", metric) for metric in ("linear_accuracy", "linear_balanced_accuracy")),
        *(column("likelihood", metric) for metric in ("bits_per_dim", "elbo_bits_per_dim")),
        *(HOURS, PARAMETERS),
    ],
    "Samples": [
        *(column("samples", metric) for metric in METRICS["samples"] if metric not in ("kid", "latent_nll")),
        *(column("samples", metric, "inception") for metric in ("frechet", "kid")),
    ],
    "Reconstructions, interpolations, likelihood": [
        *(column("reconstructions", metric) for metric in METRICS["reconstructions"]),
        column("interpolations", "frechet"),
        *(column("likelihood", metric) for metric in METRICS["likelihood"]),
        *(column("interpolations", metric) for metric in ("mean_distance", "line_smoothness")),
        *TRAINING_LOGGED,
    ],
    "Codes": [column("representation", metric) for metric in METRICS["representation"]],
    "Invariance of the codes": [column("invariance", "distance")],
    "Attribute edits": [column("attributes", metric) for metric in METRICS["attributes"] if not metric.endswith("_mse")],
    "Attribute transfer": [
        *(
            column("transfer", f"{way}_{metric}")
            for way in WAYS
            for metric in ("success", "attribute_preservation", "masked_relative_mse", "unmasked_relative_mse")
        ),
        *(column("transfer", metric) for metric in ("content_linear", "content_mlp")),
    ],
    "Cost": [
        HOURS,
        Column("training images/s", Quantity("cost", "images_per_second"), "high", 0),
        Column("samples/s", Quantity("cost", "sampling/images_per_second"), "high", 0),
        Column("peak memory, MiB", Quantity("cost", "peak_memory_mib"), "low", 0),
        PARAMETERS,
        Column("images seen", Quantity("cost", "images_seen"), None, 0),
    ],
}
