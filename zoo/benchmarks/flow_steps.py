"""What image flows cost: memory and time of the three memory modes, and a training step against normflows with the same weights.

The memory of a mode is what its forward pass saves for the backward pass: the bytes of all saved tensors, each storage once, without the
parameters. All on one thread.

normflows (an optional peer) writes its Glow from latents to images, and where the zoo's flow splits it has Gaussians without a net. As the
nets of our splits start at zero, both flows start with the same likelihood; ours does the work of its splits all the same.
"""

import importlib.util
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.benchmarks.measure import BenchmarkResult, ratio, take_turns, threads
from zoo.nets.flows import ActNorm, Coupling, InvertibleConv, log_likelihood
from zoo.nets.glow import ImageFlow

GOALS_MEMORY = {"checkpoint": (0.08, 1.6), "reversible": (0.02, 1.35)}  # bytes and time, of plain
GOAL_EAGER, GOAL_COMPILED = 0.9, 0.8  # of normflows' time
GOAL_DIFFERENCE = 1e-5  # relative, of log-likelihoods in float32
WARM_UP = 1  # turns that do not count


class Size(NamedTuple):
    """A flow and its batch."""

    shape: tuple[int, int, int]
    levels: int
    depth: int
    width: int
    batch_size: int


MEMORY = Size((3, 64, 64), 1, 48, 128, 16)
SPEED = Size((3, 32, 32), 3, 16, 256, 32)


def measure_flows(seconds: float, compiled: bool, print_progress: Callable[[str], None]) -> list[BenchmarkResult]:
    """All figures, about `seconds` for each of two comparisons. Without normflows those of memory alone."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with threads(1):
        print_progress(f"flows: memory of {MEMORY.depth} steps, {'×'.join(map(str, MEMORY.shape))}, batch {MEMORY.batch_size}")
        results = measure_memory(device, seconds)
        if importlib.util.find_spec("normflows") is None:
            print_progress("flows: normflows is not installed (pip install normflows), so speed is not compared")
            return results
        print_progress(
            f"flows: {SPEED.levels} × {SPEED.depth} steps against normflows, batch {SPEED.batch_size}{', compiled too' * compiled}"
        )
        return results + measure_speed(device, seconds, compiled)


def measure_memory(device: torch.device, seconds: float) -> list[BenchmarkResult]:
    """Bytes saved for the backward pass, and time of a forward and a backward pass, in the three memory modes."""
    flow, x = ready(MEMORY, device)

    def loss(mode: str) -> Tensor:
        for steps in flow.levels:
            steps.memory = mode
        return -log_likelihood(flow, x).mean()

    def take(mode: str) -> None:
        flow.zero_grad()
        loss(mode).backward()

    modes = ["plain", *GOALS_MEMORY]
    saved = {mode: saved_bytes(lambda mode=mode: loss(mode), flow) for mode in modes}  # type: ignore[misc]
    times = take_turns({mode: lambda mode=mode: take(mode) for mode in modes}, device, seconds, WARM_UP)  # type: ignore[misc]
    results = [
        BenchmarkResult("plain_saved_mib", "plain: saved for the backward pass", saved["plain"] / 2**20, "MiB"),
        BenchmarkResult("plain_ms", "plain: forward and backward", statistics.median(times["plain"]), "ms"),
    ]
    for mode, (share, cost) in GOALS_MEMORY.items():
        part, slower = saved[mode] / saved["plain"], ratio(times[mode], times["plain"])
        results += [
            BenchmarkResult(f"{mode}_saved_ratio", f"{mode}: saved, of plain", part, "×", share, at_least=False),
            BenchmarkResult(f"{mode}_time_ratio", f"{mode}: time, of plain", slower, "×", cost, at_least=False),
        ]
    return results


def measure_speed(device: torch.device, seconds: float, compiled: bool) -> list[BenchmarkResult]:
    """Milliseconds of a training step (forward, loss, backward, Adam) of ours and of normflows with the same weights."""
    flow, x = ready(SPEED, device)
    peer = as_normflows(flow)
    with torch.no_grad():
        theirs = peer.log_prob(x, None)
        difference = ((log_likelihood(flow, x) - theirs) / theirs).abs().max().item()
    steps = {"normflows": training_step(lambda: -peer.log_prob(x, None).mean(), peer)}
    for mode in ("eager", "compiled") if compiled else ("eager",):
        own = ready(SPEED, device)[0]
        call = torch.compile(own, fullgraph=True) if mode == "compiled" else own
        steps[mode] = training_step(lambda call=call: -log_likelihood(call, x).mean(), own)  # type: ignore[misc]
    times = take_turns(steps, device, seconds, WARM_UP)
    results = [
        BenchmarkResult(
            "log_likelihood_difference", "log-likelihoods, ours to normflows'", difference, "relative", GOAL_DIFFERENCE, at_least=False
        ),
        BenchmarkResult("normflows_ms_per_step", "normflows", statistics.median(times["normflows"]), "ms/step"),
    ]
    for mode, goal in (("eager", GOAL_EAGER), ("compiled", GOAL_COMPILED)):
        if mode in times:
            results += [
                BenchmarkResult(f"{mode}_ms_per_step", f"ours, {mode}", statistics.median(times[mode]), "ms/step"),
                BenchmarkResult(
                    f"{mode}_ratio", f"ours, {mode}, of normflows", ratio(times[mode], times["normflows"]), "×", goal, at_least=False
                ),
            ]
    return results


def ready(size: Size, device: torch.device) -> tuple[ImageFlow, Tensor]:
    """The same flow and batch at each call: random couplings, ActNorms set from the batch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        flow = ImageFlow(size.shape, size.levels, size.depth, size.width)
        for layer in flow.modules():
            if isinstance(layer, Coupling):
                nn.init.normal_(layer.net[-1].weight, std=1e-3)  # type: ignore[arg-type]
        x = torch.rand(size.batch_size, *size.shape) * 2 - 1
    flow, x = flow.to(device), x.to(device)
    with torch.no_grad():
        flow.initialize(x)
    return flow, x


