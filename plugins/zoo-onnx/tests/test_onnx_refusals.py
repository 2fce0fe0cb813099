"""What cannot be written is refused before training, in words that say how to mend it."""

import re

import pytest
import torch
import zoo
from onnx_models import Small, exportable, native
from torch import nn

from zoo_onnx.exporters import build, build_int8
from zoo_onnx.plugin import OnnxInt8Options, OnnxOptions

EXPORTERS = [build(OnnxOptions()), build(OnnxOptions(preprocess=True)), build_int8(OnnxInt8Options())]


def refused(call):
    with pytest.raises(zoo.ZooError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_several_heads(exporter, tmp_path):
    says = (
        "native names hold one classifier, and there are the heads main, colour\n"
        "  where: [[export]]\n  mend:  train one head, or write `export = []` for no artefact"
    )
    model = exportable(heads=("main", "colour"))
    assert refused(lambda: exporter.check(model)) == says
    assert refused(lambda: exporter.write(model, tmp_path)) == says
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_no_linear_classifier(exporter):
    assert refused(lambda: exporter.check(exportable(described=native(classifier=None)))) == (
        "small/net has no single linear classifier that this head could be written as\n"
        "  where: [[export]]\n  mend:  choose an architecture that has one, or write `export = []` for no artefact"
    )


def test_preprocessing_that_no_graph_has():
    exporter = build(OnnxOptions(preprocess=True))
    assert refused(lambda: exporter.check(exportable(spec=zoo.InputSpec(size=(32, 48))))) == (
        "images of 32 × 48 are not resized in a graph: only square ones are\n"
        "  where: [[export]] preprocess\n  mend:  leave `preprocess` out"
    )
    assert refused(lambda: exporter.check(exportable(spec=zoo.InputSpec(interpolation="lanczos")))) == (
        "interpolation 'lanczos' is Pillow's: a graph has bilinear and bicubic\n"
        "  where: [[export]] preprocess\n  mend:  leave `preprocess` out"
    )
    build(OnnxOptions()).check(exportable(spec=zoo.InputSpec(size=(32, 48), interpolation="lanczos")))


def test_no_training_images(tmp_path):
    exporter = build_int8(OnnxInt8Options())
    says = (
        "8 bits are fitted to the values that training images have, and there are no training images here\n"
        "  where: [[export]] use = 'onnx-int8'\n  mend:  export from the run, where its data is"
    )
    assert refused(lambda: exporter.check(exportable(calibration=None))) == says
    assert refused(lambda: exporter.write(exportable(calibration=None), tmp_path)) == says


def test_checking_builds_nothing():
    def build_nothing(classes):
        raise AssertionError("a network was built")

    for exporter in EXPORTERS:
        exporter.check(exportable(described=native(build_nothing)))


class Unsteady(Small):
    """A network that goes another way for other values."""

    def forward(self, images):
        return super().forward(images if images.sum() > 0 else -images)


def test_a_network_that_cannot_be_captured(tmp_path):
    says = refused(lambda: EXPORTERS[2].write(exportable(described=native(Unsteady)), tmp_path))
    what, *rest = says.splitlines()
    assert re.fullmatch(r"small/net cannot be captured: TorchExportError: .+", what)
    assert rest == ["  where: [[export]] use = 'onnx-int8'", '  mend:  export "torchscript"']
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_network(tmp_path):
    other = nn.Sequential(nn.Linear(2, 3))
    state = {**other.state_dict(), "fc.weight": torch.zeros(3, 2)}
    says = refused(lambda: EXPORTERS[0].write(exportable(state=state), tmp_path))
    assert says.startswith("the weights are not those of small/net: ")
