"""The numbers that runs are compared by, in the order of tables.

A metric's number of images is no part of its name here: the protocol tells it. "cost/…" is what training cost (`Row.costs`), "best_prior/…"
a number of samples from the prior that gives the lowest Fréchet distance.
"""

from zoo.comparison.parts import Column

SUMMARY = [
    Column("Fréchet, best prior", "best_prior/frechet", "low"),
    Column("sharpness, best prior", "best_prior/sharpness", 1.0, 2),
    Column("mse", "reconstructions/mse", "low", 5),
    Column("Fréchet, reconstructions", "reconstructions/frechet", "low"),
    Column("Fréchet, midpoints", "interpolations/frechet", "low"),
    Column("linear probe", "representation/linear_accuracy", "high"),
    Column("linear probe, balanced", "representation/linear_balanced_accuracy", "high"),
    Column("bits/dim", "likelihood/bits_per_dim", "low"),
    Column("bits/dim ≤ (ELBO)", "likelihood/elbo_bits_per_dim", "low"),
    Column("hours × devices", "cost/device_hours", "low", 3),
    Column("parameters, M", "cost/parameters", None, 2, 1e-6),
]
SAMPLES = [
    Column("Fréchet", "frechet", "low"),
    Column("kernel × 10³", "kernel", "low", 2, 1000),
    Column("precision", "precision", "high"),
    Column("recall", "recall", "high"),
    Column("density", "density", "high"),
    Column("coverage", "coverage", "high"),
    Column("sharpness", "sharpness", 1.0, 2),
    Column("Fréchet, Inception", "frechet_inception", "low"),
    Column("kernel × 10³, Inception", "kernel_inception", "low", 2, 1000),
]
MODELS = [
    Column("mse", "reconstructions/mse", "low", 5),
    Column("psnr, dB", "reconstructions/psnr", "high", 2),
    Column("ssim", "reconstructions/ssim", "high"),
    Column("lpips", "reconstructions/lpips", "low"),
    Column("sharpness", "reconstructions/sharpness", 1.0, 2),
    Column("Fréchet, reconstructions", "reconstructions/frechet", "low"),
    Column("Fréchet, midpoints", "interpolations/frechet", "low"),
    Column("bits/dim", "likelihood/bits_per_dim", "low"),
    Column("bits/dim ≤ (ELBO)", "likelihood/elbo_bits_per_dim", "low"),
    Column("bits/dim ≤ (64 draws)", "likelihood/iw64_bits_per_dim", "low"),
    Column("mean distance of lines × 10³", "interpolations/mean_distance", "low", 2, 1000),
    Column("smoothness of lines", "interpolations/line_smoothness", "low"),
]
WATCHED = [  # of the validation split, by the run itself
    Column("mse", "mse", "low", 5),
    Column("psnr, dB", "psnr", "high", 2),
    Column("mean distance of lines × 10³, median", "lines/mean_distance_median", "low", 2, 1000),
    Column("smoothness of lines, median", "lines/smoothness_median", "low"),
    Column("concurrent probe, median", "probe_accuracy_median", "high"),
    Column("concurrent probe, balanced, median", "probe_balanced_accuracy_median", "high"),
]
CODES = [
    Column("linear probe", "representation/linear_accuracy", "high"),
    Column("k-NN", "representation/knn_accuracy", "high"),
    Column("clustering", "representation/clustering_accuracy", "high"),
    Column("linear probe, balanced", "representation/linear_balanced_accuracy", "high"),
    Column("average precision", "representation/linear_average_precision", "high"),
    Column("k-NN, balanced", "representation/knn_balanced_accuracy", "high"),
    Column("factors, R²", "representation/factor_r2", "high"),
    Column("MIG", "representation/mig", "high"),
]
INVARIANCE = [Column("change of the code", "invariance/distance", "low")]
EDITS = [
    Column("attribute changed", "attributes/success", "high"),
    Column("… already in reconstructions", "attributes/success_reconstruction"),
    Column("others kept", "attributes/kept", "high"),
    Column("cosine with the true change", "attributes/truth_cosine", "high"),
    Column("share of the true change", "attributes/truth_share"),
]
TRANSFER = [
    *(
        Column(f"{way}: {title}", f"transfer/{way}_{name}", better)
        for way in ("add", "remove", "swap")
        for title, name, better in (
            ("seen", "success", "high"),
            ("others kept", "kept", "high"),
            ("inside", "inside", "low"),
            ("outside", "outside", 1.0),
        )
    ),
    Column("domain, linear", "transfer/content_linear", 0.5),
    Column("domain, 2×512", "transfer/content_mlp", 0.5),
]
COST = [
    Column("hours × devices", "cost/device_hours", "low", 3),
    Column("training images/s", "cost/images_per_second", "high", 0),
    Column("samples/s", "cost/sampling/images_per_second", "high", 0),
    Column("peak memory, MiB", "cost/peak_memory_mib", "low", 0),
    Column("parameters, M", "cost/parameters", None, 2, 1e-6),
    Column("images seen", "cost/images_seen", None, 0),
]
GROUPS = ("samples", "reconstructions", "interpolations", "representation", "invariance", "likelihood", "attributes", "transfer")
