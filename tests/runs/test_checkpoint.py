import pickle
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch

import zoo as package
from zoo.errors import ZooError
from zoo.runs import checkpoint
from zoo.runs.layout import FORMAT


def good(**extra):
    return {"state_dict": {"w": torch.arange(4.0)}, "zoo": {"format": FORMAT, "config": {}}} | extra


def test_what_was_saved_is_loaded_and_its_digest_is_sha256sums(tmp_path):
    path = tmp_path / "checkpoints" / "000000000008.ckpt"
    checkpoint.save(good(), path)
    assert torch.equal(checkpoint.load(path)["state_dict"]["w"], torch.arange(4.0))
    checked = subprocess.run(["sha256sum", "-c", path.name + ".sha256"], cwd=path.parent, capture_output=True, check=False)
    assert checked.returncode == 0
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, path.name + ".sha256"]


def test_a_flipped_bit_is_found(tmp_path):
    path = tmp_path / "8.ckpt"
    checkpoint.save(good(), path)
    data = bytearray(path.read_bytes())
    data[data.index(torch.arange(4.0).numpy().tobytes()) + 9] ^= 1  # inside a weight: torch alone would load it
    path.write_bytes(data)
    assert not torch.equal(torch.load(path, weights_only=True)["state_dict"]["w"], torch.arange(4.0))
    with pytest.raises(ZooError, match="damaged"):
        checkpoint.load(path)


@pytest.mark.parametrize("size", [0, 10, 500])
@pytest.mark.parametrize("sidecar", [True, False])
def test_a_truncated_file_is_found_with_and_without_its_digest(tmp_path, size, sidecar):
    path = tmp_path / "8.ckpt"
    checkpoint.save(good(), path)
    path.write_bytes(path.read_bytes()[:size])
    if not sidecar:
        checkpoint.digest_file(path).unlink()
    with pytest.raises(ZooError, match="damaged"):
        checkpoint.load(path)


class Malice:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return (open, (str(self.canary), "w"))


def test_code_is_refused_and_not_run(tmp_path):
    path, canary = tmp_path / "8.ckpt", tmp_path / "canary"
    torch.save(good(evil=Malice(canary)), path)
    with pytest.raises(ZooError, match="code"):
        checkpoint.load(path)
    path.write_bytes(pickle.dumps(Malice(canary)))
    with pytest.raises(ZooError):
        checkpoint.load(path)
    assert not canary.exists()


def test_a_config_inside_a_checkpoint_cannot_call_what_it_likes(tmp_path):
    for target in ("os.system", "zoo.runs.checkpoint.os.system", "zoo.runs.checkpoint.save", "builtins.eval", "zoo.models.vae.nothing"):
        path = tmp_path / "8.ckpt"
        checkpoint.save(
            good(zoo={"format": FORMAT, "config": {"model": {"name": "x", "_target_": target, "inner": {"_target_": "os.getcwd"}}}}), path
        )
        with pytest.raises(ZooError, match="configuration asks for"):
            package.load(path)


def test_files_that_are_no_checkpoints_of_the_zoo(tmp_path):
    with pytest.raises(ZooError, match="no checkpoint"):
        checkpoint.load(tmp_path / "none.ckpt")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.ckpt")
    with pytest.raises(ZooError, match="not written by"):
        checkpoint.load(tmp_path / "other.ckpt")


def test_a_broken_newest_is_named_and_the_one_before_is_used(tmp_path, capsys):
    for images in (8, 16, 100):
        checkpoint.save(good(images=images), tmp_path / "checkpoints" / f"{images:012d}.ckpt")
    newest = tmp_path / "checkpoints" / "000000000100.ckpt"
    newest.write_bytes(newest.read_bytes()[:100])
    path, state = checkpoint.newest_good(tmp_path)
    assert (path.stem, state["images"]) == ("000000000016", 16)
    assert "000000000100.ckpt is damaged" in capsys.readouterr().err


def test_no_good_checkpoint_at_all(tmp_path):
    with pytest.raises(ZooError, match="no checkpoint"):
        checkpoint.newest_good(tmp_path)
    path = tmp_path / "checkpoints" / "000000000008.ckpt"
    checkpoint.save(good(), path)
    path.write_bytes(b"")
    with pytest.raises(ZooError, match="None of the 1 checkpoints"):
        checkpoint.newest_good(tmp_path)


