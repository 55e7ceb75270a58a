import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.evaluation.numbers import evaluate
from zoo.batch import Batch
from zoo.data.faces.dataset import Faces
from zoo.data.store import prepare
from zoo.evaluation.context import EvalContext
from zoo.evaluation.samples import LARGEST_LATENT
from zoo.metrics.images import laplacian_energy
from zoo.models.base import Autoencoder
from zoo.priors import Prior

COUNT = 32


class Altered(Autoencoder):
    """Draws and reconstructs the images of a split, changed by a function."""

    def __init__(self, store, change):
        latent_dim = LARGEST_LATENT + 1  # so that no other prior is fitted
        super().__init__((3, 32, 32), latent_dim, prior=Positions(latent_dim))
        self.images = torch.from_numpy(store.images[store.indices("test")]).float() / 127.5 - 1
        self.change = change

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        raise AssertionError

    def reconstruct(self, image: Tensor, attributes: Tensor | None = None) -> Tensor:
        return self.change(image)

    def decode(self, latent: Tensor) -> Tensor:
        return self.change(self.images[latent[:, 0].long()])


class Positions(Prior):
    """0, 1, 2, …"""

    name = "positions"
    needs_fit = False

    def sample(self, count, generator=None):
        return torch.arange(count)[:, None].expand(-1, self.dim)

    def log_prob(self, latents):
        raise AssertionError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return prepare(Faces(image_size=32, train=COUNT, val=COUNT, test=COUNT), tmp_path_factory.mktemp("faces"))


def test_hand_computed_energies():
    image = torch.full((1, 1, 3, 4), -1.0)
    image[0, 0, 1, 1] = 1  # black and white: the Laplacian of the 2 inner pixels is -4 and 1
    assert laplacian_energy(image).tolist() == [(16 + 1) / 2]
    assert laplacian_energy(torch.cat([image, -image], 1)).tolist() == [(16 + 1) / 2]  # channels do not mix
    assert laplacian_energy(torch.cat([image, image / 2])).tolist() == [8.5, 2.125]  # squared: half the contrast, a quarter


def test_flat_and_evenly_rising_images_have_none():
    rising = torch.arange(8.0)[None, None, :, None] / 8 + torch.arange(8.0) / 16 - 0.7
    torch.testing.assert_close(laplacian_energy(rising), torch.zeros(1), rtol=0, atol=1e-12)
    assert laplacian_energy(torch.full((2, 3, 5, 5), 0.3)).tolist() == [0, 0]


def test_independent_noise_has_twenty_times_its_variance():
    """The kernel's squares sum to 4·1² + 4² = 20; on [0, 1] the variance is a quarter."""
    noise = 0.1 * torch.randn(1, 1, 512, 512, generator=torch.Generator().manual_seed(0))
    assert laplacian_energy(noise).item() == pytest.approx(20 * 0.01 / 4, rel=0.02)


def test_values_beyond_the_range_are_clamped():
    image = torch.randn(2, 3, 6, 6).sign()
    assert torch.equal(laplacian_energy(3 * image), laplacian_energy(image))


def blurred(image: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1)


def noisy(image: Tensor) -> Tensor:
    return image + 0.2 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
@pytest.mark.parametrize(("change", "least", "most"), [(torch.clone, 1 - 1e-5, 1 + 1e-5), (blurred, 0.01, 0.5), (noisy, 2, 100)])
def test_samples_and_reconstructions_in_relation_to_the_data(store, change, least, most):
    model = Altered(store, change).eval()
    numbers = evaluate(EvalContext(model, store), ["laplacian_energy_ratio"])  # without a features network
    assert set(numbers) == {f"samples/positions/laplacian_energy_ratio@{COUNT}", f"reconstructions/laplacian_energy_ratio@{COUNT}"}
    assert all(least <= value <= most for value in numbers.values())


@torch.no_grad()
def test_the_ratio_is_of_mean_energies_of_quantised_images(store):
    model = Altered(store, blurred).eval()
    shown = (blurred(model.images).clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1
    expected = laplacian_energy(shown).mean() / laplacian_energy(model.images).mean()
    found = evaluate(EvalContext(model, store), ["laplacian_energy_ratio"])
    assert found[f"samples/positions/laplacian_energy_ratio@{COUNT}"] == pytest.approx(expected.item(), rel=1e-5)
    assert found[f"reconstructions/laplacian_energy_ratio@{COUNT}"] == pytest.approx(expected.item(), rel=1e-5)


@torch.no_grad()
def test_data_without_any_detail_have_no_ratio(store):
    context = EvalContext(Altered(store, torch.clone).eval(), store)
    context.once("laplacian energy", lambda: torch.zeros((), dtype=torch.float64))
    assert not any("laplacian" in name for name in evaluate(context, ["laplacian_energy_ratio"]))
    assert f"reconstructions/laplacian_energy_ratio@{COUNT} is not defined here." in context.notes
