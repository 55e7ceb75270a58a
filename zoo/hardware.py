"""What the machine has: GPUs, memory, and which of the processes of a run this one is. torch is imported where it is asked."""

import contextlib
import ctypes
import os
import platform
import re
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import ZooError

if TYPE_CHECKING:
    import torch


def distributed() -> bool:
    """Whether this process computes together with others and may call collectives."""
    if "torch" not in sys.modules:
        return False
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized()


def is_rank_zero() -> bool:
    """Whether this process is rank 0, before and after the Trainer has started the others."""
    if distributed():
        import torch.distributed as dist

        return dist.get_rank() == 0
    return rank_in_environment() == 0


def rank_in_environment() -> int:
    """The rank that torchrun, Lightning or srun has given this process; 0 where none has."""
    return int(next((os.environ[name] for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if name in os.environ), 0))


def visible_gpus() -> list[str]:
    """The GPUs this process may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    import torch

    count = torch.cuda.device_count()
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [part.strip() for part in shown.split(",")][:count] if shown else list(map(str, range(count)))


def external_world_size() -> int:
    """How many processes torchrun (on all machines) or Slurm's srun has started for this run; 0 where the run starts its own."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    if "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):  # as Lightning decides
        return int(os.environ["SLURM_NTASKS"])
    return 0


def choose_device(device: str) -> str:
    """ "auto", "cpu" or "cuda" -> what one process computes on. Raises ZooError for what this machine cannot do."""
    import torch

    gpus = torch.cuda.device_count()
    if device not in ("auto", "cpu", "cuda"):
        raise ZooError(f"device={device} is not known; use auto, cpu or cuda.")
    if device == "cuda" and not gpus:
        raise ZooError("device=cuda was asked for, but this machine has no GPU; use device=cpu.")
    return "cuda" if gpus and device != "cpu" else "cpu"


def processor() -> str:
    """The processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.is_file() else []
    return names[0] if names else platform.processor() or platform.machine()


def machine(device: "torch.device") -> str:
    """What computes: the GPU's name, or cores and the processor's name."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} cores, {processor()}"


def peak_memory_mib(device: "torch.device") -> float:
    """Most memory this process has held so far, in MiB: on the GPU if `device` is one, else of the whole process."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def keep_freed_memory() -> None:
    """Tells glibc to keep freed blocks for the next step: giving them back costs thousands of page faults a step, 12 % of a VAE's time."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 2**30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
