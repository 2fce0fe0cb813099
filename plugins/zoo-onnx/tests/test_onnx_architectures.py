"""Real architectures of timm and torchvision, small: both exporters, against the library's own model."""

import onnx
import pytest
import torch
import zoo
from onnx_models import CLASSES, difference, exportable, normalise, photos, shapes
from torch.nn.functional import interpolate
from zoo.backbones.timm import build as build_timm
from zoo.backbones.torchvision import build as build_torchvision
from zoo.registry.builtin.backbones import TimmOptions, TorchvisionOptions

from zoo_onnx.exporters import DECODED_TOLERANCE, INT8_TOLERANCE, TOLERANCE, build, build_int8
from zoo_onnx.files import save
from zoo_onnx.plugin import OnnxInt8Options, OnnxOptions
from zoo_onnx.preprocess import with_preprocessing
from zoo_onnx.session import Session

pytestmark = pytest.mark.slow

ARCHITECTURES = ["timm/test_resnet", "timm/test_efficientnet", "timm/test_vit", "timm/test_convnext"]


def crops(count, size, seed=0):
    """Normalised parts of the photos, a little different each (N, 3, size, size)."""
    random = torch.Generator().manual_seed(seed)
    images = []
    for place in range(count):
        photo = photos()[place % 3]
        side = int(torch.randint(100, 300, (), generator=random))
        top, left = (int(torch.randint(0, s - side + 1, (), generator=random)) for s in photo.shape[2:])
        images.append(interpolate(photo[..., top : top + side, left : left + side], [size, size], mode="bilinear"))
    return normalise(torch.cat(images))


def make(name):
    """A model with random weights whose norms have seen photos."""
    library, arch = name.split("/")
    torch.manual_seed(0)
    if library == "timm":
        backbone = build_timm(TimmOptions(arch=arch), (96, 96))
    else:
        backbone = build_torchvision(TorchvisionOptions(arch=arch), (96, 96))
    network = backbone.native.build(len(CLASSES)).train()
    with torch.no_grad():
        for _ in range(20):
            network(crops(12, 96))
    spec = zoo.InputSpec(size=(96, 96), interpolation=backbone.input.interpolation, crop_pct=0.875)
    return network.eval().requires_grad_(False), backbone.native, spec


@pytest.mark.parametrize("name", [*ARCHITECTURES, "torchvision/resnet18"])
def test_float_decoded_and_int8(name, tmp_path):
    network, native, spec = make(name)
    model = exportable(network, native, spec, calibration=lambda count: crops(count, 96))
    plain, int8 = build(OnnxOptions()), build_int8(OnnxInt8Options(images=24))
    for exporter in (plain, int8):
        exporter.check(model)
        exporter.write(model, tmp_path)
    images = crops(7, 96, seed=1)
    for batch in (1, 2, 7):
        found = plain.read(model, tmp_path)(images[:batch])
        assert difference(found, network(images[:batch])) < TOLERANCE
    assert difference(int8.read(model, tmp_path)(images), network(images)) < INT8_TOLERANCE
    save(with_preprocessing(onnx.load(tmp_path / "model.onnx"), spec), tmp_path / "whole.onnx")
    whole = Session(tmp_path / "whole.onnx")
    for images in shapes():
        assert difference(whole(images), zoo.Decoded(network, spec)(images)) < DECODED_TOLERANCE
