"""The end of a sweep."""

import time
from pathlib import Path

from zoo.errors import ZooError
from zoo.sweeps.records import read_job, read_sweep, write_sweep


def finalize_sweep(folder: Path) -> int:
    """Ends a sweep: prints the comparison of its runs and where things lie. Returns the exit code: 1 if a job is not finished."""
    from zoo.comparison.collect import compare
    from zoo.comparison.terminal import show
    from zoo.runs.wandb_files import upload_command

    record = read_sweep(folder) | {"ended": time.strftime("%Y-%m-%d %H:%M:%S")}
    write_sweep(folder, record)
    statuses = {job["folder"]: read_job(folder / job["folder"]).get("status") for job in record["jobs"]}
    try:
        show(compare([folder]))
    except ZooError as error:  # a sweep over what cannot be compared, as data sets, has been trained all the same
        print(f"No table: {error}")
    print(f"runs:      {folder}/<job>/, what each printed in log.txt")
    print(f"compare:   python -m zoo.compare {folder}", flush=True)
    if upload := upload_command([folder / job for job in statuses]):
        print(f"W&B:       logged offline; to upload, run: wandb login && {upload}", flush=True)
    return int(any(status != "finished" for status in statuses.values()))
