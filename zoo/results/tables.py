"""Markdown tables of published rows: seeds as mean ± standard deviation, a dash where a method gives no such number."""

from statistics import mean, stdev
from typing import Any

Column = tuple[str, str, int, int]  # header, metric, factor, digits
SAMPLES: list[Column] = [
    ("Fréchet ↓", "frechet", 1, 3),
    ("kernel × 10³ ↓", "kernel", 1000, 2),
    ("precision ↑", "precision", 1, 3),
    ("recall ↑", "recall", 1, 3),
    ("density ↑", "density", 1, 3),
    ("coverage ↑", "coverage", 1, 3),
    ("sharpness → 1", "sharpness", 1, 2),
]
MODELS: list[Column] = [
    ("mse ↓", "reconstructions/mse", 1, 5),
    ("psnr, dB ↑", "reconstructions/psnr", 1, 2),
    ("ssim ↑", "reconstructions/ssim", 1, 3),
    ("sharpness → 1", "reconstructions/sharpness", 1, 2),
    ("Fréchet, reconstructions ↓", "reconstructions/frechet", 1, 3),
    ("Fréchet, midpoints ↓", "interpolations/frechet", 1, 3),
    ("bits/dim ≤ (ELBO) ↓", "likelihood/elbo_bits_per_dim", 1, 3),
    ("bits/dim ≤ (64 draws) ↓", "likelihood/iw64_bits_per_dim@1000", 1, 3),
]
CODES: list[Column] = [
    ("linear probe ↑", "representation/linear_accuracy", 1, 3),
    ("k-NN ↑", "representation/knn_accuracy", 1, 3),
    ("clustering ↑", "representation/clustering_accuracy", 1, 3),
    ("linear probe, balanced ↑", "representation/linear_balanced_accuracy", 1, 3),
    ("average precision ↑", "representation/linear_average_precision", 1, 3),
    ("k-NN, balanced ↑", "representation/knn_balanced_accuracy", 1, 3),
    ("factors, R² ↑", "representation/factor_r2", 1, 3),
    ("MIG ↑", "representation/mig", 1, 3),
]
EDITS: list[Column] = [
    ("attribute changed ↑", "attributes/success@100", 1, 3),
    ("… already in reconstructions", "attributes/success_reconstruction@100", 1, 3),
    ("others kept ↑", "attributes/kept@100", 1, 3),
    ("cosine with the true change ↑", "attributes/truth_cosine@100", 1, 3),
    ("share of the true change", "attributes/truth_share@100", 1, 3),
]
TRANSFER: list[Column] = [
    *(
        (f"{way}: {what}", f"transfer/{way}_{name}@1000", 1, 3)
        for way in ("add", "remove", "swap")
        for what, name in (("seen ↑", "success"), ("inside ↓", "inside"), ("outside → 1", "outside"))
    ),
    ("domain, linear → 0.5", "transfer/content_linear", 1, 3),
    ("domain, 2×512 → 0.5", "transfer/content_mlp", 1, 3),
]


def markdown(rows: list[dict[str, Any]]) -> str:
    """All tables of one data set's rows."""
    if not rows:
        return ""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["command"], []).append(row)
    by_prior: dict[tuple[str, ...], list[dict[str, float]]] = {}
    by_model: dict[tuple[str, ...], list[dict[str, float]]] = {}
    for seeds in groups.values():
        label = seeds[0]["label"]
        for row in seeds:
            numbers = row["metrics"]
            by_model.setdefault((label,), []).append(numbers)
            for prior in dict.fromkeys(name.split("/")[1] for name in numbers if name.startswith("samples/")):
                start = f"samples/{prior}/"
                found = {name.removeprefix(start): value for name, value in numbers.items() if name.startswith(start)}
                by_prior.setdefault((label, prior), []).append(found)
    commands = "".join(f"    {seeds[0]['command']}   # {said(seeds)}\n" for seeds in groups.values())
    tables = [
        table(("model", "prior"), SAMPLES, by_prior),
        *(table(("model",), columns, by_model) for columns in (MODELS, CODES, EDITS, TRANSFER)),
    ]
    return "\n" + "\n".join([*filter(None, tables), commands]) + "\n"


def said(seeds: list[dict[str, Any]]) -> str:
    """What a command's numbers rest on: seeds, and the commits it was trained and measured at."""
    seed = ",".join(str(row["seed"]) for row in seeds)
    trained, measured = ("/".join(sorted({row[key]["commit"] for row in seeds})) for key in ("trained_with", "versions"))
    return f"seed={seed}; trained at {trained}, measured at {measured}"


def table(keys: tuple[str, ...], columns: list[Column], cells: dict[Any, list[dict[str, float]]]) -> str:
    """One Markdown table; columns that nobody has a number for are left out, and so is a table without any."""
    shown = [column for column in columns if any(column[1] in numbers for seeds in cells.values() for numbers in seeds)]
    if not shown:
        return ""
    lines = [[*keys, *(header for header, *_ in shown)], ["---"] * len(keys) + ["---:"] * len(shown)]
    for key, seeds in cells.items():
        values = ([numbers[name] * factor for numbers in seeds if name in numbers] for _, name, factor, _ in shown)
        lines.append([*key, *(cell(value, digits) for value, (*_, digits) in zip(values, shown, strict=True))])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(values: list[float], digits: int) -> str:
    """ "0.123 ± 0.004" over seeds."""
    if not values:
        return "–"
    text = f"{mean(values):,.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {stdev(values):.{digits}f}"
