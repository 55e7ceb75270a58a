"""Pictures of UDT: which faces stand where, that cells are the model's own edits, and what is said to mistakes."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.makers import smooth_image
from tests.test_generate import CELL, SIZE, cell, picture, train, written
from zoo.runs.load import Run, open_run

COUNTS = ["data.source.train=64", "data.source.val=24", "data.source.test=40"]
FACES = ["data=faces", f"data.image_size={SIZE}", *COUNTS, "evaluation.samples=0"]
SEEN = "000000000480"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A UDT of glasses on 64 faces, with 40 to test; trained until different faces look different."""
    options = ["model.attribute_dim=2", "max_images=480", "val_every_images=480", "model.param_groups.autoencoder.lr=5e-3"]
    return train(tmp_path_factory.mktemp("runs") / "udt", "model=udt", *FACES, *options, "model.latent_dim=8")


@pytest.fixture(scope="module")
def opened(run):
    return open_run(run)


@pytest.fixture(scope="module")
def domains(opened):
    """The test images: poor and rich ones, each (N, H, W, 3) uint8."""
    store = opened.data().store
    test = store.indices("test")
    has = store.attributes[test, store.attribute_names.index("Eyeglasses")] == 1
    poor, rich = (store.images[test[which]].transpose(0, 2, 3, 1) for which in (~has, has))
    assert 6 <= len(rich) < len(poor)
    return poor, rich


@pytest.fixture
def photos(tmp_path):
    for seed, name in enumerate("abcd"):
        smooth_image(np.random.default_rng(seed), SIZE, SIZE).save(tmp_path / f"{name}.png")
    return [np.asarray(Image.open(tmp_path / f"{name}.png")) for name in "abcd"]


def is_in(image, images):
    return (images == image).all((1, 2, 3)).any()


def as_input(*images):
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 127.5 - 1


