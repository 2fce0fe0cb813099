"""Fourteen faulty deployments of a right bundle, each with one fault that people really make.

Some lie in the bundle itself, which is well-formed: every digest is that of its file, so only the numbers can tell.
The others lie in the code around the network: a function from an image file's bytes to logits, with one line wrong.

Each says as well what a comparison on random tensors has to look at: the network as it was deployed, and the network
that the exporter was given, in the state in which it was given. Neither has seen an image file.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.transforms import v2

from zoo.bundle.folder import Bundle
from zoo.bundle.manifest import chained, read_manifest
from zoo.export.decoded import Decoded
from zoo.export.native import TOLERANCES, loaded
from zoo.files import sha256
from zoo.registry import Registry
from zoo.registry.contracts import InputSpec

PLAIN, GRAPH, WHOLE = "model.safetensors", "model.torchscript.pt", "model.decoded.torchscript.pt"

Network = Callable[[Tensor], Tensor]
Edit = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class Source:
    """A right bundle, one of the same run's moving average, and its registry."""

    path: Path
    averaged: Path
    registry: Registry

    @property
    def bundle(self) -> Bundle:
        return Bundle(self.path, read_manifest(self.path), self.registry)

    @property
    def spec(self) -> InputSpec:
        return self.bundle.manifest.spec

    def network(self, weights: Mapping[str, Tensor] | None = None) -> nn.Module:
        """Return the library's own network with these weights, the bundle's when None, in eval mode."""
        return loaded(self.bundle.described(), weights or load_file(self.path / PLAIN))


@dataclass(frozen=True)
class Skewed:
    """A faulty deployment: `path` is its bundle; `predict`, where given, is its code.

    `deployed` and `given` map normalised images to logits: what was deployed, and what the exporter was given.
    """

    path: Path
    deployed: Network
    given: Network
    predict: Callable[[bytes], Sequence[float]] | None = None
    tolerance: float = 1e-4


Make = Callable[[Source, Path], Skewed]


def rewritten(source: Source, folder: Path, artefact: str, **changes: Any) -> Path:
    """Copy the bundle with one of its artefacts and with other values in model.json, digests as the files are now."""
    if not folder.exists():
        shutil.copytree(source.path, folder)
    path = folder / "model.json"
    table = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    kept = next(entry for entry in table["artefacts"] if artefact in entry["files"])
    kept["files"] = {name: sha256(folder / name) for name in kept["files"]}
    table["artefacts"] = [kept]
    links = [[link["what"], link["origin"], link["sha256"]] for link in table["lineage"]]
    links[-1][2] = kept["files"].get("model.safetensors", links[-1][2])
    table["lineage"] = [link.model_dump() for link in chained(links)]
    path.write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")
    return folder


# Faults in the bundle.


def said_otherwise(source: Source, folder: Path, **changes: Any) -> Skewed:
    """A model.json that says something else of the right weights."""
    network = source.network()
    path = rewritten(source, folder, PLAIN, **changes)
    return Skewed(path, source.network(load_file(path / PLAIN)), network, tolerance=TOLERANCES["float32"])


def preprocessed_otherwise(**changes: Any) -> Make:
    def make(source: Source, folder: Path) -> Skewed:
        table = json.loads((source.path / "model.json").read_text(encoding="utf-8"))["input"]
        return said_otherwise(source, folder, input={**table, **changes})

    return make


def permuted_classes(source: Source, folder: Path) -> Skewed:
    first, second, *rest = source.bundle.manifest.classes
    return said_otherwise(source, folder, classes=[second, first, *rest])


def other_weights(source: Source, folder: Path, weights: dict[str, Tensor]) -> Skewed:
    """Other weights in the file; the exporter was given the network that has them."""
    shutil.copytree(source.path, folder)
    save_file(weights, folder / PLAIN)
    path = rewritten(source, folder, PLAIN)
    deployed = source.network(load_file(path / PLAIN))
    return Skewed(path, deployed, source.network(weights), tolerance=TOLERANCES["float32"])


def blue_first(source: Source, folder: Path) -> Skewed:
    """Weights for BGR, as OpenCV reads images: the first convolution's input channels are the other way round."""
    weights = load_file(source.path / PLAIN)
    weights["conv_stem.weight"] = weights["conv_stem.weight"].flip(1).contiguous()
    return other_weights(source, folder, weights)


