"""The scheduler of all processes that the zoo starts: the jobs of a sweep, here or on Slurm, and the commands of `zoo.results make`.

It gives each job its slots, starts it, polls it, passes signals on, prints how it started and ended, and writes its job.json. How a job is
started, polled, stopped and judged is its backend's matter: zoo/sweeps/local.py, zoo/sweeps/slurm.py.
"""

import signal
import time
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

from rich.console import Console

from zoo.runs import records
from zoo.runs.layout import JOB
from zoo.runs.status import state_of
from zoo.sweeps.processes import Outcome, lines_of

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPED = "Stopped; the same command goes on."


@dataclass
class Running:
    """A job that was started."""

    job: Any  # a Job or a Command
    handle: Any  # the backend's: a process, or a job of Slurm
    message: str  # how it was started; "" prints nothing
    record: dict[str, Any]  # its job.json, if it has one
    log_start: int  # where its output begins in its log, in bytes
    started_at: float = field(default_factory=time.time)
    slots: list[Any] = field(default_factory=list)


class Backend(Protocol):
    """Where jobs run."""

    slots: Sequence[Any]  # what the jobs share: GPUs, cores, …
    per_job: int  # slots of each job; 0: all are started at once
    poll_seconds: float

    def start(self, job: Any, slots: list[Any]) -> Running: ...

    def poll(self, one: Running) -> bool: ...  # whether it has ended

    def outcome(self, one: Running) -> Outcome: ...  # of a job that has ended; frees what is left of it

    # Has jobs save and end, or kills them, and returns "". Jobs that go on without this process: returns the sentence about them.
    def stop(self, running: list[Running], kill: bool) -> str: ...


def run_jobs(jobs: Sequence[Any], backend: Backend) -> list[Outcome]:
    """Runs each Job or Command that is not finished, as soon as there are slots for it. Returns how they ended, in their order.

    Raises:
        SystemExit: After SIGINT or SIGTERM, with 128 + its number. After the first signal no job is started, and those that run save and
            end; a second one kills them.
    """
    console, of_sweep = Console(), all(job.folder for job in jobs)
    outcomes: dict[int, Outcome] = {}
    running: dict[int, Running] = {}
    waiting: deque[int] = deque()
    free, received, passed_on, last_words = [*backend.slots], list[int](), 0, ""

    def print_line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    for number, job in enumerate(jobs):
        if of_sweep and state_of(job.folder) == "finished":
            known = {"overrides": job.overrides} | records.read_job(job.folder)
            records.write(job.folder / JOB, known | {"status": "finished", "reason": ""})
            print_line(f"{job.label}  was finished before, skipped")
            outcomes[number] = Outcome("finished")
        else:
            waiting.append(number)
    before = {number: signal.signal(number, lambda number, _: received.append(number)) for number in SIGNALS}
    # A job without a log prints to this terminal, where a status line would be in its way.
    live = console.status("") if console.is_terminal and all(job.log for job in jobs) else nullcontext()
    try:
        with live as status:
            while running or (waiting and not received):
                while waiting and not received and len(free) >= backend.per_job:
                    taken, free = free[: backend.per_job], free[backend.per_job :]
                    number = waiting.popleft()
                    one = running[number] = backend.start(jobs[number], taken)
                    one.slots = taken
                    if of_sweep:
                        records.write(one.job.folder / JOB, one.record)
                    if one.message:
                        print_line(f"{one.job.label}  {one.message}")
                time.sleep(backend.poll_seconds)
                if len(received) > passed_on:
                    passed_on = len(received)
                    kill = passed_on > 1
                    if last_words := backend.stop([*running.values()], kill):
                        break
                    if of_sweep and not kill:
                        print_line("Stopping: the jobs that run are saving; a second signal kills them.")
                for number, one in [*running.items()]:
                    if backend.poll(one):
                        outcome = backend.outcome(running.pop(number))
                        if passed_on and outcome.status == "failed":
                            outcome = Outcome("interrupted", "", outcome.exit_code)
                        outcomes[number] = outcome
                        free += one.slots
                        if of_sweep:
                            seconds = time.time() - one.started_at
                            records.write(one.job.folder / JOB, one.record | outcome._asdict() | {"seconds": round(seconds, 1)})
                            print_line(f"{one.job.label}  {end_message(outcome, seconds)}")
                if status is not None:
                    status.update(status_text([*running.values()]))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        finished = sum(outcome.status == "finished" for outcome in outcomes.values())
        of_jobs = f"Stopped by a signal; {finished} of {len(jobs)} jobs are finished; the same command goes on."
        print_line(last_words or (of_jobs if of_sweep else STOPPED))
        raise SystemExit(128 + received[0])
    return [outcomes[number] for number in range(len(jobs))]


def end_message(outcome: Outcome, seconds: float) -> str:
    """How a job ended, and after how long; without an exit code it was Slurm's, and the time in the queue is in it."""
    preposition = "in" if outcome.status == "finished" else "after"
    after = "" if outcome.exit_code is None else f" {preposition} {duration(seconds)}"
    return f"{outcome.status}{after}" + (f": {outcome.reason}" if outcome.reason else "")


def status_text(running: list[Running]) -> str:
    """The terminal's last line: what the only job printed last, at most 150 characters, or how many run."""
    if len(running) == 1:
        lines = lines_of(running[0].job.log, running[0].log_start, most=1000) or ["starting"]
        return lines[-1].strip()[:150].replace("[", r"\[")
    return f"{len(running)} jobs are running"


def duration(seconds: float) -> str:
    """ "3 min 12 s"."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def exit_on_signal(number: int, _: Any) -> NoReturn:
    """A signal handler for the time when no job runs: ends this process."""
    print(STOPPED, flush=True)
    raise SystemExit(128 + number)
