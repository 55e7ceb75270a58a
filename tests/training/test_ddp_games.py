"""The four games on two gloo ranks train what one rank trains: pairs, domains, noise, rest and gating belong to the global batch.

Both ranks are forks of this process, which has imported everything; tests/training/test_ddp.py starts them as a user does.
"""

import json
import multiprocessing
import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities import rank_zero_only

from tests.models.games import OWN, same_metrics, short_run, vaegan, weights
from zoo.train import main

TOLERANCE = 1e-5  # of weights after 6 Adam steps at a learning rate of 1e-3


def on_two_ranks(task, *arguments) -> None:
    """Calls task(rank, *arguments) in two forked processes; fails, with what they have printed, if one of them does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def work(rank: int) -> None:
        log = os.open(f"rank{rank}.log", os.O_CREAT | os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1)
        os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        rank_zero_only.rank = rank
        task(rank, *arguments)

    ranks = [multiprocessing.get_context("fork").Process(target=work, args=(rank,)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(100)
        process.kill()
    assert [process.exitcode for process in ranks] == [0, 0], "\n".join(Path(f"rank{rank}.log").read_text() for rank in (0, 1))


@pytest.fixture(scope="module")
def hundred(tmp_path_factory) -> list[str]:
    """Overrides for a run of seconds on a hundred digits."""
    return short_run(tmp_path_factory.mktemp("hundred"))


def train(rank: int, settings: list[str]) -> None:
    sys.argv = ["zoo.train", *settings, "trainer.devices=2", "trainer.accelerator=cpu", "hydra.run.dir=two"]
    main()


def trained_by_one_and_two(zoo, folder: Path, settings: list[str]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The final weights of the same training by one process and by two ranks, in `one` and `two` of this folder, the current one."""
    done = zoo("train", *settings, "hydra.run.dir=one")
    assert done.code == 0, done.err
    on_two_ranks(train, settings)
    return weights(folder / "one"), weights(folder / "two")


@pytest.mark.parametrize("game", OWN)
def test_two_ranks_equal_one(zoo, hundred, tmp_path, game):
    one, two = trained_by_one_and_two(zoo, tmp_path, [*hundred, *OWN[game]])
    assert max((one[name] - two[name]).abs().max().item() for name in one) < TOLERANCE
    frozen = same_metrics(tmp_path / "one", tmp_path / "two", game)
    assert (frozen > 0) == (game in ("gan", "vaegan"))


# d_losses of each rank -> who is frozen on both.
COMMON = [
    ([(0.20, 0.69), (0.50, 0.69)], []),  # rank 0 alone would freeze the discriminator
    ([(0.50, 0.69), (0.10, 0.69)], ["discriminator"]),  # here rank 1 alone
    ([(0.69, 0.90), (0.69, 1.30)], ["decoder"]),
]


def write_frozen_groups(rank: int) -> None:
    dist.init_process_group("gloo", rank=rank, world_size=2)
    model = vaegan(margin=0.35)
    model.trainer = SimpleNamespace(strategy=DDPStrategy(), accumulate_grad_batches=1)
    found = []
    for own, _ in COMMON:
        model.d_losses = torch.tensor(own[rank])
        found.append(list(model.frozen_groups()))
    Path(f"frozen{rank}.json").write_text(json.dumps(found))


def test_ranks_freeze_by_their_common_loss(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    on_two_ranks(write_frozen_groups)
    for rank in (0, 1):
        assert json.loads(Path(f"frozen{rank}.json").read_text()) == [expected for _, expected in COMMON]
