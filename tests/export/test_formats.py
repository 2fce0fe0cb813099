"""Each format is read back with the model's logits, written to the same bytes again, and refuses what it cannot."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.export.models import CLASSES, IMAGES, prepare, torchvision_backbone
from tests.train.tiny import make_backbone
from zoo.data.preprocess import Preprocess
from zoo.errors import WeightsError, ZooError
from zoo.export import delta, hub, pt2, state, torchscript
from zoo.export.decoded import Decoded
from zoo.export.fold import fold_batchnorm
from zoo.export.native import build_network
from zoo.registry.builtin.export import (
    DeltaOptions,
    HubOptions,
    Pt2Options,
    PthOptions,
    SafetensorsOptions,
    TorchscriptOptions,
)
from zoo.registry.contracts import Exportable, Exporter, InputSpec

Make = Callable[..., Exporter]
PLAIN: dict[str, Exporter] = {
    "safetensors": state.build_safetensors(SafetensorsOptions()),
    "pth": state.build_pth(PthOptions()),
    "hub": hub.build(HubOptions()),
}
GRAPHS: dict[str, Make] = {
    "torchscript": lambda **keys: torchscript.build(TorchscriptOptions(**keys)),
    "pt2": lambda **keys: pt2.build(Pt2Options(**keys)),
}


@torch.inference_mode()
def apart(first: Callable[[Tensor], Tensor], second: Callable[[Tensor], Tensor], images: Tensor = IMAGES) -> float:
    expected = second(images)
    return float((first(images) - expected).abs().max() / expected.abs().max())


def check_native(weights: dict[str, Tensor], plain: nn.Module, eager: Callable[[Tensor], Tensor]) -> None:
    plain.load_state_dict(weights, strict=True)
    assert apart(plain.eval(), eager) <= 1e-5


@pytest.mark.parametrize("name", PLAIN)
def test_plain_weights_are_read_back(tmp_path: Path, name: str) -> None:
    model, eager = prepare()
    files = PLAIN[name].write(model, tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert apart(PLAIN[name].read(model, tmp_path), eager) <= 1e-6
    assert PLAIN[name].runtime(model.native) == "timm"


def test_timm_and_torchvision_load_the_state_dicts(tmp_path: Path) -> None:
    model, eager = prepare()
    for name in ("safetensors", "pth"):
        PLAIN[name].write(model, tmp_path)
    for weights in (load_file(tmp_path / "model.safetensors"), torch.load(tmp_path / "model.pth", weights_only=True)):
        check_native(weights, timm.create_model("test_resnet", num_classes=3), eager)
    model, eager = prepare(torchvision_backbone("resnet18"))
    PLAIN["safetensors"].write(model, tmp_path)
    check_native(load_file(tmp_path / "model.safetensors"), torchvision.models.resnet18(num_classes=3), eager)
    assert PLAIN["safetensors"].runtime(model.native) == "torchvision"


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.1), ("float16", 0.02)])
def test_half_precision(tmp_path: Path, dtype: Any, tolerance: float) -> None:
    model, eager = prepare()
    exporter = state.build_safetensors(SafetensorsOptions(dtype=dtype))
    (path,) = exporter.write(model, tmp_path)
    assert path.name == f"model.{dtype}.safetensors"
    assert {tensor.dtype for tensor in load_file(path).values()} == {getattr(torch, dtype), torch.int64}
    assert 0 < apart(exporter.read(model, tmp_path), eager) <= exporter.tolerance == tolerance


def test_timm_opens_the_hubs_layout(tmp_path: Path) -> None:
    model, eager = prepare()
    assert [path.name for path in PLAIN["hub"].write(model, tmp_path)] == ["config.json", "model.safetensors"]
    opened = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert apart(opened, eager) <= 1e-6
    assert opened.num_classes == 3
    data = timm.data.resolve_model_data_config(opened)
    assert (list(data["input_size"]), data["interpolation"], data["crop_pct"]) == ([3, 32, 32], "bicubic", 0.875)
    assert json.loads((tmp_path / "config.json").read_text())["label_names"] == list(CLASSES)


def test_a_vit_for_another_size_keeps_it_in_the_hubs_layout(tmp_path: Path) -> None:
    model, eager = prepare(make_backbone("test_vit"))
    PLAIN["hub"].write(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_args"] == {"img_size": [32, 32]}
    assert apart(timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval(), eager) <= 1e-5


def test_torchvisions_are_not_for_the_hub() -> None:
    model, _ = prepare(torchvision_backbone("resnet18"))
    with pytest.raises(ZooError) as caught:
        PLAIN["hub"].check(model)
    assert str(caught.value) == (
        "timm opens its own architectures, and this is torchvision/resnet18\n"
        "  where: [[export]] use = 'hub'\n  mend:  export \"safetensors\", which its library loads"
    )


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("arch", ["test_resnet", "test_efficientnet", "test_vit"])
@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_take_batches_of_any_size(tmp_path: Path, name: str, arch: str, fold: bool) -> None:
    model, eager = prepare(make_backbone(arch))
    exporter = GRAPHS[name](fold_bn=fold)
    exporter.write(model, tmp_path)
    network = exporter.read(model, tmp_path)
    for count in (1, 2, 4):
        assert apart(network, eager, IMAGES[:count]) <= 1e-5
    assert exporter.runtime(model.native) == "torch"


def decoded(height: int, width: int, count: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(height * width)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


def preprocessed(model: Exportable, images: Tensor) -> Tensor:
    to_image = torchvision.transforms.functional.to_pil_image
    preprocess = Preprocess(model.input)
    return preprocess.normalise(torch.stack([preprocess.shape(to_image(image)) for image in images]))


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_preprocessing_is_in_the_graph(tmp_path: Path, name: str, interpolation: Any) -> None:
    model, eager = prepare(input=InputSpec((32, 32), interpolation=interpolation))
    exporter = GRAPHS[name](preprocess=True)
    (path,) = exporter.write(model, tmp_path)
    assert ".decoded." in path.name
    assert exporter.takes == "decoded"
    network = exporter.read(model, tmp_path)
    for shape in [(100, 77), (33, 91), (36, 36), (20, 300), (31, 32), (37, 37)]:
        images = decoded(*shape, count=2)
        assert apart(network, lambda x: eager(preprocessed(model, x)), images) <= 1e-5, shape


@given(st.integers(1, 150), st.integers(1, 150), st.sampled_from([0.8, 0.875, 0.95, 1.0]))
@settings(max_examples=60, deadline=None)
def test_in_the_graph_is_what_preprocess_does(height: int, width: int, crop: float) -> None:
    spec = InputSpec((24, 24), crop_pct=crop)
    model, _ = prepare(input=spec)
    images = decoded(height, width)
    given = Decoded(nn.Identity(), spec)(images)
    torch.testing.assert_close(given, preprocessed(model, images), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (InputSpec((32, 48)), "images of 32 × 48 are not resized in a graph: only square ones are"),
        (
            InputSpec((32, 32), interpolation="lanczos"),
            "interpolation 'lanczos' is Pillow's: a graph has bilinear and bicubic",
        ),
    ],
)
def test_what_cannot_be_in_a_graph(spec: InputSpec, message: str) -> None:
    model, _ = prepare(input=spec)
    with pytest.raises(ZooError) as caught:
        GRAPHS["pt2"](preprocess=True).check(model)
    assert str(caught.value) == f"{message}\n  where: [[export]] preprocess\n  mend:  leave `preprocess` out"


def exporters() -> dict[str, Exporter]:
    made = {f"{name} {keys}": make(**keys) for name, make in GRAPHS.items() for keys in ({}, {"preprocess": True})}
    return {**PLAIN, **made}


@pytest.mark.parametrize("name", exporters())
def test_the_same_weights_give_the_same_bytes(tmp_path: Path, name: str) -> None:
    model, _ = prepare()
    turned = dict(reversed(model.state.items()))
    again = Exportable(native=model.native, input=model.input, classes=model.classes, state=turned)
    written = []
    for place, one in enumerate((model, again)):
        folder = tmp_path / str(place)
        folder.mkdir()
        written.append([path.read_bytes() for path in exporters()[name].write(one, folder)])
    assert written[0] == written[1]


def test_folding_takes_out_every_norm_that_follows_a_convolution() -> None:
    model, eager = prepare(make_backbone("test_efficientnet"))
    network = build_network(model)
    norms = [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert sorted(fold_batchnorm(network, IMAGES)) == sorted(norms)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert 0 < apart(network, eager) <= 1e-5


class Twice(nn.Module):
    """A convolution whose values a norm takes, and the sum too; and a norm that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.other = nn.Conv2d(3, 3, 1)
        self.norm.running_mean = torch.tensor([1.0, 2.0, 3.0])

    def forward(self, images: Tensor) -> Tensor:
        first = self.norm(self.conv(images))
        return self.norm(self.other(first))


