"""Pictures from a trained run: what lies where, that the same command gives the same bytes, and what is said to mistakes."""

import hashlib
import shutil
import sys
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.makers import smooth_image
from zoo import load
from zoo.batch import Batch
from zoo.generation.grids import image_grids
from zoo.models.ae import AE
from zoo.train import main as start_training
from zoo.viz.tiling import grid_of

INTERPOLATION = "interpolation-2-5steps-seed0-000000000800"
SIZE, CELL = 32, 66  # pixels of an image, and of its place in a picture: enlarged to 64, and the gutter


def train(folder, *overrides):
    small = ["logger=none", "model.latent_dim=4", "model.backbone.width=16", "batch_size=8"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent)
        patch.setattr(sys, "argv", ["zoo.train", *small, *overrides, f"hydra.run.dir={folder}"])
        start_training()
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An AE on 64 faces, with 16 to test; trained until different faces look different."""
    folder = tmp_path_factory.mktemp("runs") / "faces"
    counts = ["data.source.train=64", "data.source.val=8", "data.source.test=16"]
    return train(folder, "model=ae", "data=faces", f"data.image_size={SIZE}", *counts, "max_images=800", "optimizer.lr=5e-3")


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory, digits):
    """An AE on 36 digits, with 12 to test."""
    return train(tmp_path_factory.mktemp("runs") / "digits", "model=ae", "data=mnist", f"data.root={digits}", "max_images=64")


@pytest.fixture
def photos(tmp_path):
    """Four pictures of different shapes."""
    (tmp_path / "photos").mkdir()
    shapes = {"a.png": (40, 50), "b.jpg": (64, 64), "c.png": (100, 60), "d.png": (32, 32)}
    for seed, (name, shape) in enumerate(shapes.items()):
        smooth_image(np.random.default_rng(seed), *shape).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def written(folder):
    """Every file below, with its sha256."""
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def picture(done, tmp_path):
    """The picture that is named first on stdout, as (H, W, 3)."""
    assert done.code == 0, done.err
    return np.asarray(Image.open(tmp_path / done.out.split(":")[0]))


def cell(grid, row, column, top=0, left=0):
    """One image of a picture, at the model's own size."""
    y, x = top + 2 + CELL * row, left + 2 + CELL * column
    return grid[y : y + 64 : 2, x : x + 64 : 2]


@pytest.mark.parametrize(
    ("arguments", "shape", "names"),
    [
        ([], (8, 8), ["samples-64-seed0-000000000800.png"]),
        (["count=10", "prior=gaussian", "seed=3"], (2, 5), ["samples-gaussian-10-seed3-000000000800.png"]),
        (["mode=reconstructions"], (4, 8), ["reconstructions-16-seed0-000000000800.png"]),
        (["mode=reconstructions", "count=3"], (2, 3), ["reconstructions-3-seed0-000000000800.png"]),
        (
            ["mode=interpolation", "count=2", "steps=5"],
            (2, 7),
            [f"{INTERPOLATION}.gif", f"{INTERPOLATION}.png"],
        ),
        (["mode=grid"], (9, 9), ["grid-9steps-seed0-000000000800.png"]),
        (["attribute=Smiling", "count=2"], (2, 8), ["attribute-Smiling+1.5-2-7steps-seed0-000000000800.png"]),
        (["attribute=Smiling", "count=2", "strength=-1"], (2, 8), ["attribute-Smiling-1-2-7steps-seed0-000000000800.png"]),
    ],
)
def test_what_is_drawn_and_where_and_the_same_bytes_each_time(zoo, run, tmp_path, arguments, shape, names):
    done = zoo("generate", f"run={run}", "out=first", *arguments)
    grid = picture(done, tmp_path)
    heading = 18 if "attribute" in names[0] else 0
    assert grid.shape == (shape[0] * CELL + 2 + heading, shape[1] * CELL + 2, 3)
    assert sorted(written(tmp_path / "first")) == names
    assert [line.split(":")[0] for line in done.out.splitlines()] == sorted((f"first/{name}" for name in names), reverse=True)
    assert zoo("generate", f"run={run}", "out=second", *arguments).code == 0
    assert written(tmp_path / "first") == written(tmp_path / "second")


