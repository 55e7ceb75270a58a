"""The loader: which images come when, on which rank, and from where after a resume."""

import itertools
import json
import threading

import numpy as np
import pytest
import torch

from tests.data.test_store import Toy
from zoo.batch import Batch, to_float
from zoo.data.loader import BatchLoader, choose_storage
from zoo.data.module import DataModule
from zoo.data.store import prepare
from zoo.errors import ZooError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """600 images; 480 of them to train on, 60 to validate."""
    return prepare(Toy(), tmp_path_factory.mktemp("cache"))


def indices(loader):
    """What a pass hands out: a list of lists of positions."""
    return [batch.index.tolist() for batch in loader]


def joined(lists):
    return list(itertools.chain.from_iterable(lists))


def epoch_of(loader, epoch):
    loader.sampler.set_epoch(epoch)
    return indices(loader)


def check_content(store, batch):
    """Images and attributes are those of the positions."""
    np.testing.assert_array_equal(batch.image.numpy(), store.images[batch.index.numpy()])
    np.testing.assert_array_equal(batch.attributes.numpy(), store.attributes[batch.index.numpy()])


# --- order --------------------------------------------------------------------------------------------------------------------


def test_batches_hold_what_their_index_says(store):
    loader = BatchLoader(store, "train", 48, seed=1)
    for batch in loader:
        assert (batch.image.dtype, batch.attributes.dtype, batch.index.dtype) == (torch.uint8, torch.uint8, torch.int64)
        assert batch.image.shape == (48, 3, 8, 8)
        check_content(store, batch)


def test_each_image_at_most_once_per_epoch_and_epochs_differ(store):
    loader = BatchLoader(store, "train", 50, seed=3)
    epochs = [joined(epoch_of(loader, epoch)) for epoch in range(4)]
    train = set(store.indices("train").tolist())
    for seen in epochs:
        assert len(seen) == len(set(seen)) == 450  # the incomplete tenth batch is dropped
        assert set(seen) <= train
    assert len({tuple(seen) for seen in epochs}) == 4
    assert set(joined(epochs)) == train  # what one epoch drops another has
    assert epoch_of(loader, 2) == epoch_of(BatchLoader(store, "train", 50, seed=3), 2)
    assert epoch_of(loader, 0) != epoch_of(BatchLoader(store, "train", 50, seed=4), 0)


def test_the_order_will_be_the_same_in_years(store):
    """Written down once: a change would break every resume and every published seed."""
    loader = BatchLoader(store, "train", 8, seed=7)
    assert [epoch_of(loader, epoch)[0] for epoch in (0, 5)] == FROZEN_ORDER
    assert [loader.sampler.set_epoch(epoch) or int(loader.flips.sum()) for epoch in (0, 5)] == FROZEN_FLIPS


def test_consecutive_seeds_and_epochs_are_unrelated(store):
    """(seed, epoch) are two halves of a key, not a sum: seed 1 epoch 0 is not seed 0 epoch 1."""
    orders = {tuple(epoch_of(BatchLoader(store, "train", 480, seed=seed), epoch)[0]) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


@pytest.mark.parametrize("accumulate_grad_batches", [1, 2, 4])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_order_depends_neither_on_ranks_nor_on_accumulation(store, world_size, accumulate_grad_batches):
    alone = epoch_of(BatchLoader(store, "train", 48, seed=5), 1)
    ranks = [
        epoch_of(
            BatchLoader(store, "train", 48, seed=5, rank=rank, world_size=world_size, accumulate_grad_batches=accumulate_grad_batches), 1
        )
        for rank in range(world_size)
    ]
    assert {len(rank) for rank in ranks} == {10 * accumulate_grad_batches}
    for step, together in enumerate(alone):
        own = slice(step * accumulate_grad_batches, (step + 1) * accumulate_grad_batches)
        assert joined(joined(rank[own]) for rank in ranks) == together


@pytest.mark.parametrize("batch_size", [3, 7, 16, 60, 100])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_reads_every_image_once(store, world_size, batch_size):
    loaders = [
        BatchLoader(store, "val", batch_size, rank=rank, world_size=world_size, shuffle=False, storage=storage)
        for rank, storage in zip(range(world_size), ("mmap", "device", "mmap"), strict=False)
    ]
    passes = [indices(loader) for loader in loaders]
    assert [len(one) for one in passes] == [len(loader) for loader in loaders]
    assert all(batch for one in passes for batch in one)  # no empty ones
    seen = joined(joined(one) for one in passes)
    assert sorted(seen) == store.indices("val").tolist()
    if world_size == 1:
        assert seen == sorted(seen)
    sizes = [sum(map(len, one)) for one in passes]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] - sizes[-1] <= len(passes[0])  # at most one image per batch
    assert indices(loaders[0]) == passes[0]  # and again, without set_epoch


