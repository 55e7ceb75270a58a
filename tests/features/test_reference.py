"""Features of real images are computed once, and never taken for those of other images or of another network."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.features.toys import Stripes
from zoo.data.store import prepare
from zoo.errors import ZooError
from zoo.features.base import Features
from zoo.features.cache import reference_features


class Sums(Features):
    """Sums of the pixels, times a number."""

    name = "sums"
    dim = 2

    def __init__(self, factor=1.0):
        super().__init__()
        self.register_buffer("factor", torch.tensor(factor))

    def forward(self, image):
        return torch.stack([image.float().sum((1, 2, 3)), image[:, 0, 0, 0].float()], 1) * self.factor

    def identity(self):
        return {"name": self.name, "dim": 2, "sha256": f"{self.factor.item()}"}


@pytest.fixture
def store(tmp_path):
    return prepare(Stripes(), tmp_path)


class Compute:
    """Computes the features, and counts how often."""

    def __init__(self, features, store, positions):
        self.features, self.store, self.positions, self.calls = features, store, positions, 0

    def __call__(self):
        self.calls += 1
        return self.features(torch.from_numpy(self.store.images[self.positions.numpy()]))


def ask(features, store, positions, cache):
    """The features, and whether they were computed."""
    compute = Compute(features, store, positions)
    rows = reference_features(features, store, "test", positions, cache, compute)
    assert torch.equal(rows, features(torch.from_numpy(store.images[positions.numpy()])))
    return compute.calls


def test_computed_once_for_the_same_question(store, tmp_path):
    positions = torch.from_numpy(store.indices("test"))
    assert ask(Sums(), store, positions, tmp_path) == 1
    assert ask(Sums(), store, positions, tmp_path) == 0


def test_another_network_other_images_or_another_order_are_other_questions(store, tmp_path):
    positions = torch.from_numpy(store.indices("test"))
    other = prepare(Stripes(seed=1), tmp_path)
    questions = [(Sums(), store, positions), (Sums(2.0), store, positions), (Sums(), store, positions[:-1]),
                 (Sums(), store, positions.flip(0)), (Sums(), other, positions)]  # fmt: skip
    assert [ask(*question, tmp_path) for question in questions] == [1] * 5
    assert [ask(*question, tmp_path) for question in questions] == [0] * 5


@pytest.mark.parametrize("damage", ["flipped", "truncated", "another shape", "no tensor"])
def test_a_damaged_file_is_named_and_computed_anew(store, tmp_path, capfd, damage):
    positions = torch.from_numpy(store.indices("test"))
    ask(Sums(), store, positions, tmp_path)
    [path] = (tmp_path / "features").glob("*.pt")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "flipped":
        path.write_bytes(data)
    elif damage == "truncated":
        path.write_bytes(data[:100])
    else:
        torch.save(torch.zeros(3, 2) if damage == "another shape" else [1], path)
    assert ask(Sums(), store, positions, tmp_path) == 1
    said = capfd.readouterr().err
    assert str(path) in said
    assert "computed anew" in said
    assert ask(Sums(), store, positions, tmp_path) == 0


def test_nothing_is_kept_of_a_computation_that_fails(store, tmp_path):
    def fails():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reference_features(Sums(), store, "test", torch.arange(3), tmp_path, fails)
    assert not list(tmp_path.glob("features/*"))


def test_a_folder_that_cannot_be_written_to(store, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match=r"cannot write to the cache folder .*data\.cache=DIR"):
        ask(Sums(), store, torch.arange(3), tmp_path / "file")


def test_two_ranks_compute_together_or_not_at_all(store, tmp_path):
    """Rank 1 looks into a folder of its own, which stays empty: only what rank 0 finds counts."""
    command = [sys.executable, "-m", "tests.features.test_reference", str(store.path), str(tmp_path)]
    root = Path(__file__).parents[2]
    ranks = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True, cwd=root) for rank in range(2)]
    assert [rank.communicate(timeout=120)[0].split() for rank in ranks] == [["1", "0"], ["1", "0"]]
    assert len(list((tmp_path / "rank0" / "features").glob("*.pt"))) == 1
    assert not (tmp_path / "rank1").exists()


if __name__ == "__main__":  # one of two ranks
    from zoo.data.store import Store

    path, folder, rank = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=2)
    for _ in range(2):
        print(ask(Sums(), Store.open(path), torch.arange(20), folder / f"rank{rank}"))
    torch.distributed.destroy_process_group()