def test_samples_are_those_of_the_loaded_model(zoo, run, tmp_path):
    model = load(run)
    with torch.no_grad():
        nothing = Batch(torch.zeros(0, 3, SIZE, SIZE), torch.zeros(0, 0), torch.zeros(0))
        expected = image_grids(model, nothing, nothing)["samples"]
    np.testing.assert_array_equal(picture(zoo("generate", f"run={run}", "out=."), tmp_path), expected.permute(1, 2, 0).numpy())
    assert zoo("generate", f"run={run}", "out=.", "seed=1").code == 0
    assert len(set(written(tmp_path).values())) == 2


def test_a_fitted_prior_replaces_the_models_own(zoo, run, tmp_path):
    own, fitted = (picture(zoo("generate", f"run={run}", "out=.", "count=4", *more), tmp_path) for more in ([], ["prior=mixture"]))
    assert not np.array_equal(own, fitted)


def test_reconstructions_of_files_are_those_of_their_decoded_squares(zoo, run, photos, tmp_path):
    grid = picture(zoo("generate", f"run={run}", "mode=reconstructions", "image=photos/c.png", "out=."), tmp_path)
    square = Image.open(photos / "c.png").crop((20, 0, 80, 60)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(cell(grid, 0, 0), np.asarray(square))
    image = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        expected = grid_of(load(run).reconstruct(image), 1).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(cell(grid, 1, 0).astype(int), cell(expected, 0, 0).astype(int), atol=1)


def test_interpolation_between_two_files_and_grid_between_four(zoo, run, photos, tmp_path):
    files = ["photos/b.jpg", "photos/d.png"]
    grid = picture(zoo("generate", f"run={run}", "mode=interpolation", f"image=[{','.join(files)}]", "out=."), tmp_path)
    assert grid.shape == (CELL + 2, 13 * CELL + 2, 3)
    np.testing.assert_array_equal(cell(grid, 0, 12), np.asarray(Image.open(photos / "d.png")))
    pairs = picture(zoo("generate", f"run={run}", "mode=reconstructions", f"image=[{','.join(files)}]", "out=."), tmp_path)
    np.testing.assert_array_equal(cell(grid, 0, 0), cell(pairs, 0, 0))
    np.testing.assert_allclose(cell(grid, 0, 1).astype(int), cell(pairs, 1, 0).astype(int), atol=1)
    np.testing.assert_allclose(cell(grid, 0, 11).astype(int), cell(pairs, 1, 1).astype(int), atol=1)

    square = picture(zoo("generate", f"run={run}", "mode=grid", "image=photos", "steps=3", "out=."), tmp_path)
    four = picture(zoo("generate", f"run={run}", "mode=reconstructions", "image=photos", "out=."), tmp_path)
    for k, corner in enumerate(((0, 0), (0, 2), (2, 0), (2, 2))):
        np.testing.assert_allclose(cell(square, *corner).astype(int), cell(four, 1, k).astype(int), atol=1)


def test_the_animation_shows_all_rows_and_ends_where_the_rows_end(zoo, run, tmp_path):
    done = zoo("generate", f"run={run}", "mode=interpolation", "count=2", "out=.")
    grid = picture(done, tmp_path)
    film = Image.open(tmp_path / done.out.splitlines()[1].split(":")[0])
    assert film.n_frames == 60
    assert film.info["loop"] == 0
    for frame, column in ((0, 1), (30, 11)):  # column 0 and 12 are the originals
        film.seek(frame)
        shown = np.asarray(film.convert("RGB"))
        for row in range(2):
            assert np.abs(cell(shown, 0, row).astype(int) - cell(grid, row, column)).mean() < 4


def test_attribute_rows_start_from_images_that_lack_it_and_go_along_its_vector(zoo, run, tmp_path):
    from zoo.evaluation.context import EvalContext
    from zoo.metrics.edits import attribute_vectors
    from zoo.runs.load import open_run

    opened = open_run(run)
    store, model = opened.data().store, opened.model
    column = store.attribute_names.index("Smiling")
    test = store.indices("test")
    for strength, has in ((2, 0), (-2, 1)):
        count = int((store.attributes[test, column] == has).sum())
        grid = picture(zoo("generate", f"run={run}", "attribute=Smiling", f"strength={strength}", f"count={count}", "out=."), tmp_path)
        expected = store.images[test[store.attributes[test, column] == has]].transpose(0, 2, 3, 1)
        np.testing.assert_array_equal([cell(grid, row, 0, top=18) for row in range(count)], expected)
        with torch.no_grad():
            codes = EvalContext(model, store).codes("train")
            vector = attribute_vectors(codes.latents, codes.attributes)[column]
            first = torch.from_numpy(expected[:1].copy()).permute(0, 3, 1, 2) / 127.5 - 1
            ends = grid_of(model.decode(torch.cat([model.encode(first) + t * vector for t in (0, strength)])), 2).permute(1, 2, 0).numpy()
        assert np.abs(cell(ends, 0, 0).astype(int) - cell(ends, 0, 1)).max() > 10
        for k, place in enumerate((1, 7)):
            np.testing.assert_allclose(cell(grid, 0, place, top=18).astype(int), cell(ends, 0, k).astype(int), atol=1)


def test_one_image_along_all_attributes(zoo, run, photos, tmp_path):
    from zoo.runs.load import open_run

    store = open_run(run).data().store
    varied = int((np.ptp(store.attributes[store.indices("train")], axis=0) > 0).sum())
    grid = picture(zoo("generate", f"run={run}", "attribute=all", "image=photos/d.png", "steps=3", "out=."), tmp_path)
    left = grid.shape[1] - (4 * CELL + 2)
    assert grid.shape[0] == varied * CELL + 2 + 18
    assert left > 60  # names of attributes
    for row in range(varied):
        np.testing.assert_array_equal(cell(grid, row, 0, 18, left), np.asarray(Image.open(photos / "d.png")))
        np.testing.assert_array_equal(cell(grid, row, 2, 18, left), cell(grid, 0, 2, 18, left))  # strength 0: the reconstruction


def test_classes_are_attributes_too_and_small_digits_are_enlarged(zoo, digits_run, tmp_path):
    grid = picture(zoo("generate", f"run={digits_run}", "attribute=7", "count=2", "out=."), tmp_path)
    assert grid.shape == (18 + 2 + 2 * 58, 2 + 8 * 58, 3)
    assert (grid[18:] == grid[18:, :, :1]).all()


def test_by_default_as_many_rows_are_drawn_as_the_split_has(zoo, digits_run, tmp_path):
    done = zoo("generate", f"run={digits_run}", "mode=interpolation", "steps=2", "out=.")
    assert picture(done, tmp_path).shape == (2 + 6 * 58, 2 + 4 * 58, 3)  # 12 images to test make 6 pairs
    assert done.out.startswith("interpolation-6-2steps-seed0")
    assert zoo("generate", f"run={digits_run}", "mode=interpolation", "count=7", "out=.").code == 2


def test_other_seeds_show_other_test_images(zoo, run, tmp_path):
    shown = []
    for seed in range(4):
        grid = picture(zoo("generate", f"run={run}", "mode=reconstructions", "count=4", f"seed={seed}", "out=."), tmp_path)
        shown += [cell(grid, 0, k).tobytes() for k in range(4)]
    assert len(set(shown)) == 16  # all of the split


def test_single_images_hold_the_models_own_pixels(zoo, run, digits_run, tmp_path):
    done = zoo("generate", f"run={run}", "count=5", "save_individual=true", "out=.")
    grid = picture(done, tmp_path)
    folder = tmp_path / done.out.splitlines()[1].split("/")[0]
    assert sorted(path.name for path in folder.iterdir()) == [f"{k:05d}.png" for k in range(5)]
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "00003.png")), cell(grid, 0, 3))
    assert zoo("generate", f"run={digits_run}", "mode=reconstructions", "count=2", "save_individual=true", "out=digits").code == 0
    names = sorted(path.name for path in (tmp_path / "digits").glob("*/*.png"))
    assert names == [f"{k:05d}-{name}.png" for k in range(2) for name in ("original", "reconstruction")]
    assert Image.open(next((tmp_path / "digits").glob("*/00000-original.png"))).mode == "L"


