"""Models to export, real photos, and a small network that has learnt to tell the photos apart."""

from functools import cache

import numpy as np
import torch
from skimage import data
from torch import nn
from torch.nn.functional import cross_entropy
from zoo import Exportable, InputSpec, Native

CLASSES = ("cät", "coffee", "astronaut")
SPEC = InputSpec(size=(32, 32), interpolation="bicubic", crop_pct=0.875)


@cache
def photos():
    """Three photos, uint8 (1, 3, H, W), one a class."""
    arrays = (data.chelsea(), data.coffee(), data.astronaut())
    return tuple(torch.from_numpy(array.copy()).permute(2, 0, 1)[None].contiguous() for array in arrays)


def shapes():
    """The photos, and parts of them: wide, high, smaller than what is cropped, odd."""
    cat, coffee, astronaut = photos()
    parts = (cat[..., :101, :], coffee[..., :77], astronaut[..., 100:123, 50:77], cat[..., ::9, ::9])
    return (cat, coffee, astronaut, *(part.contiguous() for part in parts))


def normalise(images, spec=SPEC):
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (spec.mean, spec.std))
    return (images.float() / 255 - mean) / std


def patches(count, seed, size=32):
    """Normalised parts (N, 3, size, size) of the photos, and which photo (N,) each is of."""
    random, images, targets = np.random.default_rng(seed), [], []
    for place in range(count):
        photo = photos()[place % 3][0]
        top, left = (int(random.integers(0, side - 2 * size)) for side in photo.shape[1:])
        images.append(photo[:, top : top + 2 * size : 2, left : left + 2 * size : 2])
        targets.append(place % 3)
    return normalise(torch.stack(images)), torch.tensor(targets)


class Small(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32)
        self.fc = nn.Linear(32, classes)

    def forward(self, images):
        features = self.bn2(self.conv2(self.bn1(self.conv1(images)).relu())).relu()
        return self.fc(features.mean((2, 3)))


def native(build=Small, classifier="fc"):
    return Native(library="small", arch="net", classifier=classifier, build=build, code="Small(num_classes=classes)")


@cache
def trained():
    """A small network that tells parts of the photos apart."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Small(len(CLASSES))
        optimizer = torch.optim.AdamW(network.parameters(), 0.01)
        rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=80)
        images, targets = patches(480, 0)
        for _ in range(80):
            batch = torch.randint(0, 480, (48,))
            cross_entropy(network(images[batch]), targets[batch]).backward()
            optimizer.step()
            rates.step()
            optimizer.zero_grad()
    return network.eval().requires_grad_(False)


def exportable(network=None, described=None, spec=SPEC, **changes):
    """The network as zoo hands it to an exporter; `described` is its `Native`."""
    network = network or trained()
    facts = {
        "native": described or native(),
        "input": spec,
        "classes": CLASSES,
        "state": network.state_dict(),
        "calibration": lambda count: patches(count, 1000, spec.size[0])[0],
    }
    return Exportable(**{**facts, **changes})


def difference(found, wanted):
    """The largest difference, relative to the largest value."""
    return float((found - wanted).abs().max() / wanted.abs().max())