def drawn_as(found, expected):
    """Whether these images (N, H, W, 3) are what the model made, (N, 3, H, W) in [-1, 1]."""
    wanted = ((expected.clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 1).numpy()
    return np.abs(np.stack(found).astype(float) - wanted).max() <= 1


@pytest.mark.parametrize(
    ("arguments", "shape", "name"),
    [
        (["count=4"], (5, 5), "transfer-add-4"),
        (["way=remove", "count=4"], (2, 4), "transfer-remove-4"),
        (["way=swap", "count=2", "seed=1"], (3, 3), "transfer-swap-2"),
        (["way=strength", "count=2"], (2, 9), "transfer-strength+1.5-2-7steps"),
        (["way=interpolation", "steps=3"], (4, 4), "transfer-interpolation-3steps"),
    ],
)
def test_what_is_drawn_and_where_and_the_same_bytes_each_time(zoo, run, tmp_path, arguments, shape, name):
    done = zoo("generate", f"run={run}", "mode=transfer", "out=first", *arguments)
    heading = 18 if "way=strength" in arguments else 0
    assert picture(done, tmp_path).shape == (shape[0] * CELL + 2 + heading, shape[1] * CELL + 2, 3)
    assert list(written(tmp_path / "first")) == [f"{name}-seed{int('seed=1' in arguments)}-{SEEN}.png"]
    assert zoo("generate", f"run={run}", "mode=transfer", "out=second", *arguments).code == 0
    assert written(tmp_path / "first") == written(tmp_path / "second")


@pytest.mark.parametrize("way", ["add", "swap"])
@torch.no_grad()
def test_rows_are_rich_guides_columns_are_targets_and_cells_are_edits(zoo, run, opened, domains, tmp_path, way):
    poor, rich = domains
    grid = picture(zoo("generate", f"run={run}", "mode=transfer", f"way={way}", "count=3", "out=."), tmp_path)
    assert (cell(grid, 0, 0) == 255).all()
    guides, targets = ([cell(grid, *place) for place in places] for places in (((1, 0), (2, 0), (3, 0)), ((0, 1), (0, 2), (0, 3))))
    assert all(is_in(image, rich) for image in guides)
    assert all(is_in(image, poor if way == "add" else rich) for image in targets)
    assert len({image.tobytes() for image in guides + targets}) == 6
    edit = {"add": opened.model.add, "swap": opened.model.swap}[way]
    cells = []
    for row, guide in enumerate(guides):
        expected = edit(as_input(*targets), as_input(guide).expand(3, -1, -1, -1))
        cells.append([cell(grid, 1 + row, 1 + column) for column in range(3)])
        assert drawn_as(cells[-1], expected)
    assert np.abs(cells[0][0].astype(int) - cells[0][1]).max() > 10  # other targets
    assert np.abs(cells[0][0].astype(int) - cells[1][0]).max() > 1  # other guides


@torch.no_grad()
def test_removals_stand_below_their_originals(zoo, run, opened, domains, tmp_path):
    grid = picture(zoo("generate", f"run={run}", "mode=transfer", "way=remove", "count=3", "out=."), tmp_path)
    originals = [cell(grid, 0, column) for column in range(3)]
    assert all(is_in(image, domains[1]) for image in originals)
    assert drawn_as([cell(grid, 1, column) for column in range(3)], opened.model.remove(as_input(*originals)))


@torch.no_grad()
def test_strength_goes_from_none_over_the_guides_own_to_more(zoo, run, opened, domains, tmp_path):
    options = ["way=strength", "strength=2", "steps=3", "count=2"]
    grid = picture(zoo("generate", f"run={run}", "mode=transfer", *options, "out=."), tmp_path)
    targets, guides, none, own, more = ([cell(grid, row, column, top=18) for row in range(2)] for column in range(5))
    assert all(is_in(image, domains[0]) for image in targets)
    assert all(is_in(image, domains[1]) for image in guides)
    model = opened.model
    assert drawn_as(none, model.remove(as_input(*targets)))
    assert drawn_as(own, model.add(as_input(*targets), as_input(*guides)))
    content, attribute = model.content(as_input(*targets)), model.attribute(as_input(*guides))
    assert drawn_as(more, model.decode(torch.cat([content, 2 * attribute], 1)))


@torch.no_grad()
def test_an_interpolation_changes_the_content_across_and_the_attribute_down(zoo, run, opened, domains, tmp_path):
    grid = picture(zoo("generate", f"run={run}", "mode=transfer", "way=interpolation", "steps=3", "out=."), tmp_path)
    targets, guides = [cell(grid, 0, 1), cell(grid, 0, 3)], [cell(grid, 1, 0), cell(grid, 3, 0)]
    assert all(is_in(image, domains[0]) for image in targets)
    assert all(is_in(image, domains[1]) for image in guides)
    assert (cell(grid, 0, 2) == 255).all()
    assert (cell(grid, 2, 0) == 255).all()
    model, (a, b), (c, d) = opened.model, targets, guides
    corners = [cell(grid, row, column) for row in (1, 3) for column in (1, 3)]
    assert drawn_as(corners, model.add(as_input(a, b, a, b), as_input(c, c, d, d)))
    middle = torch.cat([model.content(as_input(a, b)).mean(0), model.attribute(as_input(c, d)).mean(0)])[None]
    assert drawn_as([cell(grid, 2, 2)], model.decode(middle))


def test_own_files_need_no_data(zoo, run, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "data", None)  # whoever opens them fails
    one_guide, two_guides = (["image=[a.png,b.png]", f"guide={files}"] for files in ("c.png", "[c.png,d.png]"))
    for way in ("add", "swap"):
        done = zoo("generate", f"run={run}", "mode=transfer", f"way={way}", *one_guide, "out=.")
        grid = picture(done, tmp_path)
        assert grid.shape == (2 * CELL + 2, 3 * CELL + 2, 3)
        shown = [cell(grid, *place) for place in ((0, 1), (0, 2), (1, 0))]
        np.testing.assert_array_equal(shown, photos[:3])
    grid = picture(zoo("generate", f"run={run}", "mode=transfer", "way=strength", *one_guide, "out=."), tmp_path)
    for row in range(2):
        np.testing.assert_array_equal(cell(grid, row, 0, top=18), photos[row])
        np.testing.assert_array_equal(cell(grid, row, 1, top=18), photos[2])
    assert zoo("generate", f"run={run}", "mode=transfer", "way=interpolation", *two_guides, "out=.").code == 0
    assert zoo("generate", f"run={run}", "mode=transfer", "way=remove", "image=a.png", "out=.").code == 0
    assert sorted(path.stem for path in tmp_path.glob("transfer*")) == [
        f"transfer-add-a-and-1-more-c-{SEEN}",
        f"transfer-interpolation-a-and-1-more-c-and-1-more-9steps-{SEEN}",
        f"transfer-remove-a-{SEEN}",
        f"transfer-strength+1.5-a-and-1-more-c-7steps-{SEEN}",
        f"transfer-swap-a-and-1-more-c-{SEEN}",
    ]


def test_own_targets_get_guides_of_the_test_split_and_own_guides_targets(zoo, run, photos, domains, tmp_path):
    targets = zoo("generate", f"run={run}", "mode=transfer", "image=[a.png,b.png,c.png]", "out=.")
    rows = min(8, len(domains[1]))
    assert targets.out.startswith(f"transfer-add-a-and-2-more-{rows}-seed0-{SEEN}.png")
    grid = picture(targets, tmp_path)
    assert grid.shape == ((rows + 1) * CELL + 2, 4 * CELL + 2, 3)
    assert all(is_in(cell(grid, row, 0), domains[1]) for row in range(1, rows + 1))
    guides = zoo("generate", f"run={run}", "mode=transfer", "guide=[a.png,b.png,c.png]", "count=2", "out=.")
    assert guides.out.startswith(f"transfer-add-a-and-2-more-2-seed0-{SEEN}.png")
    grid = picture(guides, tmp_path)
    assert grid.shape == (3 * CELL + 2, 3 * CELL + 2, 3)
    np.testing.assert_array_equal([cell(grid, row, 0) for row in (1, 2)], photos[:2])


def test_other_seeds_show_other_faces(zoo, run, tmp_path):
    shown = set()
    for seed in range(2):
        grid = picture(zoo("generate", f"run={run}", "mode=transfer", "count=3", f"seed={seed}", "out=."), tmp_path)
        shown |= {cell(grid, *place).tobytes() for k in (1, 2, 3) for place in ((0, k), (k, 0))}
    assert len(shown) == 12


def test_single_images_are_the_cells(zoo, run, tmp_path):
    done = zoo("generate", f"run={run}", "mode=transfer", "count=2", "save_individual=true", "out=.")
    grid = picture(done, tmp_path)
    folder = tmp_path / done.out.splitlines()[1].split("/")[0]
    assert sorted(path.name for path in folder.iterdir()) == [f"{row:05d}-{column:02d}.png" for row in range(2) for column in range(2)]
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "00001-00.png")), cell(grid, 2, 1))