def test_limit_takes_always_the_same_images_from_everywhere(store):
    """A source may list one class after the other, so not the first ones."""
    taken = joined(indices(BatchLoader(store, "val", 4, shuffle=False, limit=10)))
    assert taken == sorted(taken)
    assert len(set(taken)) == 10
    assert set(taken) < set(store.indices("val").tolist())
    assert taken != store.indices("val")[:10].tolist()
    assert joined(indices(BatchLoader(store, "val", 5, shuffle=False, limit=10))) == taken
    assert set(joined(indices(BatchLoader(store, "train", 10, limit=20)))) == set(
        joined(indices(BatchLoader(store, "train", 20, seed=3, limit=20)))
    )
    assert len(BatchLoader(store, "val", 16, shuffle=False, limit=1000)) == 4


# --- under Lightning: no side effects, positions ---------------------------------------------------------------------------------


def test_iter_has_no_side_effects(store):
    loader = BatchLoader(store, "train", 48)
    early = iter(loader)
    before = loader.state_dict()
    for _ in range(3):
        iter(loader)
    assert loader.state_dict() == before
    loader.sampler.set_epoch(3)  # Lightning does it after iter() and before the first batch
    assert [batch.index.tolist() for batch in early] == epoch_of(BatchLoader(store, "train", 48), 3)
    assert loader.batch_sampler is None


def test_an_abandoned_pass_is_forgotten(store):
    loader = BatchLoader(store, "train", 48)
    whole = indices(loader)
    for _ in zip(range(3), loader, strict=False):
        pass
    assert indices(loader) == whole
    assert len(loader) == 10


@pytest.mark.parametrize("epoch", [0, 2])
@pytest.mark.parametrize("position", [0, 1, 5, 9, 10])
@pytest.mark.parametrize("prefetch", [False, True])
def test_resume_in_the_middle_of_an_epoch(store, epoch, position, prefetch):
    whole = epoch_of(BatchLoader(store, "train", 48, seed=9), epoch)
    loader = BatchLoader(store, "train", 48, seed=9, prefetch=prefetch)
    loader.sampler.set_epoch(epoch)
    batches = iter(loader)
    for _ in range(position):
        next(batches)
    state = json.loads(json.dumps(loader.state_dict()))  # plain values
    assert state["position"] == position

    resumed = BatchLoader(store, "train", 48, seed=9, prefetch=prefetch)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert len(resumed) == 10
    resumed.sampler.set_epoch(epoch)  # the same: keeps the position
    assert torch.equal(resumed.flips, loader.flips)
    assert indices(resumed) == whole[position:]
    assert epoch_of(resumed, epoch + 1) == epoch_of(BatchLoader(store, "train", 48, seed=9), epoch + 1)

    resumed.load_state_dict(state)
    resumed.sampler.set_epoch(epoch + 1)  # another: starts at its beginning
    assert resumed.state_dict()["position"] == 0
    assert len(indices(resumed)) == 10


def test_state_is_the_same_on_all_ranks(store):
    loaders = [BatchLoader(store, "train", 48, rank=rank, world_size=3, accumulate_grad_batches=2) for rank in range(3)]
    for loader in loaders:
        next(iter(loader))
    assert loaders[0].state_dict() == loaders[1].state_dict() == loaders[2].state_dict()


