"""A Slurm of one machine: sbatch, srun, squeue, sacct, scontrol and scancel in one program, which acts by the name it is called by.

What they do is what submitit and the jobs rely on, no more: a submitted script runs at once in the background; srun starts its tasks with
Slurm's variables and kills the others when one fails; `scontrol requeue` stops a job and runs it again under the same id; scancel's signals
reach the tasks themselves, not what they have started, as under proctrack/cgroup. State lies in the folder $FAKE_SLURM.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(os.environ.get("FAKE_SLURM", "."))
NAMES = ("sbatch", "srun", "squeue", "sacct", "scontrol", "scancel")


def install(folder: Path) -> None:
    """Writes the commands into a folder for PATH."""
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -S {shlex.quote(__file__)} {name} "$@"\n')
        (folder / name).chmod(0o755)


def state(job: str) -> Path:
    return ROOT / f"{job}.state"


def sbatch(script: str) -> None:
    job = str(len(list(ROOT.glob("*.state"))) + 1)
    text = Path(script).read_text()
    (ROOT / f"{job}.sh").write_text(text)
    state(job).write_text("RUNNING")
    with open(os.devnull, "r+b") as nothing:
        subprocess.Popen(
            [sys.executable, "-S", __file__, "run", job], stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
        )
    print(f"Submitted batch job {job}")


def run(job: str) -> None:
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", (ROOT / f"{job}.sh").read_text(), re.M))
    nodes, tasks = int(options.get("nodes", 1)), int(options["ntasks-per-node"])
    environment = os.environ | {
        "SLURM_JOB_ID": job,
        "SLURM_JOB_NAME": shlex.split(options["job-name"])[0],
        "SLURM_NTASKS": str(nodes * tasks),
        "SLURM_NTASKS_PER_NODE": str(tasks),
        "SLURM_NNODES": str(nodes),
        "SLURM_JOB_NUM_NODES": str(nodes),
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_JOB_NODELIST": "127.0.0.1",
    }
    for restart in range(10):
        code = subprocess.call(["bash", str(ROOT / f"{job}.sh")], env=environment | {"SLURM_RESTART_COUNT": str(restart)})
        if state(job).read_text() != "REQUEUED":
            break
        state(job).write_text("RUNNING")
    if state(job).read_text() == "RUNNING":
        state(job).write_text("FAILED" if code else "COMPLETED")


def srun(*arguments: str) -> None:
    job, count, per_node = (os.environ[f"SLURM_{name}"] for name in ("JOB_ID", "NTASKS", "NTASKS_PER_NODE"))
    position = arguments.index("--output") + 1
    command = list(arguments[position + 1 :])
    while command[0].startswith("-"):
        command.pop(0)
    tasks = []
    for rank in range(int(count)):
        own = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank % int(per_node)), "SLURM_NODEID": str(rank // int(per_node))}
        with open(arguments[position].replace("%j", job).replace("%t", str(rank)), "ab") as log:
            tasks.append(subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log))
    (ROOT / f"{job}.pids").write_text(" ".join(str(task.pid) for task in tasks))
    while None in [task.poll() for task in tasks]:
        stopped = state(job).read_text() in ("REQUEUED", "ENDED")
        if stopped or ("--kill-on-bad-exit=1" in arguments and any(task.returncode for task in tasks)):
            time.sleep(0.3)
            for task in tasks:
                if task.poll() is None:
                    task.kill()
        time.sleep(0.05)
    sys.exit(max(abs(task.returncode) for task in tasks))


def squeue(*_: str) -> None:
    for path in ROOT.glob("*.state"):
        if path.read_text() in ("RUNNING", "REQUEUED", "PENDING"):
            print(path.stem)


def sacct(*_: str) -> None:
    print("JobID|State|NodeList")
    for path in ROOT.glob("*.state"):
        print(f"{path.stem}|{path.read_text()}|localhost")


def scontrol(what: str, job: str) -> None:
    assert what == "requeue"
    state(job).write_text("REQUEUED")


def scancel(job: str, *arguments: str) -> None:
    pids = [int(pid) for pid in (ROOT / f"{job}.pids").read_text().split()]
    number = signal.SIGTERM
    if arguments:
        number = signal.Signals[arguments[1] if arguments[1].startswith("SIG") else f"SIG{arguments[1]}"]
    else:
        state(job).write_text("CANCELLED")
    for pid in pids:
        os.kill(pid, number)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
