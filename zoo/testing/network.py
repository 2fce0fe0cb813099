"""What the checks build around a part: seeds, images, a small classifier."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar, get_args

import torch
from torch import Tensor, nn

from zoo.registry.contracts import Backbone, FeatureSpec, InputSpec, Interpolation, Native, TargetSpec
from zoo.testing.kit import Trial, expect

Built = TypeVar("Built")
CLASSES = ("cat", "dog", "owl")
SIZE = (32, 32)
"""Pixels of the kit's own network."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let the block draw from torch's generator, seeded; afterwards it is as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def make(build: Callable[[], Built], seed: int = 0) -> Built:
    """Return what a builder gives under a seed."""
    with seeded(seed):
        return build()


def draw(*shape: int, seed: int = 1) -> Tensor:
    """Return normally distributed values, always the same."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def perturbed(module: nn.Module) -> nn.Module:
    """Return the module with every parameter moved a little: what starts at zero would hide what lies behind it."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)
    return module


def alike(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> bool:
    """Whether two tensors differ by no more than a share of the largest expected value."""
    if found.shape != expected.shape:
        return False
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max().clamp_min(1e-6))


def apart(found: Tensor, expected: Tensor) -> str:
    """Say how far two tensors are apart."""
    if found.shape != expected.shape:
        return f"shape {tuple(found.shape)}, not {tuple(expected.shape)}"
    gap, most = (float(tensor.detach().abs().max()) for tensor in (found - expected, expected))
    return f"a difference of {gap:.3g}, values up to {most:.3g}"


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of a module's tensors."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors that are not bit for bit what they were."""
    return [name for name, tensor in before.items() if name not in after or not torch.equal(tensor, after[name])]


class Small(nn.Module):
    """The kit's own classifier, named as torchvision's ResNets are: conv1, bn1, layer1, layer2, layer3, fc."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv2d(12, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.layer3 = nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.ReLU())
        self.fc: nn.Module = nn.Linear(16, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K)."""
        features = self.layer2(self.layer1(self.bn1(self.conv1(images)).relu()))
        logits: Tensor = self.fc(self.layer3(features.mean((2, 3))))
        return logits


STAGES = ("conv1", "bn1", "layer1", "layer2", "layer3")


def small_backbone() -> Backbone:
    """Return the kit's own backbone, always with the same weights."""
    module = make(lambda: Small(1))
    module.fc = nn.Identity()
    native = Native("zoo.testing.network", "small", "fc", Small, "zoo.testing.network.Small(num_classes=classes)")
    return Backbone(module, FeatureSpec(16), STAGES, native, InputSpec(size=SIZE))


def target() -> TargetSpec:
    """Return what a head is to predict."""
    return TargetSpec(CLASSES)


def require_input(given: InputSpec) -> None:
    """Go on when a preprocessing makes sense."""
    triples = all(isinstance(three, tuple) and len(three) == 3 for three in (given.mean, given.std))
    right = triples and min(given.size) >= 1 and min(given.std) > 0 and max(*given.mean, *given.std) <= 1
    wanted = "pixels, mean and std as three numbers in the scale 0 to 1, crop_pct above 0 and up to 1"
    expect(right and 0 < given.crop_pct <= 1, wanted, given)
    known = get_args(Interpolation)
    expect(given.interpolation in known, f"an interpolation out of {known}", given.interpolation)


def require_type(value: object, wanted: type, trial: Trial) -> None:
    """Go on when a builder gave the right thing."""
    expect(isinstance(value, wanted), f"{trial.part.build} returns a {wanted.__name__}", type(value).__name__)
