"""Models on the meta device: they get the file's own tensors, whole, or are refused."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import get_model

from zoo.errors import WeightsError
from zoo.meta import on_meta
from zoo.weights import load

ARCHITECTURES = ["test_resnet", "test_vit", "test_convnext", "swin_tiny_patch4_window7_224"]


def _saved(model: nn.Module, folder: Path) -> Path:
    path = folder / "x.safetensors"
    save_file(model.state_dict(), path)
    return path


def _refusal(model: nn.Module, path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        load(model, path)
    assert all(parameter.is_meta for parameter in model.parameters())
    return str(caught.value)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_meta_model_becomes_the_one_that_was_saved(arch: str, tmp_path: Path) -> None:
    source = timm.create_model(arch).eval()
    path = _saved(source, tmp_path)
    with on_meta():
        model = timm.create_model(arch)
    model.eval().requires_grad_(False)
    ledger = load(model, path)
    assert ledger.coverage == 1.0
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    assert not any(parameter.requires_grad for parameter in model.parameters())
    images = torch.randn(1, *source.default_cfg["input_size"])
    with torch.inference_mode():
        # The file's tensors lie at other addresses, where vector kernels sum in another order.
        assert torch.allclose(model(images), source(images), atol=1e-5)
    expected = dict(source.named_buffers()) | dict(source.named_parameters())
    found = dict(model.named_buffers()) | dict(model.named_parameters())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_the_tensors_are_the_files_own_and_may_be_trained(tmp_path: Path) -> None:
    path = _saved(timm.create_model("test_resnet"), tmp_path)
    before = path.read_bytes()
    with on_meta():
        model = timm.create_model("test_resnet")
    load(model, path)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert path.read_bytes() == before
    name, parameter = next(iter(model.named_parameters()))
    assert torch.equal(parameter, load_file(path)[name] + 1.0)


def test_a_module_that_refuses_plain_states_takes_them(tmp_path: Path) -> None:
    source = get_model("mnasnet0_5", weights=None)
    path = _saved(source, tmp_path)
    with on_meta():
        model = get_model("mnasnet0_5", weights=None)
    load(model, path)
    expected = source.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_types_are_converted(tmp_path: Path) -> None:
    source = timm.create_model("test_resnet").half()
    with on_meta():
        model = timm.create_model("test_resnet")
    ledger = load(model, _saved(source, tmp_path))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert {entry.reason for entry in ledger.entries} == {"", "float16 to float32"}


def test_files_that_do_not_count_batches_give_zeros(tmp_path: Path) -> None:
    state = {name: value for name, value in timm.create_model("test_resnet").state_dict().items() if value.dim()}
    save_file(state, tmp_path / "x.safetensors")
    with on_meta():
        model = timm.create_model("test_resnet")
    load(model, tmp_path / "x.safetensors")
    assert model.bn1.num_batches_tracked.item() == 0


class _Tied(nn.Module):
    """A classifier whose weight is that of the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.classifier = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.classifier.weight = self.embedding.weight


class _Hidden(nn.Module):
    """A buffer that no state dict has, and that only the constructor computes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("grid", torch.arange(4.0), persistent=False)


def test_what_was_one_tensor_stays_one(tmp_path: Path) -> None:
    torch.save(_Tied().state_dict(), tmp_path / "x.pth")
    with on_meta():
        model = _Tied()
    load(model, tmp_path / "x.pth")
    assert model.classifier.weight is model.embedding.weight


def test_two_values_for_one_tensor_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"embedding.weight": torch.ones(5, 3), "classifier.weight": torch.zeros(5, 3)}, path)
    with on_meta():
        model = _Tied()
    assert _refusal(model, path) == (
        "classifier.weight and embedding.weight are one tensor of the model, and the file's values for the two differ\n"
        f"  where: {path}\n  mend:  the file is of a model that does not share it: build that one"
    )


def test_buffers_that_only_the_models_code_can_compute_are_refused(tmp_path: Path) -> None:
    path = _saved(nn.Sequential(_Hidden()), tmp_path)
    with on_meta():
        model = nn.Sequential(_Hidden())
    assert _refusal(model, path) == (
        "the model is on the meta device, and only its code can compute the buffers of 0\n"
        f"  where: {path}\n  mend:  build the model on the CPU and load it there"
    )


def test_what_may_miss_needs_a_real_model(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"weight": torch.ones(2, 2)}, path)
    with on_meta():
        model = nn.Linear(2, 2)
    with pytest.raises(WeightsError) as caught:
        load(model, path, may_miss=["bias"])
    assert str(caught.value) == (
        "the model is on the meta device, and the file has no values for bias\n"
        f"  where: {path}\n  mend:  build the model on the CPU and load it there"
    )