def training_step(loss: Callable[[], Tensor], net: nn.Module) -> Callable[[], None]:
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)

    def take() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return take


def saved_bytes(loss: Callable[[], Tensor], net: nn.Module) -> int:
    """Bytes that a forward pass keeps for its backward pass, without the net's parameters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    found: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        kept = loss()  # alive until all is counted: a freed storage would lend its address to another
    del kept
    return sum(found.values())


def as_normflows(flow: ImageFlow) -> Any:
    """normflows' Glow, which counts from the latents, with the weights of ours, but for the nets of our splits, which must be zero."""
    import normflows

    priors, flows, merges = [], [], []
    for level in reversed(range(len(flow.levels))):  # ours
        blocks = []
        for step in reversed(flow.levels[level].steps):
            channels, width = len(step.actnorm.shift), step.coupling.net[0].out_channels
            blocks.append(normflows.flows.GlowBlock(channels, width, scale=True, scale_map="sigmoid").to(step.actnorm.shift))
            coupling, mixing, actnorm = blocks[-1].flows
            give_coupling(step.coupling, coupling.flows[1].param_map.net)
            give_mixing(step.mixing, mixing)
            give_actnorm(step.actnorm, actnorm.t, actnorm.s)
            actnorm.data_dep_init_done.fill_(1.0)
        flows.append([*blocks, normflows.flows.Squeeze()])
        priors.append(normflows.distributions.GlowBase(flow.shapes[level]).to(flow.last.shift))
        if level < len(flow.levels) - 1:
            merges.append(normflows.flows.Merge())
    give_actnorm(flow.last, priors[0].loc, priors[0].log_scale)  # z = (x - mean) / scale
    return normflows.MultiscaleFlow(priors, flows, merges, class_cond=False)


@torch.no_grad()
def give_coupling(coupling: Coupling, net: nn.Sequential) -> None:
    """The net, (shift, scale) channels interleaved; theirs subtracts the shift."""
    for index in (0, 2):
        net[index].load_state_dict(coupling.net[index].state_dict())
    last = coupling.net[4]
    for name in ("weight", "bias"):
        shift, scale = getattr(last, name).chunk(2)
        getattr(net[4], name).copy_(torch.stack([-shift, scale], 1).flatten(0, 1))


@torch.no_grad()
def give_mixing(mixing: InvertibleConv, theirs: Any) -> None:
    theirs.P.copy_(mixing.permutation)
    theirs.L.copy_(mixing.lu.tril(-1))
    theirs.U.copy_(mixing.lu.triu(1))
    theirs.log_S.copy_(mixing.lu.diagonal())
    theirs.sign_S.copy_(mixing.sign)


@torch.no_grad()
def give_actnorm(actnorm: ActNorm, mean: Tensor, log_scale: Tensor) -> None:
    """(x + shift) · exp(log_scale) as (x - mean) / exp(their log_scale)."""
    mean.copy_(-actnorm.shift.view_as(mean))
    log_scale.copy_(-actnorm.log_scale.view_as(log_scale))
