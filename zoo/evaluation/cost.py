"""What a model costs: parameters, training time and memory as its run wrote them down, and the speed of sampling here."""

import time
from statistics import median
from typing import Any

import torch

from zoo.evaluation.context import CHUNK, EvalContext
from zoo.hardware import machine
from zoo.runs.load import Run
from zoo.runs.records import read_summary

ROUNDS = 9  # of CHUNK samples; the first warms up
FROM_TRAINING = ("images_seen", "images_per_second", "device_hours", "devices", "accelerator", "precision", "peak_memory_mib", "machine")


def cost(run: Run, context: EvalContext) -> dict[str, Any]:
    """Numbers that depend on the machine: those of training, absent where the run's summary.json is, and the images per second that the
    model draws from its own prior and decodes on its device, the median over rounds."""
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        context.model.sample(CHUNK)
        if context.device.type == "cuda":
            torch.cuda.synchronize(context.device)
        seconds.append(time.perf_counter() - began)
    rate = CHUNK / median(seconds[1:])
    written = read_summary(run.folder)
    training = {f"train/{name}": written[name] for name in FROM_TRAINING if name in written}
    sampling = {"sampling/images_per_second": rate, "sampling/batch": CHUNK, "sampling/threads": torch.get_num_threads()}
    return training | sampling | {"sampling/machine": machine(context.device)}