def moving_average(source: Source, folder: Path) -> Skewed:
    """The moving average in place of the raw weights: the exporter was given the wrong ones of two good networks."""
    return other_weights(source, folder, load_file(source.averaged / PLAIN))


def in_train_mode(source: Source, folder: Path) -> Skewed:
    """A graph recorded without `network.eval()`: its batch norms take their statistics from the batch.

    A comparison sees the network as it was given, in train mode too, on the same batch: both take its statistics. Only
    who thinks of calling eval() for the comparison, and so has no such fault, would see it.
    """
    shutil.copytree(source.path, folder)
    example = noise(source.spec, 2, seed=1)
    record(source.network().train(), example, folder / GRAPH)
    path = rewritten(source, folder, GRAPH)
    return Skewed(path, opened_graph(path / GRAPH), source.network().train())


class WithoutAntialias(Decoded):
    """Resizes as torch does when it is not told to antialias."""

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2], images.shape[3]
        shorter = min(height, width)
        size = [self.cover * height // shorter, self.cover * width // shorter]
        resized = interpolate(images.float(), size, mode=self.mode, align_corners=False, antialias=False)
        top, left = (size[0] - self.height) // 2, (size[1] - self.width) // 2
        cropped = resized[:, :, top : top + self.height, left : left + self.width].round().clamp(0, 255)
        logits: Tensor = self.network((cropped - self.mean) / self.std)
        return logits


class CroppedFirst(Decoded):
    """Crops the square in the middle and then resizes it."""

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2], images.shape[3]
        shorter = min(height, width)
        top, left = (height - shorter) // 2, (width - shorter) // 2
        cropped = images[:, :, top : top + shorter, left : left + shorter]
        resized = interpolate(cropped, [self.height, self.width], mode=self.mode, align_corners=False, antialias=True)
        logits: Tensor = self.network((resized.to(torch.float32) - self.mean) / self.std)
        return logits


def wrapped(form: type[Decoded]) -> Make:
    """Return what writes a graph with its preprocessing inside, as `form` does it.

    A comparison has normalised tensors to give, so it looks at the network within.
    """

    def make(source: Source, folder: Path) -> Skewed:
        shutil.copytree(source.path, folder)
        record(source.network(), noise(source.spec, 2, seed=1), folder / WHOLE, lambda it: form(it, source.spec))
        path = rewritten(source, folder, WHOLE)
        return Skewed(path, opened_graph(path / WHOLE).network, source.network())

    return make


class InHalf(nn.Module):
    """A network whose convolutions and linear layers compute in 16 bits, and its norms in 32, as autocast has it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.half()
                module.register_forward_pre_hook(lambda _, given: (given[0].half(),))
                module.register_forward_hook(lambda _, given, gives: gives.float())

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits


def in_half_precision(source: Source, folder: Path) -> Skewed:
    """A graph that computes in 16 bits, where sums over a real image's even areas leave their range.

    The first convolution gives larger values, which its batch norm divides by as much: the same network in 32 bits. A
    channel that sums what lies side by side gives more on an even sky than on noise, which cancels out.
    """
    weights = scaled_up(source, load_file(source.path / PLAIN))
    shutil.copytree(source.path, folder)
    given = source.network(weights)
    record(InHalf(source.network(weights)), noise(source.spec, 2, seed=1), folder / GRAPH)
    path = rewritten(source, folder, GRAPH)
    return Skewed(path, opened_graph(path / GRAPH), given, tolerance=TOLERANCES["float16"])


@torch.inference_mode()
def scaled_up(source: Source, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of the same function, one of whose channels passes 65,504 on golden images, and not on noise."""
    convolution = source.network(weights).conv_stem
    real, random = (convolution(images).abs().amax((0, 2, 3)) for images in (golden(source), noise(source.spec, 64)))
    channel = int((real / random).argmax())
    scale = 65504 / float((real * random).sqrt()[channel])
    weights["conv_stem.weight"][channel] *= scale
    weights["bn1.running_mean"][channel] *= scale
    weights["bn1.running_var"][channel] *= scale**2
    return weights