def test_a_norm_that_is_called_twice_stays() -> None:
    network = Twice().eval()
    before = network(IMAGES)
    assert fold_batchnorm(network, IMAGES) == []
    assert torch.equal(network(IMAGES), before)


def base_of(model: Exportable, *changed: str) -> dict[str, Tensor]:
    return {name: tensor + 1 if name in changed else tensor.clone() for name, tensor in model.state.items()}


def test_a_delta_holds_what_differs_and_makes_the_whole_again(tmp_path: Path) -> None:
    model, eager = prepare()
    base = base_of(model, "fc.weight", "layer4.0.conv1.weight")
    model, _ = prepare(base=lambda: base)
    exporter = delta.build(DeltaOptions())
    (path,) = exporter.write(model, tmp_path)
    assert set(load_file(path)) == {"fc.weight", "layer4.0.conv1.weight"}
    assert apart(exporter.read(model, tmp_path), eager) <= 1e-6
    whole = delta.put_together(model, path)
    assert all(torch.equal(whole[name], tensor) for name, tensor in model.state.items())


def test_a_delta_on_other_base_weights_is_refused(tmp_path: Path) -> None:
    model, _ = prepare()
    model, _ = prepare(base=lambda: base_of(model, "fc.weight"))
    (path,) = delta.build(DeltaOptions()).write(model, tmp_path)
    other, _ = prepare(base=lambda: base_of(model, "layer4.0.conv1.weight"))
    with pytest.raises(WeightsError) as caught:
        delta.put_together(other, path)
    assert str(caught.value) == (
        "base weights and delta do not make the weights that were exported: the base is another\n"
        f"  where: {path}\n  mend:  name the file that training started from with --base"
    )


