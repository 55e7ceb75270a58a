import pytest
import torch

from zoo.metrics.edits import attribute_vectors


def test_mean_with_minus_mean_without():
    latents = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 10.0], [0.0, 2.0]])
    attributes = torch.tensor([[1, 0], [1, 0], [0, 1], [0, 0]], dtype=torch.uint8)
    torch.testing.assert_close(attribute_vectors(latents, attributes), torch.tensor([[2.0, -6.0], [-4 / 3, 28 / 3]]))


def test_a_planted_direction_is_found_and_a_shift_of_all_latents_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    attributes = torch.randint(0, 2, (20_000, 3), generator=generator)
    directions = torch.randn(3, 8, generator=generator)
    latents = torch.randn(20_000, 8, generator=generator) + attributes.float() @ directions
    found = attribute_vectors(latents, attributes)
    torch.testing.assert_close(found, directions, atol=0.1, rtol=0)
    torch.testing.assert_close(attribute_vectors(latents.double() + 5, attributes), attribute_vectors(latents.double(), attributes))


def test_removing_is_the_opposite_of_adding():
    latents, attributes = torch.randn(50, 4), torch.arange(100).view(50, 2) % 3 == 0
    torch.testing.assert_close(attribute_vectors(latents, ~attributes), -attribute_vectors(latents, attributes))


def test_sums_do_not_lose_small_differences():
    # In float32 a sum of 10,000 values near 1000 is a multiple of 1, so its mean is off by up to 1e-4 and more.
    attributes = (torch.arange(20_000) % 2)[:, None]
    latents = 1000 + attributes.float() / 1024
    assert attribute_vectors(latents, attributes).item() == 1 / 1024


def test_an_attribute_with_one_value_has_no_vector():
    latents = torch.rand(7, 3) + 0.1
    attributes = torch.tensor([[1, 0, k % 2] for k in range(7)])
    vectors = attribute_vectors(latents, attributes)
    assert vectors[:2].isnan().all()
    assert vectors[2].isfinite().all()


def test_images_and_attributes_must_be_paired():
    with pytest.raises(ValueError, match=r"\(N, d\)"):
        attribute_vectors(torch.zeros(4, 2), torch.zeros(3, 2))