@pytest.mark.parametrize(("world_size", "accumulate_grad_batches"), [(1, 1), (2, 1), (3, 4), (1, 8)])
def test_resume_with_other_ranks_or_accumulation_at_an_optimizer_step(store, world_size, accumulate_grad_batches):
    whole = indices(BatchLoader(store, "train", 48))
    first = BatchLoader(store, "train", 48, world_size=2, accumulate_grad_batches=2)
    batches = iter(first)
    for _ in range(6):  # three optimizer steps
        next(batches)
    ranks = []
    for rank in range(world_size):
        loader = BatchLoader(store, "train", 48, rank=rank, world_size=world_size, accumulate_grad_batches=accumulate_grad_batches)
        loader.load_state_dict(first.state_dict())
        ranks.append(indices(loader))
    for step, together in enumerate(whole[3:]):
        own = slice(step * accumulate_grad_batches, (step + 1) * accumulate_grad_batches)
        assert joined(joined(rank[own]) for rank in ranks) == together
    next(batches)  # in the middle of a step only the same cut will do
    same = BatchLoader(store, "train", 48, world_size=2, accumulate_grad_batches=2)
    same.load_state_dict(first.state_dict())
    assert len(indices(same)) == 13
    if (world_size, accumulate_grad_batches) != (2, 2):
        with pytest.raises(ZooError, match="middle of an optimizer step: keep world_size=2 and accumulate_grad_batches=2"):
            loader.load_state_dict(first.state_dict())


def test_states_that_do_not_belong_here_are_refused(store, tmp_path):
    loader = BatchLoader(store, "train", 48)
    state = loader.state_dict()
    other = prepare(Toy(count=599), tmp_path)
    assert len(other.indices("train")) == 480  # as many images, other ones
    for wrong, word in (
        (BatchLoader(store, "train", 24), "batch_size=48 and this run batch_size=24"),
        (BatchLoader(store, "train", 48, seed=1), "seed=0 and this run seed=1"),
        (BatchLoader(store, "train", 48, limit=470), "n=480 and this run n=470"),
        (BatchLoader(store, "train", 48, domain="Odd"), "domain=None and this run domain=Odd"),
        (BatchLoader(store, "val", 48), "split=train and this run split=val"),
        (BatchLoader(other, "train", 48), "store="),
    ):
        with pytest.raises(ZooError, match=f"cannot resume: .*{word}"):
            wrong.load_state_dict(state)
        assert wrong.state_dict()["position"] == 0
    for broken in ({**state, "format": 99}, {}):
        with pytest.raises(ZooError, match="format"):
            loader.load_state_dict(broken)


# --- flips and floats ------------------------------------------------------------------------------------------------------------


