"""From source images to a trained model, and what is said when the images are not what they should be."""

import numpy as np
import pytest
import torch
from PIL import Image

import zoo as package
from tests.data.makers import make_celeba

NET = ["model.backbone.width=16", "model.latent_dim=4", "batch_size=8", "max_images=32", "logger=none"]


def test_exported_faces_go_from_jpeg_to_samples(zoo, tmp_path):
    counts = ["data.source.train=24", "data.source.val=8", "data.source.test=8"]
    exported = zoo("prepare", "data=faces", *counts, "export=faces")
    assert exported.code == 0, exported.err
    assert "data=celeba data.root=faces" in exported.out
    assert Image.open(tmp_path / "faces" / "img_align_celeba" / "000001.jpg").size == (178, 218)
    trained = zoo("train", "data=celeba", "data.root=faces", *NET, "hydra.run.dir=run")
    assert trained.code == 0, trained.err
    assert package.load(tmp_path / "run").sample(2, torch.Generator().manual_seed(0)).shape == (2, 3, 64, 64)
    again = zoo("prepare", "data=faces", *counts, "export=faces")
    assert again.code == 2  # a folder that is not empty is not written into
    assert len(again.err.strip().splitlines()) == 1


def spoil(folder):
    """Damages five images in five ways; returns their names with a word of the reason that must be given."""
    names = sorted(path.name for path in folder.glob("*.jpg"))
    whole = (folder / names[0]).read_bytes()
    (folder / names[0]).write_bytes(whole[: len(whole) // 2])
    (folder / names[1]).write_bytes(b"")
    (folder / names[2]).write_text("<html>quota exceeded</html>")
    Image.open(folder / names[3]).convert("L").save(folder / names[3])
    Image.open(folder / names[4]).convert("CMYK").save(folder / names[4])
    Image.open(folder / names[5]).convert("RGBA").save(folder / names[5], format="PNG")
    return dict(zip(names[:6], ("truncated", "empty", "not an image", "L", "CMYK", "RGBA"), strict=True))


def test_all_bad_images_are_listed_and_nothing_is_kept(zoo, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    make_celeba(tmp_path / "celeba", 40)
    bad = spoil(tmp_path / "celeba" / "img_align_celeba")
    refused = zoo("prepare", "data=celeba", "data.root=celeba")
    assert refused.code == 2
    assert "Traceback" not in refused.err
    assert "data.skip_bad=true" in refused.err
    for name, reason in bad.items():
        assert f"{name}" in refused.err
        assert reason in refused.err
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_skip_bad_drops_image_and_attributes_together(zoo, tmp_path, monkeypatch):
    from zoo.data.celeba import CelebA
    from zoo.data.store import prepare

    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    make_celeba(tmp_path / "celeba", 40)
    source = CelebA(tmp_path / "celeba")
    before = dict(zip(source.scan().names, source.scan().attributes, strict=True))
    bad = spoil(tmp_path / "celeba" / "img_align_celeba")
    kept = zoo("prepare", "data=celeba", "data.root=celeba", "data.skip_bad=true")
    assert kept.code == 0, kept.err
    assert "34 images" in kept.out
    store = prepare(CelebA(tmp_path / "celeba"), tmp_path / "cache", skip_bad=True)
    assert set(store.names) == set(before) - set(bad)
    assert set(store.manifest["dropped"]) == set(bad)
    for name, attributes in zip(store.names, store.attributes, strict=True):
        np.testing.assert_array_equal(attributes, before[name])


@pytest.mark.parametrize("command", ["prepare", "train"])
def test_a_damaged_store_is_refused_and_named(zoo, digits, tmp_path, monkeypatch, command):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    assert zoo("prepare", "data=mnist", f"data.root={digits}").code == 0
    images = next((tmp_path / "cache").rglob("images.npy"))
    data = bytearray(images.read_bytes())
    data[-1] ^= 1
    images.write_bytes(data)
    refused = zoo(command, "data=mnist", f"data.root={digits}", *(NET if command == "train" else []))
    assert refused.code == 2
    assert str(images) in refused.err
    assert len(refused.err.strip().splitlines()) == 1


def test_a_partial_copy_is_usable_when_asked_for(zoo, tmp_path):
    make_celeba(tmp_path / "celeba", 40)
    names = sorted((tmp_path / "celeba" / "img_align_celeba").glob("*.jpg"))
    names[3].unlink()
    refused = zoo("prepare", "data=celeba", "data.root=celeba")
    assert refused.code == 2
    assert names[3].name in refused.err
    assert "data.partial=true" in refused.err
    assert "39 images" in zoo("prepare", "data=celeba", "data.root=celeba", "data.partial=true").out