@torch.no_grad()
def test_training_shows_transfers_and_reconstructs_poor_faces_as_poor(run, opened):
    pictures = run / "pictures"
    store = opened.data().store
    val = store.indices("val")
    poor = store.attributes[val, int(opened.model.column)] == 0
    grid = np.asarray(Image.open(pictures / f"transfer-{SEEN}.png"))
    columns, rows = min(8, int(poor.sum())), min(8, int((~poor).sum()))
    assert grid.shape == ((rows + 1) * CELL + 2, (columns + 1) * CELL + 2, 3)
    targets, guides = (store.images[val[which]].transpose(0, 2, 3, 1) for which in (poor, ~poor))
    np.testing.assert_array_equal([cell(grid, 0, 1 + k) for k in range(columns)], targets[:columns])
    np.testing.assert_array_equal([cell(grid, 1 + k, 0) for k in range(rows)], guides[:rows])
    assert drawn_as([cell(grid, 1, 1)], opened.model.add(as_input(targets[0]), as_input(guides[0])))

    grid = np.asarray(Image.open(pictures / f"reconstructions-{SEEN}.png"))
    for column in range(8):
        original = cell(grid, 0, column)
        if is_in(original, targets):
            assert drawn_as([cell(grid, 1, column)], opened.model.remove(as_input(original)))
            break
    else:
        pytest.fail("no poor face among the reconstructions")


CASES = {
    "way=plus": ["way=plus of mode=transfer is not known", "add, remove, swap, strength, interpolation"],
    "way=remove guide=a.png": ["guide=a.png has no meaning for mode=transfer way=remove", "way, count, image"],
    "steps=5": ["steps=5 has no meaning for mode=transfer way=add"],
    "way=interpolation count=2": ["count=2 has no meaning for mode=transfer way=interpolation"],
    "attribute=Smiling": ["attribute=Smiling has no meaning for mode=transfer"],
    "count=33": ["count=33 is more than the 32 that one picture shows; lower it"],
    "count=30": ["30 test images are needed", "lower count, or give image=FILE guide=FILE"],
    "way=strength strength=0": ["strength=0"],
    "way=interpolation image=a.png": ["between 2 targets and between 2 guides, but image= names 1"],
    "way=interpolation guide=[a.png,b.png,c.png]": ["but guide= names 3; name 2"],
    "way=strength image=[a.png,b.png,c.png] guide=[a.png,b.png]": ["There are 2 guides for 3 targets"],
    "guide=gone.png": ["gone.png cannot be read"],
}


@pytest.mark.parametrize("arguments", CASES)
def test_a_mistake_is_one_sentence_and_nothing_is_written(zoo, run, photos, tmp_path, arguments):
    done = zoo("generate", f"run={run}", "mode=transfer", "out=pictures", *arguments.split())
    assert done.code == 2, (done.out, done.err)
    assert len(done.err.strip().splitlines()) == 1
    for part in CASES[arguments]:
        assert part in done.err
    assert not (tmp_path / "pictures").exists()


def test_other_models_have_nothing_to_transfer(zoo, tmp_path):
    other = train(tmp_path / "ae", "model=ae", *FACES, "max_images=8")
    done = zoo("generate", f"run={other}", "mode=transfer")
    assert done.code == 2
    assert done.err.strip().endswith("mode=transfer draws what a run of model=udt makes, but this run's model is AE; name another.")
    assert "way=swap has no meaning for mode=samples" in zoo("generate", f"run={other}", "way=swap").err


def test_a_split_without_the_attribute_has_no_guides(zoo, run, opened, monkeypatch):
    from zoo.generation import figures

    monkeypatch.setattr(figures, "of_domain", lambda request, model, name: np.arange(5 if name == "image" else 0))
    done = zoo("generate", f"run={run}", "mode=transfer")
    assert done.code == 2
    assert "there are 0 to choose from" in done.err
