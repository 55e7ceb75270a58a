"""Whole batches from the packed store, in an order that depends on nothing but (seed, epoch).

The global batch is cut from the epoch's permutation first, then each rank takes its slice and each accumulation step its piece
of that slice: the order does not depend on the number of ranks, all ranks get equally many batches, and a run may be resumed on
another machine. Batches are uint8; `to_float` turns them into what models see.

    loader = BatchLoader(store, "train", batch_size=512, seed=0)
    for batch in loader:                                     # image (512, C, H, W) uint8, a reused buffer
        batch = to_float(batch, loader.flips, out=buffer)    # image (512, C, H, W) float32 in [-1, 1], about half of them mirrored

Under Lightning it is used as it is (no DataLoader around it): its iterator does nothing before the first batch is asked for, its
length is always that of the full epoch, and its state holds nothing that belongs to one rank.
"""

import difflib
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.batch import Batch
from zoo.data.store import Store
from zoo.errors import ZooError

STATE_FORMAT = 2
STORAGES = ("auto", "mmap", "device")
ORDER, FLIPS, POOR, RICH, SUBSET = range(5)  # independent streams of random numbers for one (seed, epoch)


class BatchLoader:
    """Iterates over the batches of one split; a pass is one epoch of this rank's micro-batches.

    store, split    what to read: "train", "val" or "test"
    batch_size  images per optimizer step, over all ranks and accumulation steps
    seed        decides the order and the flips, together with the epoch
    rank, world_size, accumulate_grad_batches    which share of the global batch is ours, and in how many pieces it comes
    shuffle     True: permuted, an incomplete last batch is dropped. False: in the store's order, every image exactly once over
                all ranks, the last batch divided as evenly as possible (so a rank may have a batch less than another)
    storage     "mmap" reads from the memory-mapped file, "device" keeps the split's images on the device, "auto" decides
    device      where the batches shall be
    domain      an attribute's name: even rows lack it, odd rows have it, in every slice and micro-batch; the smaller of the two
                domains ends the epoch
    limit       use only `limit` images of the split, always the same ones
    prefetch    gather the next batch in a background thread; by default only for "mmap" on a GPU

    On the CPU images lie in a ring of reused buffers: a batch is valid until the next but one is taken.
    Raises ZooError where these do not fit together.
    """

    batch_sampler = None  # Lightning asks for it wherever there is a `sampler`

    def __init__(
        self,
        store: Store,
        split: str,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        accumulate_grad_batches: int = 1,
        shuffle: bool = True,
        storage: str = "mmap",
        device: torch.device | str = "cpu",
        domain: str | None = None,
        limit: int | None = None,
        prefetch: bool | None = None,
    ):
        assert 0 <= rank < world_size, f"rank {rank} of {world_size}"
        assert accumulate_grad_batches >= 1, f"accumulate_grad_batches {accumulate_grad_batches}"
        self.store, self.split, self.batch_size, self.domain, self.shuffle = store, split, batch_size, domain, shuffle
        self.seed, self.rank, self.world_size, self.accumulate_grad_batches = seed, rank, world_size, accumulate_grad_batches
        self.device = torch.device(device)
        positions = subset(store.indices(split), limit)
        if len(positions) == 0:
            raise ZooError(f"the split '{split}' of {store.path.name} holds no images: choose another split or a larger limit.")
        self._groups = [positions]
        if domain is not None:
            rows, fewest = store.attributes[positions], batch_size if shuffle else 2
            self._groups = [positions[has] for has in two_domains(store.attribute_names, rows, domain, fewest)]
        self.n = len(self._groups) * min(len(group) for group in self._groups)  # images in an epoch, with the incomplete batch
        self._pieces = self._cut()

        self.storage = choose_storage(storage, len(positions) * store.images[0].nbytes, self.device)
        self.positions = positions
        self._attributes = torch.from_numpy(store.attributes).to(self.device)
        self._table = np.asarray(store.images)  # a view: indexing the memmap object itself is slower
        self._resident: Tensor | None = None
        if self.storage == "device":
            self._resident = _upload(self._table, positions, self.device)
            if self.device.type == "cpu":
                self._table, self._resident = self._resident.numpy(), None
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        self._prefetch = (self.storage == "mmap" and self.device.type == "cuda") if prefetch is None else prefetch
        self._slots = itertools.cycle(self._make_slots())

        self._epoch = 0
        self._position = 0  # micro-batches handed out in this epoch
        self._resuming = False  # whether the next pass starts at the position that was loaded
        self._flips: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        """Micro-batches of this rank in a full epoch, also after a resume in the middle of one."""
        return len(self._pieces)

    def __iter__(self) -> Iterator[Batch]:
        """One pass over the epoch (after `load_state_dict`: over the rest of it). Nothing happens before its first batch."""
        start = self._position if self._resuming else 0
        self._resuming, self._position = False, start
        order = self._order()
        index = torch.from_numpy(order).to(self.device)  # once per epoch, so that no batch waits for a copy of its own
        for low, high, image in self._fetch(order, start):
            self._position += 1
            yield Batch(image, self._attributes.index_select(0, index[low:high]), index[low:high])

    @property
    def sampler(self) -> "BatchLoader":
        """What Lightning calls `set_epoch` on."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next pass. A loaded position survives if it belongs to this epoch."""
        if epoch != self._epoch:
            self._epoch, self._position, self._resuming = epoch, 0, False

    def rows_of(self, number: int) -> tuple[int, int, int]:
        """Of this rank's batch of that number: its global batch, its first row there, and how many rows the global batch has."""
        global_batch, first_row = divmod(self._pieces[number][0], self.batch_size)
        return global_batch, first_row, min(self.batch_size, self.n - global_batch * self.batch_size)

    @property
    def flips(self) -> Tensor:
        """Which images this epoch mirrors: (len(store),) bool on the device, to be indexed with `batch.index`."""
        if self._flips is None or self._flips[0] != self._epoch:
            draws = _draws(self.seed, self._epoch, FLIPS, len(self.store))
            self._flips = self._epoch, torch.from_numpy(draws >= 2**63).to(self.device)
        return self._flips[1]

    def state_dict(self) -> dict[str, Any]:
        """Where we are, in plain values that are the same on all ranks."""
        return {
            "format": STATE_FORMAT,
            **self._identity(),
            "accumulate_grad_batches": self.accumulate_grad_batches,
            "world_size": self.world_size,
            "epoch": self._epoch,
            "position": self._position,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next pass goes on after the last batch that was handed out. Raises ZooError if the order would not be the same."""
        if state.get("format") != STATE_FORMAT:
            raise ZooError(
                f"the checkpoint's data position has format {state.get('format')}, not {STATE_FORMAT}: it cannot be resumed from."
            )
        for name, mine in self._identity().items():
            if state[name] != mine:
                raise ZooError(
                    f"cannot resume: the checkpoint's data order has {name}={state[name]} and this run {name}={mine}: "
                    "resume with the data and settings the run was started with, or start a new run."
                )
        step, inside = divmod(state["position"], state["accumulate_grad_batches"])
        if inside and (state["accumulate_grad_batches"], state["world_size"]) != (self.accumulate_grad_batches, self.world_size):
            raise ZooError(
                "cannot resume with another number of devices or accumulation steps from the middle of an optimizer step: "
                f"keep world_size={state['world_size']} and accumulate_grad_batches={state['accumulate_grad_batches']}."
            )
        self._epoch, self._position, self._resuming = state["epoch"], step * self.accumulate_grad_batches + inside, True

    def _identity(self) -> dict[str, Any]:
        """What must not change between saving and resuming, or the batches would."""
        names = ("split", "domain", "n", "batch_size", "seed", "shuffle")
        return {"store": self.store.sha256, **{name: getattr(self, name) for name in names}}

    def _cut(self) -> list[tuple[int, int]]:
        """Our micro-batches as (low, high) rows of the epoch's order. Where domains alternate, only whole pairs are cut."""
        group_size, parts, size = len(self._groups), self.world_size * self.accumulate_grad_batches, self.batch_size
        if self.shuffle and size > self.n:
            raise ZooError(f"the batch size {size} is larger than the {self.n} images of the split '{self.split}': lower batch_size.")
        if size < 1 or size % (group_size * (parts if self.shuffle else 1)):
            raise ZooError(
                f"the batch size {size} must be a multiple of {self.world_size} devices × {self.accumulate_grad_batches} accumulation steps"
                + (" × 2 domains" if group_size == 2 else "")
                + ": change batch_size."
            )
        if (most := min(size, self.n)) // group_size < self.world_size:  # a rank without any batch makes Lightning's validation fail
            raise ZooError(
                f"{most} images of the split '{self.split}' at once are too few for {self.world_size} devices: "
                "use fewer devices, or a larger batch_size or limit."
            )
        pieces = []
        for start in range(0, self.n - self.n % size if self.shuffle else self.n, size):
            groups = min(size, self.n - start) // group_size
            for part in range(self.rank * self.accumulate_grad_batches, (self.rank + 1) * self.accumulate_grad_batches):
                low, high = (start + group_size * -(-groups * edge // parts) for edge in (part, part + 1))  # rounded up: rank 0 has most
                if low < high:
                    pieces.append((low, high))
        return pieces

    def _order(self) -> np.ndarray:
        """Positions in the store in the order of this epoch: (n,) int64. Domains alternate."""
        groups = self._groups
        if self.shuffle:  # a stable sort of raw Philox output, which numpy promises never to change (unlike Generator.permutation)
            streams = (ORDER,) if len(groups) == 1 else (POOR, RICH)
            draws = (_draws(self.seed, self._epoch, stream, len(group)) for stream, group in zip(streams, groups, strict=True))
            groups = [group[np.argsort(keys, kind="stable")] for group, keys in zip(groups, draws, strict=True)]
        shortest = min(len(group) for group in groups)
        return np.stack([group[:shortest] for group in groups], axis=1).reshape(-1)

    def _fetch(self, order: np.ndarray, start: int) -> Iterator[tuple[int, int, Tensor]]:
        """The pieces from `start` on with their images, gathered here or, one batch ahead, in a thread."""
        rows: Any = order if self.storage == "mmap" else np.searchsorted(self.positions, order)
        if self._resident is not None:
            rows = torch.from_numpy(rows).to(self.device)
        pieces = self._pieces[start:]
        gathered = (self._gather(rows[low:high]) for low, high in pieces)
        images = self._ahead(gathered) if self._prefetch else map(self._ready, gathered)
        for (low, high), image in zip(pieces, images, strict=True):
            yield low, high, image

    def _ahead(self, gathered: Iterator[Tensor]) -> Iterator[Tensor]:
        """The gathered images, the next of which a thread gathers while one is used."""
        with ThreadPoolExecutor(1, "zoo-loader") as pool:
            following = pool.submit(next, gathered, None)
            while (image := following.result()) is not None:
                image = self._ready(image)  # before the next copy begins, which it would wait for
                following = pool.submit(next, gathered, None)
                yield image

    def _gather(self, rows: Any) -> Tensor:
        """The images of these rows of the table, on the device; on the CPU in the ring's next buffer."""
        if self._resident is not None:
            return self._resident.index_select(0, rows)
        slot, copied = next(self._slots)
        if copied is not None:
            copied.synchronize()  # the GPU may still be reading this buffer
        buffer = slot[: len(rows)]
        np.take(self._table, rows, axis=0, out=buffer.numpy(), mode="clip")  # "clip" lets it write into `out` directly
        if copied is None:
            return buffer.to(self.device)  # on the CPU the buffer itself
        with torch.cuda.stream(self._stream):
            image = buffer.to(self.device, non_blocking=True)
            copied.record()
        return image

    def _ready(self, image: Tensor) -> Tensor:
        """Lets the GPU's current stream wait for the copy; the host does not wait."""
        if self._stream is not None and self._resident is None:
            current = torch.cuda.current_stream(self.device)
            current.wait_stream(self._stream)
            image.record_stream(current)
        return image

    def _make_slots(self) -> list[tuple[Tensor, torch.cuda.Event | None]]:
        """The ring: two buffers, so that a batch outlives the next one, and one more for the thread to write ahead.

        Each is (largest micro-batch, C, H, W) uint8, pinned if a GPU copies from it, with the event that the GPU has read it.
        """
        if self._resident is not None:
            return []
        shape = max(high - low for low, high in self._pieces), *self._table.shape[1:]
        gpu = self._stream is not None
        return [
            (torch.empty(shape, dtype=torch.uint8, pin_memory=gpu), torch.cuda.Event() if gpu else None)
            for _ in range(3 if self._prefetch else 2)
        ]


def choose_storage(requested: str, nbytes: int, device: torch.device) -> str:
    """ "mmap" or "device", as asked for; with "auto" the device if it is a GPU with twice the memory free. Raises ZooError for others."""
    if requested not in STORAGES:
        raise ZooError(f"unknown storage '{requested}': set data.storage to one of {', '.join(STORAGES)}.")
    if requested != "auto":
        return requested
    return "device" if device.type == "cuda" and nbytes <= torch.cuda.mem_get_info(device)[0] / 2 else "mmap"


def subset(positions: np.ndarray, limit: int | None) -> np.ndarray:
    """`limit` of the positions, sorted, always the same ones. Not the first: sources may list one class after the other."""
    if limit is None or limit >= len(positions):
        return positions
    return np.sort(positions[np.argsort(_draws(0, 0, SUBSET, len(positions)), kind="stable")[: max(0, limit)]])


def _draws(seed: int, epoch: int, stream: int, count: int) -> np.ndarray:
    """`count` uint64 from the stream of random numbers that belongs to (seed, epoch, stream)."""
    key = np.array([seed % 2**64, epoch], dtype=np.uint64)
    return np.random.Philox(key=key, counter=[0, 0, 0, stream]).random_raw(count)


def two_domains(names: Sequence[str], attributes: np.ndarray, domain: str, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Which images lack the attribute called `domain`, and which have it: attributes (N, A) called `names` -> (N,) bool × 2.

    Raises ZooError: there is no such attribute, all images have it or none has, or one side does not fill half a batch.
    """
    name = str(domain)  # classes may be digits
    if name not in names:
        near = difflib.get_close_matches(name, names, 1, 0.0)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise ZooError(f"data.domain: there is no attribute '{name}': {hint}The data have {', '.join(names) or 'none'}.")
    rich = attributes[:, list(names).index(name)] == 1
    counts = int((~rich).sum()), int(rich.sum())
    if 0 in counts:
        raise ZooError(f"all {len(rich)} images have {name}={int(rich.any())}, so it makes no two domains: choose another attribute.")
    if 2 * min(counts) < batch_size:
        raise ZooError(
            f"{counts[0]} images without and {counts[1]} with '{name}' do not fill half a batch of {batch_size} each: lower batch_size."
        )
    return ~rich, rich


def _upload(images: np.ndarray, positions: np.ndarray, device: torch.device) -> Tensor:
    """These images as one uint8 tensor on the device, copied piecewise."""
    resident = torch.empty(len(positions), *images.shape[1:], dtype=torch.uint8, device=device)
    for start in range(0, len(positions), 4096):
        resident[start : start + 4096] = torch.from_numpy(images[positions[start : start + 4096]])
    return resident
