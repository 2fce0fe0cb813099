"""model.int8.onnx: accuracy on real images, what is in the file, and no trace of making it."""

import tempfile

import onnx
import pytest
import torch
from onnx_models import difference, exportable, native, patches, trained

from zoo_onnx.exporters import INT8_TOLERANCE, build_int8
from zoo_onnx.plugin import OnnxInt8Options


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder, draft = tmp_path_factory.mktemp("int8"), tmp_path_factory.mktemp("draft")
    exporter = build_int8(OnnxInt8Options(images=48))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(draft))
        exporter.check(exportable())
        paths = exporter.write(exportable(), folder)
    assert list(draft.iterdir()) == []
    return exporter, paths, folder


def test_accuracy_on_photos(written):
    exporter, _, folder = written
    images, targets = patches(300, 77)
    found, wanted = exporter.read(exportable(), folder)(images), trained()(images)
    right, before = ((logits.argmax(1) == targets).float().mean() for logits in (found, wanted))
    assert before > 0.95
    assert before - right <= exporter.max_drop == 0.02
    assert 0 < difference(found, wanted) < exporter.tolerance == INT8_TOLERANCE


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_any_batch(written, batch):
    exporter, _, folder = written
    images = patches(7, 78)[0]
    network = exporter.read(exportable(), folder)
    torch.testing.assert_close(network(images[:batch]), network(images)[:batch], rtol=0, atol=1e-5)


def test_what_is_in_the_file(written):
    _, paths, folder = written
    assert paths == (folder / "model.int8.onnx",)
    assert list(folder.iterdir()) == [folder / "model.int8.onnx"]
    model = onnx.load(paths[0])
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert (model.graph.input[0].name, model.graph.output[0].name) == ("images", "logits")
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    kinds = [node.op_type for node in model.graph.node]
    assert "BatchNormalization" not in kinds
    assert kinds.count("Conv") == 2
    assert "QuantizeLinear" in kinds
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    assert tensors["conv2.weight_quantized"].data_type == onnx.TensorProto.INT8
    assert list(tensors["conv2.weight_scale"].dims) == [32]
    assert {prop.key for prop in model.metadata_props} == {"classes", "architecture", "input"}


def test_the_same_bytes_again(written, tmp_path):
    asked = []

    def calibration(images):
        asked.append(images)
        return patches(images, 1000)[0]

    exporter, (path,), _ = written
    (again,) = exporter.write(exportable(calibration=calibration), tmp_path)
    assert asked == [48]
    assert path.read_bytes() == again.read_bytes()


def test_the_code_needs_no_zoo(written, monkeypatch):
    exporter, _, folder = written
    code, names = exporter.code(exportable()), {}
    assert "zoo" not in code
    monkeypatch.chdir(folder)
    exec(code, names)
    images = patches(2, 5)[0]
    assert torch.equal(names["network"](images), exporter.read(exportable(), folder)(images))


def test_what_runs_it(written):
    assert written[0].runtime(native()) == "onnxruntime"
    assert written[0].takes == "normalised"
    assert build_int8(OnnxInt8Options(max_drop=0.1)).max_drop == 0.1
