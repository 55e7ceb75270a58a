"""From folders to a comparison: reads the runs, puts seeds together, and refuses what is not comparable."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from pandas import DataFrame

from zoo.comparison import baseline as zoo_rows
from zoo.comparison.aggregate import ENOUGH, costs_of, numbers_of, select, tables_of
from zoo.comparison.columns import TABLES, of_best_prior
from zoo.comparison.comparable import (
    Facts,
    describe_differences,
    differences,
    facts_of_test,
    facts_of_validation,
    protocol_of,
    some,
    total_cost,
)
from zoo.comparison.labels import Settings, described, differing_of, groups, labels_of, matters, overrides_of, settings_of
from zoo.comparison.parts import Column, Comparison, Entry, Row
from zoo.errors import ZooError, nearest
from zoo.runs import records
from zoo.runs.find import common, find, named
from zoo.runs.layout import SWEEP
from zoo.runs.measurements import name_of
from zoo.runs.metrics_csv import curves_of
from zoo.runs.run_folder import Notes, RunFolder, image_files_of, read_run
from zoo.runs.status import status_of

SORTED_BY = ("best_prior/frechet", "reconstructions/mse", "mse")  # the first that somebody has
SAMPLES = TABLES["Samples"]
BY_MODEL = [*(column for title, columns in TABLES.items() if title != "Samples" for column in columns), *map(of_best_prior, SAMPLES)]
SHIPPED = (("faces", "64×64"), ("faces", "32×32"))  # whose classifier comes with the package
FEW = 3  # values that a remark names with the rows they are of


def compare(
    paths: Sequence[str | Path],
    split: str | None = None,
    baseline: str | None = None,
    sort: str | None = None,
    force: bool = False,
    command: str = "",
) -> Comparison:
    """Reads and compares all runs below `paths`.

    Args:
        paths: Runs, sweeps, folders above them, or "latest", the newest sweep.
        split: "test" (what zoo.evaluate wrote) or "val" (what zoo.train wrote); None = test if all finished runs were evaluated.
        baseline: "zoo" sets the published rows of the same data beside.
        sort: A metric; None = the Fréchet distance of samples from each model's best prior, else the mean squared error.
        force: Compare what is not comparable, and say so.
        command: For the record.

    Raises:
        ZooError: There is no run, runs are not comparable, or an argument is not known.
    """
    for name, given, known in (("split", split, ("test", "val")), ("baseline", baseline, ("zoo",))):
        if given is not None and given not in known:
            raise ZooError(f"{name}={given} is not known; use {' or '.join(known)}, or null.")
    columns = columns_of(sort)
    above = named(paths)
    root, runs, notes = common(above), find(above), Notes()
    folders = [read_run(run, root, notes) for run in runs]
    notes += waiting(root, runs)
    measured_on = split or split_of(folders, notes)
    entries = [entry_of(folder, measured_on, notes) for folder in folders]
    ended = [entry for entry in entries if entry.status == "finished"]
    finished = of_one_split([entry for entry in ended if entry.metrics])
    if ended and not finished and split == "test":
        raise ZooError(
            f"None of the finished runs ({len(ended)}) was evaluated on the test split as it is now; evaluate them first "
            f"(python -m zoo.evaluate run=RUN), or leave split=test out."
        )
    found = differences(finished)
    if found and not force:
        raise ZooError(
            f"These runs cannot be compared: {describe_differences(found)}; name fewer runs, evaluate them alike "
            f"(python -m zoo.evaluate), or set force=true."
        )
    rows = rows_of(finished, notes)
    rows += zoo_rows.beside(rows, measured_on, force, notes) if baseline and rows else []
    rows = sorted_rows(rows, columns, notes)
    numbers = numbers_of(rows)
    compared = [entry for row in rows for entry in row.entries]
    if found := differences(compared):
        notes.append(f"Not the same for all, so numbers that depend on it must not be compared: {describe_differences(found)}.")
    notes += remarks(rows, measured_on)
    return Comparison(
        title=title_of(compared),
        rows=rows,
        numbers=numbers,
        tables=tables_of(numbers),
        others=[entry for entry in entries if entry.status != "finished"],
        protocol=protocol_of(compared),
        differing=DataFrame(differing_of([row_settings(row) for row in rows]), index=[row.label for row in rows]),
        notes=notes,
        command=command or shlex.join(["python", "-m", "zoo.compare", *map(str, paths)]),
    )


def waiting(root: Path, runs: list[Path]) -> Notes:
    """How many jobs of sweeps have not begun, as their sweep.json says."""
    notes = []
    for sweep in dict.fromkeys(parent for run in runs for parent in run.parents[:2] if (parent / SWEEP).is_file()):
        where = sweep.relative_to(root) if sweep.is_relative_to(root) and sweep != root else sweep.name
        content, fault = records.read(sweep / SWEEP)
        if fault:
            notes.append(f"{where}/{SWEEP} {fault} and was left out.")
            continue
        folders = [Path(job["folder"]).name for job in content["jobs"]]
        left = [name for name in folders if not (sweep / name).exists()]
        if left:
            notes.append(f"{len(left)} of {len(folders)} jobs of {where} have not begun.")
    return notes


def split_of(folders: list[RunFolder], notes: Notes) -> str:
    """test, if all finished runs were evaluated on it."""
    finished = [folder for folder in folders if status_of(folder, 0)[0] == "finished"]
    missing = [folder.name for folder in finished if not folder.evaluation]
    if finished and not missing:
        return "test"
    if len(missing) < len(finished):
        where = "not evaluated on the test split (python -m zoo.evaluate run=RUN)"
        notes.append(f"The validation split is compared: {where}: {some(missing)}.")
    return "val"


def entry_of(folder: RunFolder, split: str, notes: Notes) -> Entry:
    """A run. A finished one without numbers of this split has no metrics, and `notes` says so."""
    config, summary, curves = described(folder.config, folder.summary), folder.summary, curves_of(folder, notes)
    status, reason = status_of(folder, max(curves.get("images_seen", []), default=0))
    evaluation = folder.evaluation if split == "test" else {}
    facts = Facts({}, {}, [])
    if status == "finished":
        try:
            if split == "val" or evaluation:
                facts = facts_of_validation(summary, config["data"]) if split == "val" else facts_of_test(evaluation, config["data"])
            if not facts.numbers:
                notes.append(f"{folder.name} has no numbers of the {split} split and was left out (python -m zoo.evaluate run=RUN).")
        except (KeyError, TypeError, AttributeError):
            notes.append(f"{folder.name}/{'summary' if split == 'val' else 'evaluation'}.json is damaged and was left out.")
    sampling = {name: value for name, value in folder.cost.items() if evaluation and value is not None and not name.startswith("train/")}
    training = {name: summary[name] for name in ("images_seen", *records.Costs.model_fields) if summary.get(name) is not None}
    overrides = folder.job.get("overrides", [])
    return Entry(
        folder=folder.path,
        name=folder.name,
        status=status,
        reason=reason,
        command=summary.get("command") or (shlex.join(["python", "-m", "zoo.train", *map(str, overrides)]) if overrides else ""),
        seed=int(summary.get("seed", config.get("seed", 0))),
        model=str(config["model"]["name"]) if config else "",
        data=str(config["data"]["name"]) if config else "",
        config=config,
        metrics=facts.numbers,
        cost=total_cost(training, sampling),
        curves=curves,
        image_files=image_files_of(folder, split, next((quantity.prior for quantity in facts.numbers if quantity.prior), "normal")),
        versions=summary.get("versions", {}),
        evaluated=evaluation.get("versions", {}),
        measured=facts.measured,
        left_out=facts.left_out,
    )


def of_one_split(entries: list[Entry]) -> list[Entry]:
    """The runs without pictures of training of each kind that an evaluation has drawn for one of them: they show other images."""
    drawn = {kind for entry in entries for kind, path in entry.image_files.items() if path.parent.name == "evaluation"}
    return [
        replace(entry, image_files={k: p for k, p in entry.image_files.items() if k not in drawn or p.parent.name == "evaluation"})
        for entry in entries
    ]


def rows_of(entries: list[Entry], notes: Notes) -> list[Row]:
    """Runs that are equal in all that matters but their seed, as one row, by seed."""

    def key(entry: Entry, devices: bool = False) -> str:
        values = settings_of(entry.config, entry.command).values.items()
        return repr(sorted((name, value) for name, value in values if matters(name) or (devices and name.startswith("trainer."))))

    rows: list[list[Entry]] = []
    for group in (alike for equal in groups(entries, key) for alike in measured_alike(equal, notes)):
        repeated = len({entry.seed for entry in group}) < len(group)  # the same seed on other devices, or the same run twice
        for same in groups(group, lambda entry: key(entry, devices=True)) if repeated else [group]:
            by_seed: dict[int, Entry] = {}
            for entry in same:
                if entry.seed in by_seed:
                    notes.append(f"{by_seed[entry.seed].name} is the same run as {entry.name}, and only the second is counted.")
                by_seed[entry.seed] = entry
            rows.append([by_seed[seed] for seed in sorted(by_seed)])
    labels = labels_of([settings_of(row[0].config, row[0].command) for row in rows])
    return [Row(label, row) for label, row in zip(labels, rows, strict=True)]


def measured_alike(entries: list[Entry], notes: Notes) -> list[list[Entry]]:
    """Runs of one row as several, where not all of them are comparable; `notes` says so. One may have numbers that others lack."""
    together: list[list[Entry]] = []
    for entry in entries:
        row = next((group for group in together if not differences([*group, entry])), None)
        if row is None:
            together.append([entry])
        else:
            row.append(entry)
    if len(together) > 1:
        notes.append(
            f"Runs of the same settings were not measured alike and are {len(together)} rows: {describe_differences(differences(entries))}."
        )
    return together


def row_settings(row: Row) -> Settings:
    """Those of a row; of a published one only what its command says."""
    first = row.entries[0]
    return Settings(first.model, {}, overrides_of(first.command)) if row.published else settings_of(first.config, first.command)


def columns_of(name: str | None) -> list[Column]:
    """The columns that `sort` may mean: by metric, its last part, or title; "samples/PRIOR/METRIC" is that prior's. Raises ZooError."""
    names = [(column, name_of(column.quantity)) for column in BY_MODEL]
    if name is None:
        return [column for wanted in SORTED_BY for column, own in names if own == wanted]
    if name.startswith("samples/") and name.count("/") == 2:
        _, prior, metric = name.split("/")
        same = [column for column in SAMPLES if name_of(column.quantity) == f"samples/{metric}"]
        if same:
            return [one._replace(title=f"{one.title}, {prior} prior", quantity=one.quantity._replace(prior=prior)) for one in same]
    wanted = name.casefold()
    titles = [(column.title.casefold(), column.title.casefold().removesuffix(", best prior")) for column in BY_MODEL]
    found = [one for (one, own), title in zip(names, titles, strict=True) if wanted in (own, own.rpartition("/")[2], *title)]
    if not found:
        known = {part for _, own in names for part in (own, own.rpartition("/")[2])}
        raise ZooError(f"sort={name} is not known; {nearest(name, sorted(known))}")
    return found


