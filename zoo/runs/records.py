"""The JSON files of a run's folder and of a sweep's: the one way to read each, checked, and to write it. Nothing here imports torch."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, FiniteFloat, RootModel, ValidationError

from zoo.errors import ZooError
from zoo.files import read_json, write_atomically
from zoo.runs.layout import JOB, RESULTS_FORMAT, SUMMARY, SWEEP
from zoo.runs.measurements import by_flat_name, json_of_records, measurements_from, measurements_of

DAMAGED = "is damaged"
Found = tuple[dict[str, Any], str]  # a file's content and "", or {} and what is wrong with it; {} and "" where there is none


class Record(BaseModel):
    """What is read from a file, in the shape that is expected; more may stand beside it."""

    model_config = ConfigDict(strict=True, extra="allow")


class Measured(Record):
    """evaluation.json, and a part of summary.json."""

    images_seen: FiniteFloat
    measurements: Annotated[list[Any], AfterValidator(measurements_from)]
    versions: dict[str, str] = {}


class Costs(Record):
    """What a training has cost, over all stages; null where it is not known."""

    parameters: FiniteFloat | None = None
    images_per_second: FiniteFloat | None = None
    train_hours: FiniteFloat | None = None
    device_hours: FiniteFloat | None = None
    devices: FiniteFloat | None = None
    peak_memory_mib: FiniteFloat | None = None
    accelerator: str | None = None
    precision: str | None = None
    machine: str | None = None


class Training(Record):
    """How far it is."""

    max_images: FiniteFloat
    complete: bool
    ended: str = ""


class Earlier(Record):
    """What an earlier stage has trained."""

    images_seen: FiniteFloat = 0
    train_hours: FiniteFloat = 0


class Summary(Measured, Costs):
    """summary.json."""

    seed: int
    command: str | None = None
    metrics: dict[str, Any]
    training: Training
    pretrain: Earlier = Earlier()


class Job(Record):
    """job.json."""

    overrides: list[str] = []


class SweepJob(Record):
    """A job as its sweep knows it."""

    folder: str


class Sweep(Record):
    """sweep.json."""

    jobs: list[SweepJob]


KINDS: dict[str, type[BaseModel]] = {
    "summary": Summary,
    "evaluation": Measured,
    "cost": RootModel[dict[str, FiniteFloat | str | None]],
    "job": Job,
    "sweep": Sweep,
}
ADVICE = {"summary": "train the run again", "evaluation": "evaluate it again with python -m zoo.evaluate run=RUN"}  # of another format


def read(path: Path) -> Found:
    """One of these files; its name tells the kind ("evaluation-val.json", too)."""
    content, kind = read_json(path), path.stem.partition("-")[0]
    if not content:
        return {}, DAMAGED if path.exists() else ""
    if kind in ADVICE and (fault := fault_of_format(content, ADVICE[kind])):
        return {}, fault
    try:
        KINDS[kind].model_validate(content)
    except ValidationError:
        return {}, DAMAGED
    return content, ""


def write(path: Path, content: dict[str, Any]) -> None:
    """Writes one of these files whole."""
    write_atomically(path, json_of_records(content))


def fault_of_format(content: dict[str, Any], advice: str, expected: int = RESULTS_FORMAT) -> str:
    """ "is of format 1, not 2 (ADVICE)" where a file is of another format; otherwise ""."""
    found = content.get("format", 1)
    return "" if found == expected else f"is of format {found}, not {expected} ({advice})"


def read_summary(run: Path) -> dict[str, Any]:
    """summary.json; empty if there is none. Raises ZooError if it cannot be used."""
    content, fault = read(run / SUMMARY)
    if fault:
        raise ZooError(f"{run / SUMMARY} {fault}; remove it, and resume={run} writes it anew.")
    return content


def read_metrics(run: Path) -> dict[str, float]:
    """What a run logged last and what was measured at its end, by flat names, from its summary.json; empty if there is none."""
    summary, _ = read(run / SUMMARY)
    return summary["metrics"] | by_flat_name(measurements_of(summary)) if summary else {}


def read_job(folder: Path) -> dict[str, Any]:
    """job.json of a job's folder; empty if it is missing or damaged."""
    return read(folder / JOB)[0]


def read_sweep(folder: Path) -> dict[str, Any]:
    """sweep.json of a sweep's folder; with no jobs if it is missing or damaged."""
    return {"jobs": []} | read(folder / SWEEP)[0]