def record(network: nn.Module, example: Tensor, path: Path, around: Callable[[Any], nn.Module] | None = None) -> None:
    """Write a network as a graph, and what is put around it where that is asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph: Any = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(torch.jit.script(around(graph).eval()) if around else graph, path)  # type: ignore[no-untyped-call]


def opened_graph(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.load(path).eval()  # type: ignore[no-untyped-call]


def golden(source: Source) -> Tensor:
    """Return the golden images, normalised."""
    deployment = Deployment(source.network(), source.spec)
    return torch.cat([deployment.normalised(image.data) for image in source.bundle.golden().images])


def noise(spec: InputSpec, count: int, seed: int = 0) -> Tensor:
    """Return what is taken for normalised images: N(0, 1)."""
    return torch.randn(count, 3, *spec.size, generator=torch.Generator().manual_seed(seed))


# Faults in the code around the network.


def upright(image: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(image)


def in_8_bits(image: Image.Image) -> Image.Image:
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def over(colour: str) -> Edit:
    def lay(image: Image.Image) -> Image.Image:
        if not image.has_transparency_data:
            return image
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, colour), layer)

    return lay


def in_rgb(image: Image.Image) -> Image.Image:
    return image.convert("RGB")


def as_channels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@dataclass(frozen=True)
class Deployment:
    """A plain pipeline of Pillow and torchvision, from an image file's bytes to logits; right as it stands."""

    network: Network
    spec: InputSpec
    turn: Edit = upright
    deepen: Edit = in_8_bits
    lay: Edit = field(default_factory=lambda: over("white"))
    colour: Edit = in_rgb
    order: Callable[[Image.Image], Tensor] = as_channels

    def normalised(self, data: bytes) -> Tensor:
        image = Image.open(BytesIO(data))
        for edit in (self.turn, self.deepen, self.lay, self.colour):
            image = edit(image)
        cover, mode = int(self.spec.size[0] / self.spec.crop_pct), v2.InterpolationMode(self.spec.interpolation)
        pixels = v2.functional.resize(as_channels(image), cover, mode, antialias=True)
        cropped = self.order(
            Image.fromarray(v2.functional.center_crop(pixels, self.spec.size).permute(1, 2, 0).numpy())
        )
        return v2.functional.normalize(cropped[None] / 255, self.spec.mean, self.spec.std)

    @torch.inference_mode()
    def __call__(self, data: bytes) -> Sequence[float]:
        row: Sequence[float] = self.network(self.normalised(data))[0].tolist()
        return row


def deployed_with(**faults: Any) -> Make:
    """Return what deploys the right bundle's network with a fault in the code before it, which no exporter sees."""

    def make(source: Source, folder: Path) -> Skewed:
        path = rewritten(source, folder, PLAIN)
        network = source.network(load_file(path / PLAIN))
        code = replace(Deployment(network, source.spec), **faults)
        return Skewed(path, network, source.network(), code, TOLERANCES["float32"])

    return make


def rows_as_channels(image: Image.Image) -> Tensor:
    """Pixels in the order height, width, channel, taken for channel, height, width."""
    return torch.from_numpy(np.array(image)).reshape(3, image.height, image.width)


def grey_in_red(image: Image.Image) -> Image.Image:
    """A grey becomes the first channel of three, and the others stay empty."""
    if image.mode != "L":
        return image.convert("RGB")
    empty = Image.new("L", image.size)
    return Image.merge("RGB", (image, empty, empty))


def first_three(image: Image.Image) -> Image.Image:
    """The first three channels of CMYK, taken for RGB."""
    return Image.merge("RGB", image.split()[:3]) if image.mode == "CMYK" else image.convert("RGB")


def as_it_is(image: Image.Image) -> Image.Image:
    return image


SKEWS: dict[str, Make] = {
    "BGR": blue_first,
    "no antialias": wrapped(WithoutAntialias),
    "bilinear for bicubic": preprocessed_otherwise(interpolation="bilinear"),
    "other mean and std": preprocessed_otherwise(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5]),
    "other crop": preprocessed_otherwise(crop_pct=0.875),
    "resize order": wrapped(CroppedFirst),
    "permuted classes": permuted_classes,
    "train-mode BN": in_train_mode,
    "EMA for raw": moving_average,
    "fp16 overflow": in_half_precision,
    "NCHW for NHWC": deployed_with(order=rows_as_channels),
    "EXIF ignored": deployed_with(turn=as_it_is),
    "grey otherwise": deployed_with(colour=grey_in_red),
    "alpha over black": deployed_with(lay=over("black")),
}
FURTHER: dict[str, Make] = {
    "alpha dropped": deployed_with(lay=as_it_is),
    "16 bits otherwise": deployed_with(deepen=as_it_is),
    "CMYK for RGB": deployed_with(colour=first_three),
}
"""Not among the fourteen: faults whose cause is named as well."""