def sorted_rows(rows: list[Row], columns: list[Column], notes: Notes) -> list[Row]:
    """The best first, by the first of these columns that a row has a number for; rows without it last."""
    found = numbers_of(rows)
    column = next((column for column in columns if len(select(found, column.quantity))), None)
    if len(rows) < 2:
        return rows
    if column is None:
        notes.append(f"No run has a number for {name_of(columns[0].quantity)}, so the rows are in the order of their folders.")
        return rows
    notes.append(f"Sorted by {column.title}.")
    seeds = select(found, column.quantity).groupby("row").value.agg(list)
    costs = {label: mean(costs_of(column.better, values)) for label, values in seeds.items()}
    return sorted(rows, key=lambda row: costs.get(row.label, math.inf))


def remarks(rows: list[Row], split: str) -> Notes:
    """What a reader should know of numbers of this split that may be compared all the same."""
    notes = []
    few = [row.label for row in rows if len(row.entries) < ENOUGH]
    if few and len(rows) > 1:
        notes.append(f"Less than {ENOUGH} seeds say little of noise, so nothing is marked as lying within it for {some(few)}.")
    if len({len(row.entries) for row in rows}) > 1:
        notes.append("Rows have different numbers of seeds (n).")
    entries = [entry for row in rows for entry in row.entries]
    trained = [entry for entry in entries if (entry.data, entry.measured.get("image size")) not in SHIPPED]
    if split == "val" and len(rows) > 1 and any(quantity.metric == "frechet" for entry in trained for quantity in entry.metrics):
        notes.append(
            "Fréchet distances of the validation split rest on a classifier that is trained once in each cache, and no run tells which; "
            "evaluate the runs (python -m zoo.evaluate run=RUN), and that it is the same for all is checked."
        )
    for same in groups([entry for entry in entries if entry.left_out], lambda entry: tuple(entry.left_out)):
        names, left_out = some([entry.name for entry in same]), some(same[0].left_out, 5)
        notes.append(f"{names}: measured with several N, of which the one that the most priors have is compared; left out: {left_out}.")
    for what, name, source in (
        ("Images seen differ", "images_seen", "cost"),
        ("Commits of the zoo differ", "commit", "versions"),
        ("Versions of the zoo differ", "zoo", "versions"),
        ("Versions of torch differ", "torch", "versions"),
        ("Evaluated at different commits", "commit", "evaluated"),
        ("Devices differ", "devices", "cost"),
        ("Accelerators differ", "accelerator", "cost"),
        ("Machines differ", "machine", "cost"),
    ):
        by_value: dict[Any, list[str]] = {}
        for label, facts in ((row.label, getattr(entry, source)) for row in rows for entry in row.entries):
            if name in facts:
                by_value.setdefault(facts[name], []).append(label)
        texts = [(f"{value:,}" if isinstance(value, int | float) else str(value), some(labels)) for value, labels in by_value.items()]
        if len(texts) > FEW:
            notes.append(f"{what}: {some([value for value, _ in texts])}.")
        elif len(texts) > 1:
            notes.append(f"{what}: {'; '.join(f'{value} ({labels})' for value, labels in texts)}.")
    return notes


def title_of(entries: list[Entry]) -> str:
    """What is compared, in a few words."""
    if not entries:
        return "No finished run"
    models, data = (list(dict.fromkeys(names)) for names in zip(*((entry.model, entry.data) for entry in entries), strict=True))
    return f"{', '.join(models) if len(models) <= 4 else f'{len(models)} models'} on {', '.join(data)}"
