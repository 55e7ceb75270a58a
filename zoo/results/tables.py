"""Markdown tables of published rows, by the code that makes those of a comparison."""

import math
from statistics import mean
from typing import Any

from zoo.comparison.aggregate import Line, best_prior, by_model, by_prior, numbers, table, with_best_prior
from zoo.comparison.baseline import published
from zoo.comparison.columns import CODES, EDITS, MODELS, SAMPLES, SUMMARY, TRANSFER
from zoo.comparison.files import markdown_of
from zoo.comparison.settings import groups


def markdown(rows: list[dict[str, Any]]) -> str:
    """All tables of one data set's rows."""
    if not rows:
        return ""
    lines = published(rows)
    tables = [by_prior("", SAMPLES, lines), *(by_model("", columns, lines) for columns in (MODELS, CODES, EDITS, TRANSFER))]
    by_command = groups(rows, lambda row: row["command"])
    commands = "".join(f"    {seeds[0]['command']}   # {said(seeds)}\n" for seeds in by_command)
    return "\n" + "\n".join([*(markdown_of(table, marked=False) for table in tables if table), commands]) + "\n"


def overview(rows: list[dict[str, Any]]) -> str:
    """One table with a line for each command: samples from the best prior, reconstructions, codes, cost; the best samples first."""
    found = [with_best_prior(row) for row in published(rows)]
    found.sort(key=lambda row: mean(row.values("best_prior/frechet") or [math.inf]))
    lines: list[Line] = [((row.label, best_prior(row) or "–"), [numbers(row, column) for column in SUMMARY]) for row in found]
    if not lines:
        return ""
    summary = table("", ["model", "best prior"], SUMMARY, lines)
    return f"\n{markdown_of(summary, marked=False)}\n" if summary else ""


def said(seeds: list[dict[str, Any]]) -> str:
    """What a command's numbers rest on: seeds, and the commits it was trained and measured at."""
    seed = ",".join(str(row["seed"]) for row in seeds)
    trained, measured = ("/".join(sorted({row[key]["commit"] for row in seeds})) for key in ("trained_with", "versions"))
    return f"seed={seed}; trained at {trained}, measured at {measured}"
