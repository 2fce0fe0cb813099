import pytest
import torch

from zoo.data.mix import Mix

IMAGES = torch.arange(4 * 3 * 8 * 8, dtype=torch.float32).view(4, 3, 8, 8)
TARGETS = torch.tensor([0, 1, 2, 0])


def test_off_gives_back_the_arguments() -> None:
    images, targets = Mix(0, 0, 3)(IMAGES, TARGETS, 7)
    assert images is IMAGES
    assert targets is TARGETS


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0), (0, 1.0), (0.8, 1.0)])
def test_a_pure_function_of_the_seed(mixup: float, cutmix: float) -> None:
    mix = Mix(mixup, cutmix, 3)
    before = torch.get_rng_state()
    images, targets = mix(IMAGES, TARGETS, 7)
    again = mix(IMAGES, TARGETS, 7)
    other = mix(IMAGES, TARGETS, 8)
    assert torch.equal(images, again[0])
    assert torch.equal(targets, again[1])
    assert not torch.equal(targets, other[1])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0), (0, 1.0)])
def test_probabilities_sum_to_one_over_the_pairs_classes(mixup: float, cutmix: float) -> None:
    _, targets = Mix(mixup, cutmix, 3)(IMAGES, TARGETS, 1)
    assert targets.shape == (4, 3)
    assert targets.dtype == torch.float32
    torch.testing.assert_close(targets.sum(1), torch.ones(4))
    assert targets[3, 1] == 0


def test_mixup_mixes_images_as_it_mixes_targets() -> None:
    images, targets = Mix(1.0, 0, 3)(IMAGES, TARGETS, 1)
    share = targets[1, 1]
    torch.testing.assert_close(images[1], share * IMAGES[1] + (1 - share) * IMAGES[0])


def test_with_both_on_each_has_its_turn() -> None:
    mix = Mix(1.0, 1.0, 3)
    cut = [bool(torch.isin(mix(IMAGES, TARGETS, seed)[0], IMAGES).all()) for seed in range(20)]
    assert 0 < sum(cut) < 20
