"""What a sweep leaves, read for tests."""

import json
import threading
import time
from pathlib import Path


def sweeps(tmp_path) -> list[Path]:
    return sorted(path.parent for path in (tmp_path / "runs" / "sweeps").glob("*/*/sweep.json"))


def read(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text())


def statuses(folder: Path) -> dict[str, str]:
    return {path.parent.name: read(path.parent, "job.json")["status"] for path in sorted(folder.glob("*/job.json"))}


def when(condition, act) -> threading.Thread:
    """Calls `act` in another thread as soon as the condition holds."""

    def wait():
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline:
            if condition():
                return act()
            time.sleep(0.02)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def overlap(one: dict, other: dict) -> bool:
    return one["start"] < other["stop"] and other["start"] < one["stop"]