def test_flips_belong_to_seed_epoch_and_image(store):
    loader = BatchLoader(store, "train", 48, seed=2)
    drawn = []
    for epoch in range(40):
        loader.sampler.set_epoch(epoch)
        assert (loader.flips.shape, loader.flips.dtype) == ((600,), torch.bool)
        drawn.append(loader.flips)
    elsewhere = BatchLoader(store, "train", 16, seed=2, rank=1, world_size=2)
    elsewhere.sampler.set_epoch(39)
    assert torch.equal(elsewhere.flips, drawn[-1])
    drawn = torch.stack(drawn).float()
    assert abs(drawn.mean() - 0.5) < 0.01  # 24,000 coins: 3 standard deviations
    assert drawn.mean(0).std() == pytest.approx(0.5 / 40**0.5, rel=0.1)  # independent between epochs
    assert drawn.mean(1).std() == pytest.approx(0.5 / 600**0.5, rel=0.5)  # and between images


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 5, 7), (3, 64, 64), (3, 600, 600)])
def test_to_float_is_exact_to_a_rounding(shape):
    image = torch.randint(0, 256, (130 if shape[-1] < 600 else 3, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    index = torch.randperm(len(image)) + 7
    flips = torch.rand(200) < 0.5
    attributes = torch.zeros(len(image), 2)
    expected = to_float(Batch(image, attributes, index)).image
    assert (expected.double() - (image.double() / 127.5 - 1)).abs().max() < 1.2e-7
    mirrored = expected.clone()
    mirrored[flips[index]] = expected[flips[index]].flip(-1)
    out = torch.full((len(image) + 5, *shape), 9.0)
    result = to_float(Batch(image.clone(), attributes, index), flips, out)
    assert torch.equal(result.image, mirrored)
    assert result.image.data_ptr() == out.data_ptr()
    assert torch.all(out[len(image) :] == 9)
    assert result.attributes is attributes
    assert result.index is index
    for chosen, right in ((torch.ones, expected.flip(-1)), (torch.zeros, expected)):
        assert torch.equal(to_float(Batch(image.clone(), attributes, index), chosen(200, dtype=torch.bool)).image, right)


def test_to_float_never_leaves_the_range():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    image = to_float(Batch(levels, torch.zeros(1, 0), torch.zeros(1, dtype=torch.int64))).image
    assert image.min() == -1
    assert 1 - 1.2e-7 <= image.max().item() <= 1
    assert torch.equal(((image + 1) * 127.5).round().to(torch.uint8), levels)
    empty = Batch(levels[:0], torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64))
    assert to_float(empty, torch.ones(1, dtype=torch.bool)).image.shape == (0, 1, 16, 16)


# --- where images come from ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [False, True])
@pytest.mark.parametrize("storage", ["mmap", "device", "auto"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_all_ways_give_the_same(store, storage, prefetch, split):
    expected = list(map(list, indices(BatchLoader(store, split, 20, shuffle=split == "train"))))
    loader = BatchLoader(store, split, 20, shuffle=split == "train", storage=storage, prefetch=prefetch)
    seen = []
    for batch in loader:
        check_content(store, batch)
        seen.append(batch.index.tolist())
    assert seen == expected


@pytest.mark.parametrize("prefetch", [False, True])
@pytest.mark.parametrize("storage", ["mmap", "device"])
def test_a_batch_is_valid_until_the_next_but_one(store, storage, prefetch):
    loader = BatchLoader(store, "train", 48, storage=storage, prefetch=prefetch)
    before = None
    for epoch in range(2):  # also from one epoch to the next
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            if before is not None:
                check_content(store, before)
            before = batch
    assert len({batch.image.data_ptr() for batch in loader}) == 2 + prefetch  # and no more memory than that


def test_the_thread_ends_with_its_pass(store):
    loader = BatchLoader(store, "train", 48, prefetch=True)
    batches = iter(loader)
    next(batches)
    assert any(thread.name.startswith("zoo-loader") for thread in threading.enumerate())
    del batches
    assert not any(thread.name.startswith("zoo-loader") for thread in threading.enumerate())


def test_an_error_in_the_thread_reaches_the_loop(store, monkeypatch):
    loader = BatchLoader(store, "train", 48, prefetch=True)
    monkeypatch.setattr(loader, "_gather", lambda rows: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        indices(loader)


def test_choose_storage(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 4000))
    assert choose_storage("auto", 10**15, cpu) == choose_storage("auto", 1, cpu) == "mmap"
    assert choose_storage("auto", 500, gpu) == "device"
    assert choose_storage("auto", 501, gpu) == "mmap"
    assert choose_storage("mmap", 1, gpu) == "mmap"
    assert choose_storage("device", 10**15, gpu) == "device"
    with pytest.raises(ZooError, match="unknown storage 'ram'"):
        choose_storage("ram", 1, cpu)


def test_mmap_copies_nothing(store):
    assert np.shares_memory(BatchLoader(store, "train", 48)._table, store.images)


# --- two domains -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("world_size", "accumulate_grad_batches"), [(1, 1), (2, 1), (2, 2), (1, 4), (3, 1)])
def test_domains_alternate_in_every_micro_batch(store, world_size, accumulate_grad_batches):
    alone = epoch_of(BatchLoader(store, "train", 48, domain="Third"), 1)
    assert len(alone) == 2 * 160 // 48  # 160 of 480 images have it
    ranks = []
    for rank in range(world_size):
        loader = BatchLoader(
            store, "train", 48, domain="Third", rank=rank, world_size=world_size, accumulate_grad_batches=accumulate_grad_batches
        )
        loader.sampler.set_epoch(1)
        seen = []
        for batch in loader:
            check_content(store, batch)
            assert batch.attributes[:, 1].tolist() == [0, 1] * (24 // (world_size * accumulate_grad_batches))
            seen.append(batch.index.tolist())
        ranks.append(seen)
    for step, together in enumerate(alone):
        own = slice(step * accumulate_grad_batches, (step + 1) * accumulate_grad_batches)
        assert joined(joined(rank[own]) for rank in ranks) == together
    assert len(set(joined(alone))) == len(alone) * 48


def test_domains_are_paired_anew_each_epoch(store):
    loader = BatchLoader(store, "train", 48, domain="Third")
    pairs = [set(zip(seen[::2], seen[1::2], strict=True)) for seen in (joined(epoch_of(loader, epoch)) for epoch in range(2))]
    assert len(pairs[0] & pairs[1]) < 5
    loader.load_state_dict({**loader.state_dict(), "epoch": 1, "position": 4})
    assert indices(loader) == epoch_of(BatchLoader(store, "train", 48, domain="Third"), 1)[4:]


def test_domains_in_evaluation_come_in_whole_pairs(store):
    seen = []
    for rank in range(2):
        for batch in BatchLoader(store, "val", 20, domain="Third", shuffle=False, rank=rank, world_size=2):
            assert batch.attributes[:, 1].tolist() == [0, 1] * (len(batch.index) // 2)
            seen += batch.index.tolist()
    assert len(seen) == len(set(seen)) == 2 * int(store.attributes[store.indices("val"), 1].sum())


# --- refused at the start --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 481}, "batch size 481 is larger than the 480 images .*lower batch_size"),
        ({"batch_size": 48, "limit": 47}, "batch size 48 is larger than the 47"),
        ({"batch_size": 50, "world_size": 4}, "multiple of 4 devices × 1 accumulation steps: change batch_size"),
        ({"batch_size": 50, "world_size": 2, "accumulate_grad_batches": 2}, "multiple of 2 devices × 2 accumulation"),
        ({"batch_size": 0}, "batch size 0"),
        ({"batch_size": -4, "shuffle": False}, "batch size -4"),
        ({"batch_size": 48, "limit": 0}, "holds no images"),
        ({"batch_size": 48, "limit": -1}, "holds no images"),
        ({"batch_size": 48, "split": "dev"}, "no split 'dev'"),
        ({"batch_size": 48, "storage": "ram"}, "unknown storage 'ram'"),
        ({"batch_size": 48, "domain": "Thrid"}, "no attribute 'Thrid'.*did you mean 'Third'"),
        ({"batch_size": 48, "domain": "Constant"}, "all 480 images have Constant=1"),
        ({"batch_size": 48, "domain": "Rare"}, "468 images without and 12 with 'Rare' do not fill half a batch of 48 each"),
        ({"batch_size": 48, "domain": "Odd", "world_size": 16}, "16 devices × 1 accumulation steps × 2 domains"),
        ({"batch_size": 9, "domain": "Odd", "shuffle": False}, "2 domains"),
        ({"batch_size": 48, "limit": 2, "shuffle": False, "world_size": 3}, "2 images .* too few for 3 devices"),
        ({"batch_size": 2, "shuffle": False, "world_size": 3}, "2 images .* too few for 3 devices"),
    ],
)
def test_what_cannot_work_is_refused_with_a_sentence(store, options, message):
    with pytest.raises(ZooError, match=message):
        BatchLoader(store, **{"split": "train", **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"domain": "Thrid"}, "no attribute 'Thrid'.*did you mean 'Third'"),
        ({"domain": "Constant"}, "all 480 images have Constant=1"),
        ({"domain": "Odd", "limit": 1}, "all 1 images have Odd="),
        ({"domain": "Rare"}, "468 images without and 12 with 'Rare'"),
    ],
)
def test_a_wrong_domain_is_refused_before_an_image_is_decoded(tmp_path, options, message):
    toy = Toy(log=tmp_path / "log")
    with pytest.raises(ZooError, match=message):
        DataModule(toy, 48, cache=tmp_path / "cache", **options).check()
    assert not toy.log.exists()
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"]
    DataModule(toy, 48, cache=tmp_path / "cache", domain="Third").check()
    assert toy.log.exists()


def test_an_empty_split(tmp_path):
    toy = Toy(count=8)  # too few for a validation split
    with pytest.raises(ZooError, match=r"'val' of .* holds no images"):
        BatchLoader(prepare(toy, tmp_path), "val", 1)


FROZEN_ORDER = [[251, 42, 45, 475, 10, 574, 94, 172], [57, 570, 281, 512, 101, 177, 130, 240]]
FROZEN_FLIPS = [314, 306]