def test_more_samples_than_a_picture_holds_become_files(zoo, run, tmp_path, monkeypatch):
    for module in ("zoo.generate", "zoo.generation.figures", "zoo.generation.options"):
        monkeypatch.setattr(f"{module}.SHOWN", 4)
    refused = zoo("generate", f"run={run}", "count=6", "out=.")
    assert refused.code == 2
    assert "save_individual=true" in refused.err
    done = zoo("generate", f"run={run}", "count=6", "save_individual=true", "out=.")
    assert picture(done, tmp_path).shape == (2 * CELL + 2, 2 * CELL + 2, 3)
    assert "the first 4 of 6" in done.out
    assert len(list(tmp_path.glob("*/*.png"))) == 6


def test_size_is_in_pixels_of_the_picture(zoo, run, tmp_path):
    assert picture(zoo("generate", f"run={run}", "count=4", "size=128", "out=."), tmp_path).shape == (2 * 130 + 2, 2 * 130 + 2, 3)
    assert picture(zoo("generate", f"run={run}", "count=4", "size=32", "out=."), tmp_path).shape == (2 * 34 + 2, 2 * 34 + 2, 3)


def test_no_picture_takes_the_place_of_another(zoo, run, photos, tmp_path):
    command = ["generate", f"run={run}", "mode=reconstructions", "image=photos/a.png", "out=."]
    assert zoo(*command).code == 0
    before = written(tmp_path)
    shutil.copy(photos / "d.png", photos / "a.png")  # another picture under the same name
    done = zoo(*command)
    assert "reconstructions-a-000000000800-2.png" in done.out
    after = written(tmp_path)
    assert set(after) - set(before) == {"reconstructions-a-000000000800-2.png"}
    assert all(after[name] == before[name] for name in before if not name.startswith("photos"))
    assert zoo(*command).code == 0
    assert written(tmp_path) == after  # the same command, the same file


