"""model.onnx and model.decoded.onnx: the model's logits, what is in the file, and the same bytes every time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
import zoo
from onnx_models import CLASSES, SPEC, difference, exportable, native, patches, photos, shapes, trained
from pydantic import ValidationError
from torch import nn
from torch.nn.functional import interpolate

from zoo_onnx import files
from zoo_onnx.exporters import DECODED_TOLERANCE, TOLERANCE, build
from zoo_onnx.plugin import OnnxInt8Options, OnnxOptions
from zoo_onnx.preprocess import preprocessing, with_preprocessing


def write(folder, model=None, **options):
    exporter = build(OnnxOptions(**options))
    model = model or exportable()
    exporter.check(model)
    return exporter, exporter.write(model, folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return (*write(folder), folder)


@pytest.fixture(scope="module")
def decoded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoded")
    return (*write(folder, preprocess=True, fold_bn=True), folder)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_logits_are_the_models(plain, batch):
    exporter, _, folder = plain
    images = patches(batch, 5)[0]
    assert exporter.tolerance == TOLERANCE == 1e-4
    assert difference(exporter.read(exportable(), folder)(images), trained()(images)) < 1e-5


@pytest.mark.parametrize("place", range(len(shapes())))
def test_decoded_photos_of_any_shape(decoded, place):
    exporter, _, folder = decoded
    images = shapes()[place]
    images = torch.cat([images, images.flip(3)])
    found = exporter.read(exportable(), folder)(images)
    assert found.shape == (2, 3)
    assert exporter.tolerance == DECODED_TOLERANCE
    assert difference(found, zoo.Decoded(trained(), SPEC)(images)) < DECODED_TOLERANCE


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [24, 96, 224])
def test_pixels_are_zoos_but_for_roundings(mode, size):
    spec = zoo.InputSpec(size=(size, size), mean=(0.0,) * 3, std=(1 / 255,) * 3, interpolation=mode, crop_pct=0.9)
    graph = preprocessing(spec, opset=18, ir=8)
    onnx.checker.check_model(graph, full_check=True)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    for images in shapes():
        found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
        apart = (found - zoo.Decoded(nn.Identity(), spec)(images)).abs()
        assert found.shape[2:] == spec.size
        assert apart.max() <= 2.01
        assert (apart > 0.5).float().mean() <= 0.02


def test_the_tolerance_finds_another_preprocessing():
    """Another order of channels, and squashing instead of cropping, move the logits further than the tolerance."""
    mean, std = (torch.tensor(values).mul(255).view(3, 1, 1) for values in (SPEC.mean, SPEC.std))
    coffee, decoded = photos()[1], zoo.Decoded(trained(), SPEC)
    squashed = interpolate(coffee, [32, 32], mode="bicubic", antialias=True)
    for wrong in (decoded(coffee.flip(1)), trained()((squashed.float() - mean) / std)):
        assert difference(wrong, decoded(coffee)) > 2 * DECODED_TOLERANCE


def sides(value):
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def facts(graph):
    return {prop.key: prop.value for prop in graph.metadata_props}


def test_what_is_in_the_file(plain):
    _, paths, folder = plain
    assert paths == (folder / "model.onnx",)
    assert list(folder.iterdir()) == [folder / "model.onnx"]
    model = onnx.load(paths[0])
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    images, logits = *model.graph.input, *model.graph.output
    assert (images.name, images.type.tensor_type.elem_type, sides(images)) == ("images", 1, ["batch", 3, 32, 32])
    assert (logits.name, logits.type.tensor_type.elem_type, sides(logits)) == ("logits", 1, ["batch", 3])
    assert [node.op_type for node in model.graph.node].count("BatchNormalization") == 2
    assert {"conv1.weight", "fc.weight"} <= {tensor.name for tensor in model.graph.initializer}
    assert json.loads(facts(model)["classes"]) == list(CLASSES)
    assert facts(model) == {
        "classes": '["cät", "coffee", "astronaut"]',
        "architecture": "small/net",
        "input": '{"size": [32, 32], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], '
        '"interpolation": "bicubic", "crop_pct": 0.875}',
    }


def test_what_is_in_the_file_that_preprocesses(decoded):
    _, paths, folder = decoded
    assert paths == (folder / "model.decoded.onnx",)
    model = onnx.load(paths[0])
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert sides(model.graph.input[0]) == ["batch", 3, "height", "width"]
    assert (model.graph.input[0].name, model.graph.input[0].type.tensor_type.elem_type) == ("images", 2)
    assert (model.graph.output[0].name, sides(model.graph.output[0])) == ("logits", ["batch", 3])
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert json.loads(facts(model)["classes"]) == list(CLASSES)


def test_nothing_says_where_it_was_made(plain, decoded):
    for _, paths, _ in (plain, decoded):
        content = paths[0].read_bytes()
        model = onnx.load(paths[0])
        assert (model.producer_name, model.producer_version, model.doc_string) == ("zoo-onnx", "", "")
        for trace in (b"site-packages", b".py", b"forward", b"pkg.torch", str(Path(__file__).parents[3]).encode()):
            assert trace not in content


def test_the_same_bytes_again(plain, tmp_path):
    _, (path,), _ = plain
    _, (again,) = write(tmp_path)
    assert path.read_bytes() == again.read_bytes()


SCRIPT = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[1])
from onnx_models import exportable, Small
from zoo_onnx.exporters import build, build_int8
from zoo_onnx.plugin import OnnxInt8Options, OnnxOptions
torch.manual_seed(0)
model = exportable(Small(3).eval())
build(OnnxOptions(preprocess=True)).write(model, Path(sys.argv[2]))
build_int8(OnnxInt8Options(images=24)).write(model, Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_the_same_bytes_in_another_process(tmp_path):
    running = []
    for seed in ("1", "2"):
        (tmp_path / seed).mkdir()
        command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(tmp_path / seed)]
        running.append(subprocess.Popen(command, env={**os.environ, "PYTHONHASHSEED": seed}))
    assert [process.wait(120) for process in running] == [0, 0]
    for name in ("model.decoded.onnx", "model.int8.onnx"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_weights_beyond_the_limit_lie_beside_it(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LIMIT", 1000)
    model = onnx.load(plain[1][0])
    written = files.save(model, tmp_path / "model.onnx")
    assert written == (tmp_path / "model.onnx", tmp_path / "model.onnx.data")
    assert sorted(tmp_path.iterdir()) == list(written)
    images = patches(2, 5)[0]
    assert difference(plain[0].read(exportable(), tmp_path)(images), trained()(images)) < 1e-5


def test_a_graph_that_is_no_onnx_is_found(plain, tmp_path):
    model = onnx.load(plain[1][0])
    model.graph.node[0].op_type = "Konv"
    with pytest.raises(onnx.checker.ValidationError, match="No Op registered for Konv"):
        files.save(model, tmp_path / "model.onnx")


@pytest.mark.parametrize("which", ["plain", "decoded"])
def test_the_code_needs_no_zoo(which, request, monkeypatch):
    exporter, _, folder = request.getfixturevalue(which)
    code, names = exporter.code(exportable()), {}
    assert "zoo" not in code
    monkeypatch.chdir(folder)
    exec(code, names)
    images = photos()[0] if which == "decoded" else patches(2, 5)[0]
    assert torch.equal(names["network"](images), exporter.read(exportable(), folder)(images))


def test_what_runs_it(plain):
    assert plain[0].runtime(native()) == "onnxruntime"
    assert plain[0].max_drop is None
    assert plain[0].takes == "normalised"
    assert build(OnnxOptions(preprocess=True)).takes == "decoded"


@pytest.mark.parametrize("options", [OnnxOptions, OnnxInt8Options])
@pytest.mark.parametrize(("opset", "says"), [(17, "greater than or equal to 18"), (22, "less than or equal to 21")])
def test_opsets_out_of_range(options, opset, says):
    with pytest.raises(ValidationError, match=f"Input should be {says}"):
        options(opset=opset)


@pytest.mark.slow
def test_the_latest_opset(tmp_path):
    exporter, (path,) = write(tmp_path, preprocess=True, opset=21)
    assert [(opset.domain, opset.version) for opset in onnx.load(path).opset_import] == [("", 21)]
    coffee = photos()[1]
    found = exporter.read(exportable(), tmp_path)(coffee)
    assert difference(found, zoo.Decoded(trained(), SPEC)(coffee)) < DECODED_TOLERANCE


def test_preprocessing_keeps_the_networks_names(plain):
    whole = with_preprocessing(onnx.load(plain[1][0]), SPEC)
    assert {"conv1.weight", "preprocess/mean"} <= {tensor.name for tensor in whole.graph.initializer}
