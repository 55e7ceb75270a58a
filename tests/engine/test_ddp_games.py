"""The four games on two gloo ranks train what one rank trains: pairs, domains, noise, rest and gating belong to the global batch.

Both ranks are forks of this process, which has imported everything; tests/engine/test_ddp.py starts them as a user does.
"""

import csv
import multiprocessing
import os
import socket
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities import rank_zero_only

from tests.models.games import vaegan
from tests.models.test_games_training import OWN, PLAYERS, hundred, weights  # noqa: F401
from zoo.train import main

TOLERANCE = 1e-5  # of weights after 6 Adam steps at a learning rate of 1e-3


def on_two_ranks(task, folder: Path, *arguments) -> str:
    """Calls task(rank, *arguments) in two forked processes; what both have printed, if both ended well."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def work(rank: int) -> None:
        log = os.open(folder / f"rank{rank}.log", os.O_CREAT | os.O_WRONLY)
        os.dup2(log, 1), os.dup2(log, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        rank_zero_only.rank = rank
        task(rank, *arguments)

    processes = [multiprocessing.get_context("fork").Process(target=work, args=(rank,)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    printed = "\n".join((folder / f"rank{rank}.log").read_text() for rank in (0, 1))
    for process in processes:
        if process.is_alive():
            process.kill()
    assert [process.exitcode for process in processes] == [0, 0], printed
    return printed


def train_all(rank: int, settings: list[str]) -> None:
    for game, own in OWN.items():
        sys.argv = ["zoo.train", *settings, *own, "trainer.devices=2", "trainer.accelerator=cpu", f"hydra.run.dir={game}-two"]
        main()


@pytest.fixture(scope="module")
def two(hundred, tmp_path_factory) -> Path:  # noqa: F811
    """The folder of four runs on two ranks."""
    folder, here = tmp_path_factory.mktemp("two"), Path.cwd()
    os.chdir(folder)
    try:
        on_two_ranks(train_all, folder, hundred)
    finally:
        os.chdir(here)
    return folder


@pytest.mark.parametrize("game", OWN)
def test_two_ranks_equal_one(zoo, hundred, two, tmp_path, game):  # noqa: F811
    done = zoo("train", *hundred, *OWN[game], "hydra.run.dir=one")
    assert done.code == 0, done.err
    one, both = weights(tmp_path / "one"), weights(two / f"{game}-two")
    assert max((one[name] - both[name]).abs().max().item() for name in one) < TOLERANCE
    rested = 0
    with open(tmp_path / "one" / "metrics.csv") as first, open(two / f"{game}-two" / "metrics.csv") as second:
        for row, twin in zip(csv.DictReader(first), csv.DictReader(second), strict=True):
            assert abs(float(row["train/loss"]) - float(twin["train/loss"])) < 1e-4 * max(1.0, abs(float(row["train/loss"])))
            for player in PLAYERS[game]:  # None where it rests
                name = f"train/gradient_norm/{player}"
                assert bool(row[name]) == bool(twin[name])
                rested += not row[name]
    assert (rested > 0) == (game in ("gan", "vaegan"))


def decide(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", rank=rank, world_size=2)
    model = vaegan(margin=0.35)
    strategy = DDPStrategy()
    model.trainer = type("Trainer", (), {"strategy": strategy, "accumulate_grad_batches": 1})()
    for own, expected in (
        ([(0.20, 0.69), (0.50, 0.69)], []),  # rank 0 alone would let the discriminator rest
        ([(0.50, 0.69), (0.10, 0.69)], ["discriminator"]),  # here rank 1 alone
        ([(0.69, 0.90), (0.69, 1.30)], ["decoder"]),
    ):
        model.costs = torch.tensor(own[rank])
        assert list(model.resting()) == expected, (rank, own)
    dist.destroy_process_group()


def test_ranks_rest_on_their_common_cost(tmp_path):
    on_two_ranks(decide, tmp_path, tmp_path)