def test_a_checkpoint_without_its_run_is_enough(zoo, run, tmp_path):
    checkpoint = tmp_path / "model.ckpt"
    shutil.copy(run / "checkpoints" / "000000000800.ckpt", checkpoint)
    done = zoo("generate", f"run={checkpoint}")
    assert done.out.startswith("generated/samples-64-seed0-000000000800.png")
    assert written(tmp_path / "generated").popitem()[1] == written_by(zoo, run, tmp_path)


def written_by(zoo, run, tmp_path):
    assert zoo("generate", f"run={run}", "out=other").code == 0
    return written(tmp_path / "other").popitem()[1]


def test_latest_is_the_newest_run_below_runs(zoo, run, tmp_path):
    shutil.copytree(run, tmp_path / "runs" / "2026-01-01" / "10-00-00-vae-faces", ignore=shutil.ignore_patterns("generated"))
    done = zoo("generate", "run=latest", "count=1")
    assert done.out.startswith("runs/2026-01-01/10-00-00-vae-faces/generated/samples-1-seed0")


def test_data_that_have_moved_are_named(zoo, digits_run, digits, tmp_path, monkeypatch):
    moved = tmp_path / "moved"
    shutil.copytree(digits, moved)
    run = tmp_path / "run"
    shutil.copytree(digits_run, run)
    state = torch.load(next((run / "checkpoints").glob("*.ckpt")), weights_only=True)
    state["zoo"]["config"]["data"]["source"]["root"] = "/nowhere"
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").mkdir()
    torch.save(state, run / "checkpoints" / "000000000064.ckpt")
    refused = zoo("generate", f"run={run}", "mode=reconstructions", "out=.")
    assert refused.code == 2
    for part in ("/nowhere", "data_root=DIR", "image=FILE"):
        assert part in refused.err
    assert "data.root" not in refused.err
    refused = zoo("generate", f"run={run}", "attribute=7", "out=.")
    assert "data_root=DIR" in refused.err
    assert "image=FILE" not in refused.err  # it would not help: the vector is made of training images
    assert zoo("generate", f"run={run}", "mode=reconstructions", f"data_root={moved}", "count=2", "out=.").code == 0
    assert zoo("generate", f"run={run}", "out=.").code == 0  # samples need no data


