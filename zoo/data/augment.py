"""Random changes to training images, by name.

Their defaults are torchvision's reference training's (its repository's references/classification). All
randomness is drawn from torch's default CPU generator, so that seeding it makes an augmentation a pure function.
"""

from collections.abc import Callable

from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from zoo.data.images import to_rgb
from zoo.data.preprocess import ON_TENSORS, Preprocess
from zoo.errors import DataError, nearest
from zoo.registry.contracts import InputSpec

Augmentation = Callable[[Image.Image], Tensor]
"""An image of any mode → uint8 (3, H, W). Picklable, for loader processes."""

SCALE = (0.08, 1.0)
"""Share of the image's area that a random crop keeps (Szegedy et al. 2015; torchvision's default)."""
RATIO = (3 / 4, 4 / 3)
"""Aspect ratio of a random crop, width over height."""
FLIPPED = 0.5
"""Probability of a horizontal flip."""
OPERATIONS, MAGNITUDE = 2, 9
"""RandAugment: how many operations an image, and how strong, of 31 steps (Cubuk et al. 2019)."""

PRESETS = ("none", "flip", "standard", "randaugment", "trivial")


def augmentation(name: str, spec: InputSpec) -> Augmentation:
    """Return the augmentation to the size of `spec`.

    none: `Preprocess.shape`. flip: that, and a horizontal flip. standard: random resized crop and flip. randaugment,
    trivial: standard, then RandAugment, or TrivialAugment wide (Müller and Hutter 2021). DataError: another name.
    """
    if name not in PRESETS:
        raise DataError(f"there is no augmentation {name!r}", "data.augment", nearest(name, PRESETS))
    if name == "none":
        return Preprocess(spec).shape
    return _Augment(_sized(name, spec), _changes(name))


class _Augment:
    """A module-level class, not a closure: a spawned loader process gets it by pickle."""

    def __init__(self, sized: Augmentation, changes: tuple[v2.Transform, ...]) -> None:
        self._sized = sized
        self._changes = changes

    def __call__(self, image: Image.Image) -> Tensor:
        tensor = self._sized(image)
        for change in self._changes:
            tensor = change(tensor)
        return tensor


class _RandomCrop:
    def __init__(self, spec: InputSpec) -> None:
        mode = v2.InterpolationMode(spec.interpolation)
        self._crop = v2.RandomResizedCrop(spec.size, scale=SCALE, ratio=RATIO, interpolation=mode, antialias=True)
        self._on_tensors = spec.interpolation in ON_TENSORS

    def __call__(self, image: Image.Image) -> Tensor:
        rgb = to_rgb(image)
        cropped: Tensor
        if self._on_tensors:
            cropped = self._crop(functional.pil_to_tensor(rgb))
        else:
            cropped = functional.pil_to_tensor(self._crop(rgb))
        return cropped


def _sized(name: str, spec: InputSpec) -> Augmentation:
    return Preprocess(spec).shape if name == "flip" else _RandomCrop(spec)


def _changes(name: str) -> tuple[v2.Transform, ...]:
    flip = v2.RandomHorizontalFlip(FLIPPED)
    bilinear = v2.InterpolationMode.BILINEAR
    if name == "randaugment":
        return (flip, v2.RandAugment(OPERATIONS, MAGNITUDE, interpolation=bilinear))
    if name == "trivial":
        return (flip, v2.TrivialAugmentWide(interpolation=bilinear))
    return (flip,)
