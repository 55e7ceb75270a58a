"""The packed store: what it holds, and what happens when images, disks or processes fail."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from zoo import progress
from zoo.data import store as module
from zoo.data.source import Chunk, Listing, Source
from zoo.data.store import Store, prepare
from zoo.errors import ZooError


class Toy(Source):
    """Random images whose content is known. May hold bad images, write down what is read, and be slow."""

    name = "toy"
    attribute_names = ("Odd", "Third", "Rare", "Constant")
    factor_names = ("angle",)

    def __init__(self, count=600, image_size=8, channels=3, bad=(), version=1, log=None, delay=0.0):
        self.count, self.image_size, self.channels, self.bad = count, image_size, channels, bad
        self.version, self.log, self.delay = version, log, delay
        rows = np.arange(count)
        self.images = np.random.default_rng(0).integers(0, 256, (count, channels, image_size, image_size), dtype=np.uint8)
        self.attributes = np.stack([rows % 2, rows % 3 == 0, rows % 50 == 7, rows >= 0], axis=1).astype(np.uint8)
        self.splits = np.where(rows % 10 == 8, 1, np.where(rows % 10 == 9, 2, 0)).astype(np.uint8)
        self.names = [f"{i:06d}.jpg" for i in rows]

    def settings(self):
        return {"crop": (1, 2), "decoder": "toy", "channels": self.channels}

    def fingerprint(self):
        return f"{self.count} {self.version}"

    def scan(self):
        factors = np.arange(self.count, dtype=np.float32)[:, None]
        return Listing(self.names, self.splits, self.attributes, factors, {"list.txt": "00ff"})

    def read(self, start, stop):
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{os.getpid()} {start}\n")
        time.sleep(self.delay)
        errors = {i - start: f"truncated at byte {i}" for i in self.bad if start <= i < stop}
        images = self.images[start:stop].copy()
        images[list(errors)] = 255
        return Chunk(images, errors, [f"{self.version}-{i}" for i in range(start, stop)])


def folders(cache):
    """What lies in a cache, besides the lock."""
    return sorted(path.name for path in Path(cache).iterdir() if not path.name.endswith(".lock"))


def test_holds_what_the_source_holds(tmp_path):
    toy = Toy()
    store = prepare(toy, tmp_path)
    assert len(store) == 600
    assert (store.channels, store.image_size) == (3, 8)
    assert isinstance(store.images, np.memmap)
    assert not store.images.flags.writeable
    np.testing.assert_array_equal(store.images, toy.images)
    np.testing.assert_array_equal(store.attributes, toy.attributes)
    np.testing.assert_array_equal(store.factors[:, 0], np.arange(600))
    assert store.names == toy.names
    assert store.attribute_names == toy.attribute_names
    assert store.factor_names == ("angle",)
    together = [store.indices(split) for split in ("train", "val", "test")]
    assert [len(part) for part in together] == [480, 60, 60] == list(store.manifest["counts"].values())
    assert all(part.dtype == np.int64 and np.all(np.diff(part) > 0) for part in together)
    np.testing.assert_array_equal(store.indices("val"), np.arange(8, 600, 10))
    with pytest.raises(ZooError, match="no split 'dev'"):
        store.indices("dev")


def test_second_time_nothing_is_read(tmp_path):
    log = tmp_path / "log"
    first = prepare(Toy(log=log), tmp_path / "cache")
    assert len(log.read_text().splitlines()) == 3  # 600 images in chunks of 256
    again = prepare(Toy(log=log), tmp_path / "cache")
    assert len(log.read_text().splitlines()) == 3
    assert again.path == first.path
    assert Store.open(first.path, verify=True).names == first.names


def test_a_source_without_factors_and_with_one_channel(tmp_path):
    toy = Toy(count=5, channels=1)
    toy.scan = lambda: Listing(toy.names, toy.splits, toy.attributes)
    store = prepare(toy, tmp_path)
    assert store.factors is None
    assert store.images.shape == (5, 1, 8, 8)


def test_odd_names_survive(tmp_path):
    toy = Toy(count=4)
    toy.names = ["ä b/c.jpg", "line\u2028separator\r", b"\xff\xfe".decode("utf-8", "surrogateescape"), ""]
    assert prepare(toy, tmp_path).names == toy.names


@pytest.mark.parametrize("names", [["a", "b", "a"], ["a", "b\n", "c"]])
def test_doubled_names_are_refused(tmp_path, names):
    toy = Toy(count=3)
    toy.names = names
    with pytest.raises(ZooError, match="doubled names or line breaks"):
        prepare(toy, tmp_path)
    assert folders(tmp_path) == []


def test_an_empty_source_is_refused(tmp_path):
    with pytest.raises(ZooError, match="holds no images"):
        prepare(Toy(count=0), tmp_path)


def test_other_settings_or_files_give_another_folder(tmp_path):
    paths = {prepare(toy, tmp_path).path for toy in (Toy(), Toy(version=2), Toy(channels=1), Toy(image_size=4), Toy())}
    paths.add(prepare(Toy(), tmp_path, skip_bad=True).path)
    assert len(paths) == 5
    assert folders(tmp_path) == sorted(path.name for path in paths)


def test_content_hash_depends_on_content_only(tmp_path):
    first = prepare(Toy(), tmp_path / "a")
    assert prepare(Toy(version=2), tmp_path / "b").sha256 == first.sha256  # the same pixels from touched files
    assert prepare(Toy(version=2), tmp_path / "b").manifest["sources_sha256"] != first.manifest["sources_sha256"]
    assert prepare(Toy(count=599), tmp_path / "c").sha256 != first.sha256


# --- bad images ---------------------------------------------------------------------------------------------------------------


def test_all_bad_images_are_listed(tmp_path):
    bad = list(range(3, 600, 20))  # 30 of them, in all three chunks
    with pytest.raises(ZooError) as caught:
        prepare(Toy(bad=bad), tmp_path)
    message = str(caught.value)
    assert message.startswith("30 of 600 images of 'toy' cannot be used")
    assert "data.skip_bad=true" in message
    assert "and 10 more; the full list is in" in message
    assert "000003.jpg: truncated at byte 3" in message
    assert message.count(".jpg: ") == 20
    listed = (tmp_path / "toy-bad-images.txt").read_text().splitlines()
    assert listed == [f"{i:06d}.jpg: truncated at byte {i}" for i in bad]
    assert folders(tmp_path) == ["toy-bad-images.txt"]
    store = prepare(Toy(), tmp_path)  # repaired
    assert folders(tmp_path) == [store.path.name]


def test_skip_bad_drops_image_and_attributes_together(tmp_path):
    toy = Toy(bad=[0, 255, 256, 511, 512, 599])
    store = prepare(toy, tmp_path, skip_bad=True)
    kept = np.setdiff1d(np.arange(600), toy.bad)
    np.testing.assert_array_equal(store.images, toy.images[kept])
    np.testing.assert_array_equal(store.attributes, toy.attributes[kept])
    np.testing.assert_array_equal(store.splits, toy.splits[kept])
    np.testing.assert_array_equal(store.factors[:, 0], kept)
    assert store.names == [toy.names[i] for i in kept]
    assert store.manifest["dropped"] == {toy.names[i]: f"truncated at byte {i}" for i in toy.bad}
    assert sum(store.manifest["counts"].values()) == 594


def test_nothing_readable_is_an_error_even_with_skip_bad(tmp_path):
    with pytest.raises(ZooError, match="none of the 3 images"):
        prepare(Toy(count=3, bad=range(3)), tmp_path, skip_bad=True)
    assert folders(tmp_path) == []


# --- damage -------------------------------------------------------------------------------------------------------------------

FILES = ("images.npy", "attributes.npy", "splits.npy", "factors.npy", "names.txt")


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_refused(tmp_path, name):
    path = prepare(Toy(), tmp_path).path
    content = bytearray((path / name).read_bytes())
    content[-7] ^= 1
    (path / name).write_bytes(content)
    with pytest.raises(ZooError, match=rf"{name} does not match its sha256; .*delete the folder"):
        prepare(Toy(), tmp_path)
    shutil.rmtree(path)  # the remedy
    assert prepare(Toy(), tmp_path).path == path


@pytest.mark.parametrize("name", FILES)
def test_truncated_or_missing_files_are_refused_even_without_hashing(tmp_path, name):
    path = prepare(Toy(), tmp_path).path
    os.truncate(path / name, (path / name).stat().st_size - 1)
    with pytest.raises(ZooError, match=rf"{name} has .* bytes instead of .*delete the folder"):
        Store.open(path)
    (path / name).unlink()
    with pytest.raises(ZooError, match=rf"{name} is missing"):
        prepare(Toy(), tmp_path)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing", "format", "not an object"])
def test_a_broken_manifest_means_building_anew(tmp_path, damage):
    log = tmp_path / "log"
    path = prepare(Toy(log=log), tmp_path / "cache").path
    file = path / "manifest.json"
    manifest = json.loads(file.read_text())
    if damage == "flipped":
        file.write_text(file.read_text().replace('"train": 480', '"train": 481'))
    elif damage == "truncated":
        os.truncate(file, file.stat().st_size // 2)
    elif damage == "missing":
        file.unlink()
    elif damage == "format":
        file.write_text(json.dumps({**manifest, "format": 0}))
    else:
        file.write_text("[1]")
    with pytest.raises(ZooError, match="no store"):
        Store.open(path)
    assert prepare(Toy(log=log), tmp_path / "cache").manifest == {key: value for key, value in manifest.items() if key != "sha256"}
    assert len(log.read_text().splitlines()) == 6
    assert folders(tmp_path / "cache") == [path.name]


def test_a_folder_renamed_to_another_store_is_not_believed(tmp_path):
    one, two = prepare(Toy(), tmp_path).path, prepare(Toy(version=2, bad=[5]), tmp_path, skip_bad=True).path
    shutil.rmtree(one)
    two.rename(one)
    assert len(prepare(Toy(), tmp_path)) == 600


# --- processes ----------------------------------------------------------------------------------------------------------------


def start(cache, log, delay):
    return subprocess.Popen([sys.executable, __file__, str(cache), str(log), str(delay)], stderr=subprocess.PIPE, text=True)


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def test_of_several_processes_one_builds(tmp_path):
    cache, log = tmp_path / "cache", tmp_path / "log"
    processes = [start(cache, log, 0.4) for _ in range(3)]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    reads = [line.split() for line in log.read_text().splitlines()]
    assert [int(start) for _, start in reads] == [0, 256, 512]
    assert len({pid for pid, _ in reads}) == 1
    assert sum("another process is preparing 'toy'" in text for text in errors) == 2
    assert len(folders(cache)) == 1


def test_killed_halfway_then_built_anew(tmp_path):
    cache, log = tmp_path / "cache", tmp_path / "log"
    process = start(cache, log, 0.5)
    wait_for(lambda: log.exists() and len(log.read_text().splitlines()) >= 2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [name.startswith(".toy.building-") for name in folders(cache)] == [True]
    store = prepare(Toy(), cache)
    np.testing.assert_array_equal(store.images, Toy().images)
    assert folders(cache) == [store.path.name]


def test_leftovers_are_removed_but_not_those_of_others(tmp_path):
    for name in (".toy.building-1", ".toy.building-2-old", ".toys.building-3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "images.npy").write_bytes(b"half")
    store = prepare(Toy(), tmp_path)
    assert folders(tmp_path) == [".toys.building-3", store.path.name]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("a bug"), OSError(errno.EIO, "disk error")])
def test_whatever_a_source_raises_nothing_half_written_stays(tmp_path, error):
    toy = Toy()
    read = toy.read
    toy.read = lambda start, stop: read(start, stop) if start == 0 else (_ for _ in ()).throw(error)
    with pytest.raises(error if isinstance(error, type) else type(error)):
        prepare(toy, tmp_path)
    assert folders(tmp_path) == []
    assert len(prepare(Toy(), tmp_path)) == 600  # and the lock is free again


def test_a_source_that_gives_wrong_shapes_is_a_bug(tmp_path):
    toy = Toy()
    toy.read = lambda start, stop: Chunk(np.zeros((stop - start, 3, 9, 9), np.uint8))
    with pytest.raises(ValueError, match="not uint8"):
        prepare(toy, tmp_path)
    assert folders(tmp_path) == []


# --- disks --------------------------------------------------------------------------------------------------------------------


def test_too_little_room_is_seen_before_building(tmp_path, monkeypatch):
    log = tmp_path / "log"
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(ZooError, match=r"needs 1\.2 MB and .* has 0\.0 MB free: .*data\.cache=DIR"):
        prepare(Toy(log=log), tmp_path / "cache")
    assert not log.exists()
    assert folders(tmp_path / "cache") == []


@pytest.mark.parametrize("call", ["os.fsync", "zoo.data.store._write_tables", "zoo.data.store.write_atomically", "zoo.files.sync_folder"])
def test_a_disk_that_fills_up_meanwhile(tmp_path, monkeypatch, call):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(call, full)
    with pytest.raises(ZooError, match=r"needs .* MB .*data\.cache=DIR"):
        prepare(Toy(), tmp_path)
    assert folders(tmp_path) == []


def test_a_disk_that_is_really_full(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    cache.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", cache], capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        toy = Toy(count=4000, image_size=16)  # 3 MB
        with pytest.raises(ZooError, match=r"needs 4\.\d MB and .* has 2\.\d MB free"):
            prepare(toy, cache)
        monkeypatch.setattr(module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**30, 0, 2**30))
        with pytest.raises(ZooError, match="needs"):  # it gets past the estimate and runs into the wall
            prepare(toy, cache)
        assert folders(cache) == []
        assert len(prepare(Toy(), cache)) == 600
    finally:
        subprocess.run(["umount", "-l", cache], check=True)


def test_a_cache_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match=r"cannot write to the cache folder .*data\.cache=DIR"):
        prepare(Toy(), tmp_path / "file")


def test_progress_is_told_without_a_terminal(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(progress, "NOTE_SECONDS", 0.0)
    prepare(Toy(), tmp_path)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("preparing toy: 256 of 600 images")
    assert lines[-1].startswith("preparing toy: 600 of 600 images")


if __name__ == "__main__":  # one of several processes
    built = prepare(Toy(log=sys.argv[2], delay=float(sys.argv[3])), Path(sys.argv[1]))
    assert np.array_equal(built.images, Toy().images)