def test_a_delta_of_nothing() -> None:
    model, _ = prepare()
    with pytest.raises(ZooError) as caught:
        delta.build(DeltaOptions()).check(model)
    assert str(caught.value) == (
        "a delta is what differs from the base weights, and this run started from none\n"
        "  where: [[export]] use = 'delta'\n  mend:  export \"safetensors\""
    )


@pytest.mark.parametrize("name", [name for name in exporters() if name != "hub"])
def test_an_architecture_without_a_linear_classifier(name: str) -> None:
    model, _ = prepare(torchvision_backbone("squeezenet1_1"))
    with pytest.raises(ZooError) as caught:
        exporters()[name].check(model)
    assert str(caught.value) == (
        "torchvision/squeezenet1_1 has no single linear classifier that this head could be written as\n"
        "  where: [[export]]\n  mend:  choose an architecture that has one, or write `export = []` for no artefact"
    )


def test_two_heads_and_a_head_without_a_native_form() -> None:
    model, _ = prepare(heads=("one", "two"))
    with pytest.raises(ZooError) as caught:
        PLAIN["pth"].check(model)
    assert str(caught.value) == (
        "native names hold one classifier, and there are the heads one, two\n"
        "  where: [[export]]\n  mend:  train one head, or write `export = []` for no artefact"
    )
    headless = {name: tensor for name, tensor in model.state.items() if not name.startswith("fc.")}
    with pytest.raises(ZooError, match=r"^timm/test_resnet has no single linear classifier that this head"):
        PLAIN["safetensors"].check(prepare(state=headless)[0])


def test_weights_of_another_architecture_are_not_read(tmp_path: Path) -> None:
    model, _ = prepare()
    PLAIN["safetensors"].write(model, tmp_path)
    other, _ = prepare(make_backbone("test_efficientnet"))
    with pytest.raises(WeightsError, match=r"^the weights are not those of timm/test_efficientnet: "):
        PLAIN["safetensors"].read(other, tmp_path)


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return (Path.touch, (self.place,))


def test_a_graph_that_would_run_code_is_not_opened(tmp_path: Path) -> None:
    model, _ = prepare()
    exporter = GRAPHS["pt2"]()
    (path,) = exporter.write(model, tmp_path)
    reader = torch._C.PyTorchFileReader(str(path))
    records = {name: reader.get_record(name) for name in reader.get_all_records()}
    assert b"site-packages" not in b"".join(record for name, record in records.items() if name.endswith(".json"))
    hidden = io.BytesIO()
    torch.save(Bomb(tmp_path / "run"), hidden)
    writer = torch._C.PyTorchFileWriter(str(path))
    for name, record in records.items():
        if name in (".data/serialization_id", "version"):
            continue
        record = hidden.getvalue() if name.startswith("data/sample_inputs") else record
        writer.write_record(name, record, len(record))
    writer.write_end_of_file()
    with pytest.raises(ZooError, match=r"^model.pt2 is no plain graph, and is not opened: "):
        exporter.read(model, tmp_path)
    assert not (tmp_path / "run").exists()
    path.write_bytes(b"no archive")
    with pytest.raises(ZooError, match=r"^model.pt2 is no plain graph, and is not opened: "):
        exporter.read(model, tmp_path)