CASES = {
    "run=nowhere": ["run=nowhere does not exist"],
    "run=empty": ["has no checkpoint"],
    "run=latest": ["run=latest found no run"],
    "mode=sample": ["mode=sample cannot be drawn", "samples, reconstructions, interpolation, grid, attribute"],
    "mode=attribute": ["needs the name of one", "attribute=NAME"],
    "attribute=Smilling": ["no attribute 'Smilling'", "did you mean 'Smiling'"],
    "attribute=Smiling strength=much": ["strength=much", "number"],
    "attribute=Smiling strength=0": ["strength=0"],
    "attribute=Smiling strength=nan": ["strength=nan"],
    "attribute=Smiling count=17": ["17 test images", "lower count"],
    "attribute=all count=2": ["count=2 has no meaning for attribute=all"],
    "mode=grid attribute=Smiling": ["attribute=Smiling has no meaning for mode=grid", "steps, image"],
    "strength=2": ["strength=2 has no meaning for mode=samples"],
    "image=photos/a.png": ["image=photos/a.png has no meaning for mode=samples"],
    "mode=reconstructions prior=gaussian": ["prior=gaussian has no meaning"],
    "count=0": ["count=0", "at least 1"],
    "count=many": ["count=many", "whole number"],
    "mode=reconstructions count=17": ["17 test images are needed", "16"],
    "mode=grid steps=1": ["steps=1", "at least 2"],
    "seed=-1": ["seed=-1"],
    "save_individual=maybe": ["save_individual=maybe", "true or false"],
    "size=40": ["size=40", "32"],
    "size=0": ["size=0"],
    "prior=normal": ["prior=normal is not known", "gaussian, mixture, flow"],
    "device=tpu": ["device=tpu", "auto, cpu or cuda"],
    "data_root=. mode=grid": ["data_root=. cannot be given", "'faces' are made by the program"],
    "mode=grid image=photos/a.png": ["made from 4 image files, but image= names 1"],
    "mode=interpolation image=photos/a.png": ["pairs of image files, but image= names 1"],
    "attribute=all image=photos": ["made from one image file, but image= names 4"],
    "mode=reconstructions image=bad.png": ["bad.png cannot be used (not an image)"],
    "mode=reconstructions image=gone.png": ["gone.png cannot be read"],
    "out=bad.png": ["out=bad.png is a file"],
    "out=/dev/null/x": ["/dev/null"],
    "cuont=3": ["no setting 'cuont'", "did you mean 'count'"],
}


@pytest.mark.parametrize("arguments", CASES)
def test_a_mistake_is_one_sentence_and_nothing_is_written(zoo, run, photos, tmp_path, arguments):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "empty").mkdir()
    given = arguments.split()
    which = [] if given[0].startswith("run=") else [f"run={run}"]
    where = [] if given[0].startswith("out=") else ["out=pictures"]
    done = zoo("generate", *which, *where, *given)
    assert done.code == 2, (done.out, done.err)
    assert len(done.err.strip().splitlines()) == 1
    for part in CASES[arguments]:
        assert part in done.err
    assert not (tmp_path / "pictures").exists()
    assert done.out == ""


def test_a_run_must_be_named(zoo):
    done = zoo("generate")
    assert done.code == 2
    assert "give run=…" in done.err


def test_what_a_model_cannot_do_is_said(zoo, run, monkeypatch):
    monkeypatch.setattr(AE, "can_encode", False)
    for arguments in (["mode=reconstructions"], ["attribute=Smiling"], ["prior=gaussian"]):
        done = zoo("generate", f"run={run}", *arguments)
        assert done.code == 2
        assert "AE cannot encode images" in done.err
    assert zoo("generate", f"run={run}", "count=1", "out=.").code == 0


def test_priors_are_not_fitted_to_large_latents(zoo, run, monkeypatch):
    monkeypatch.setattr("zoo.generation.figures.LARGEST_LATENT", 3)
    done = zoo("generate", f"run={run}", "prior=mixture")
    assert done.code == 2
    assert "prior=mixture cannot be fitted to 4 latent dimensions" in done.err


def test_data_without_attributes_have_no_vectors(zoo, tmp_path):
    (tmp_path / "images").mkdir()
    for k in range(30):
        smooth_image(np.random.default_rng(k), 32, 32).save(tmp_path / "images" / f"{k}.png")
    run = train(tmp_path / "run", "data=folder", f"data.root={tmp_path / 'images'}", f"data.image_size={SIZE}", "max_images=8")
    done = zoo("generate", f"run={run}", "attribute=Smiling")
    assert done.code == 2
    assert "have no attributes" in done.err


def test_pictures_are_whole_files(zoo, run, tmp_path):
    assert zoo("generate", f"run={run}", "mode=interpolation", "count=1", "out=.").code == 0
    for path in tmp_path.glob("interpolation*"):
        Image.open(BytesIO(path.read_bytes())).load()
        assert path.stat().st_size < 2_000_000
    assert not list(tmp_path.glob(".*"))