def test_killed_while_saving_the_last_good_one_stays(tmp_path):
    """A writer that saves the same name over and over is killed at random moments; what is there always loads."""
    code = (
        "import sys, torch, itertools; from pathlib import Path; from zoo.runs import checkpoint\n"
        "zoo = {'format': 3, 'config': {}}\n"
        "for i in itertools.count(): checkpoint.save({'state_dict': {'w': torch.full((200_000,), float(i))}, 'zoo': zoo},"
        " Path(sys.argv[1]) / 'checkpoints' / f'{i % 3:012d}.ckpt')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    while len(checkpoint.all_of(tmp_path)) < 3:
        time.sleep(0.01)
    time.sleep(0.21)
    process.send_signal(signal.SIGKILL)
    process.wait()
    loaded = [path for path in checkpoint.all_of(tmp_path) if _loads(path)]
    assert len(loaded) >= 2  # the one that was being replaced may carry the new digest; the others are untouched


def _loads(path):
    try:
        weights = checkpoint.load(path)["state_dict"]["w"]
    except ZooError:
        return False
    assert (weights == weights[0]).all()
    return True


def test_a_write_that_fails_leaves_earlier_checkpoints_and_training_goes_on(tmp_path, capsys):
    """A limit on the size of files stands in for a full disk: the operating system refuses in the middle of the write."""
    writer = checkpoint.SafeCheckpointIO()
    first, second = tmp_path / "1.ckpt", tmp_path / "2.ckpt"
    writer.save_checkpoint(good(), first)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        writer.save_checkpoint(good(weights=torch.zeros(100_000)), second)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert writer.failed is not None
    assert "earlier ones are intact" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix == ".ckpt") == ["1.ckpt"]
    assert not list(tmp_path.glob(".*"))
    assert checkpoint.load(first)


def test_a_flipped_bit_is_found_without_the_digest_too(tmp_path):
    path = tmp_path / "8.ckpt"
    checkpoint.save(good(), path)
    data = bytearray(path.read_bytes())
    data[data.index(torch.arange(4.0).numpy().tobytes()) + 9] ^= 1
    path.write_bytes(data)
    checkpoint.digest_file(path).unlink()
    with pytest.raises(ZooError, match="damaged"):
        checkpoint.load(path)


@pytest.mark.parametrize("hide", [lambda node: (node,), lambda node: [(node,)], lambda node: {"a": ({"b": node},)}])
def test_a_target_hidden_in_a_tuple_is_refused(tmp_path, hide):
    path, canary = tmp_path / "8.ckpt", tmp_path / "canary"
    evil = {"_target_": "logging.FileHandler", "filename": str(canary)}
    model = {"name": "vae", "_target_": "zoo.models.vae.VAE", "latent_dim": 4, "backbone": hide(evil)}
    checkpoint.save(good(zoo={"format": FORMAT, "config": {"model": model, "batch_size": 1}}, global_step=0), path)
    with pytest.raises(ZooError, match=r"logging\.FileHandler"):
        package.load(path)
    assert not canary.exists()


def test_interpolations_in_a_checkpoint_are_refused(tmp_path):
    path = tmp_path / "8.ckpt"
    model = {"name": "vae", "_target_": "zoo.models.vae.VAE", "latent_dim": "${oc.env:HOME}", "backbone": None}
    checkpoint.save(good(zoo={"format": FORMAT, "config": {"model": model, "batch_size": 1}}, global_step=0), path)
    with pytest.raises(ZooError, match="unresolved"):
        package.load(path)


@pytest.mark.parametrize(("about", "number"), [({"config": {}}, 1), ({"format": FORMAT + 1, "config": {}}, FORMAT + 1)])
def test_a_checkpoint_of_another_format_is_refused_by_its_number(tmp_path, about, number):
    checkpoint.save(good(zoo=about), tmp_path / "8.ckpt")
    with pytest.raises(ZooError, match=rf"format {number}, and this version reads format {FORMAT}"):
        checkpoint.load(tmp_path / "8.ckpt")


def test_what_could_not_be_read_again_is_named_at_the_first_checkpoint(tmp_path):
    """As the state of somebody's callback."""
    state = {"state_dict": {}, "zoo": {}, "callbacks": {"Good": {"best": 1.0}, "Mine": {"path": pickle.Pickler}}}
    writer = checkpoint.SafeCheckpointIO()
    with pytest.raises(ZooError, match="the state of the callback Mine holds objects"):
        writer.save_checkpoint(state, tmp_path / "a.ckpt")
    assert list(tmp_path.iterdir()) == []
    del state["callbacks"]["Mine"]
    writer.save_checkpoint(state, tmp_path / "a.ckpt")
    assert (tmp_path / "a.ckpt").exists()
