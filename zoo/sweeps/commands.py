"""Commands of the zoo as processes of their own, which are told when this one is to stop."""

import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from zoo.sweeps.processes import clean_environment, die_with_parent

POLL_SECONDS = 0.1
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Command(NamedTuple):
    """python -m zoo.VERB ARGUMENT…"""

    verb: str
    arguments: list[str]
    log: Path | None = None  # where it writes what it prints; None: where this process does


def run_all(commands: Sequence[Command], slots: Sequence[dict[str, str]] = ({},)) -> list[int]:
    """Runs each command as soon as a slot is free; returns their exit codes.

    Args:
        commands: What to run.
        slots: As many as run at once: the environment variables that give a command its share of the machine.

    Raises:
        SystemExit: After SIGINT or SIGTERM, when the commands that ran have saved and ended.
    """
    waiting, free = deque(enumerate(commands)), deque(slots)
    running = dict[int, tuple[subprocess.Popen[bytes], dict[str, str]]]()
    codes, received, passed_on = dict[int, int](), list[int](), 0
    before = {number: signal.signal(number, lambda number, _: received.append(number)) for number in SIGNALS}
    try:
        while running or (waiting and not received):
            while waiting and free and not received:
                place, command = waiting.popleft()
                slot = free.popleft()
                running[place] = start(command, slot), slot
            time.sleep(POLL_SECONDS)
            if passed_on < len(received):
                passed_on = len(received)
                for process, _ in running.values():
                    process.terminate()
            for place, (process, slot) in list(running.items()):
                if process.poll() is not None:
                    del running[place]
                    free.append(slot)
                    codes[place] = process.returncode
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        stop(received[0])
    return [codes[place] for place in range(len(commands))]


def start(command: Command, slot: dict[str, str]) -> subprocess.Popen[bytes]:
    """Starts a command. It is told to stop when this process dies; a terminal's Ctrl-C reaches it only through this process, once."""
    if command.log:
        print(f"zoo.{command.verb} {command.arguments[0]}, prints into {command.log}", flush=True)
    with open(command.log, "wb") if command.log else nullcontext() as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"zoo.{command.verb}", *command.arguments],
            env=clean_environment() | slot,
            stdout=log,
            stderr=log and subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=partial(die_with_parent, signal.SIGTERM),
        )


def stop(number: int, _: Any = None) -> NoReturn:
    """Ends this process after a signal; also a handler of it."""
    print("Stopped; the same command goes on.", flush=True)
    raise SystemExit(128 + number)
