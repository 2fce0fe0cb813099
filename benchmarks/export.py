"""Every format of six architectures: exported by a real run, verified from image bytes, measured; for docs/export.md.

    python benchmarks/export.py --write docs/export.md

Needs zoo-onnx. A network starts from weights that have seen images (EfficientNet-Lite0: those of ImageNet), its head is
trained for an epoch on crops of scikit-image's photos, and `zoo export` and `zoo verify` do the rest.
"""

import argparse
import contextlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import timm
import torch
import torchvision
from features import write_photos
from machine import describe
from safetensors.torch import save_file
from torch import Tensor, nn

from zoo.bundle import opened
from zoo.cli.main import run as zoo
from zoo.registry import load_registry
from zoo.run.bundles import base_of

ARCHITECTURES = (
    ("timm", "resnet50"),
    ("timm", "mobilenetv3_small_100"),
    ("timm", "convnext_atto"),
    ("timm", "vit_tiny_patch16_224"),
    ("timm", "tf_efficientnet_lite0"),
    ("torchvision", "resnet18"),
)
TRAIN, VAL = 64, 32
REPEATS = 15
START, END = "<!-- matrix: benchmarks/export.py -->", "<!-- end -->"

FORMATS = (
    {"use": "safetensors"},
    {"use": "safetensors", "dtype": "float16"},
    {"use": "safetensors", "dtype": "bfloat16"},
    {"use": "pth"},
    {"use": "hub"},
    {"use": "delta"},
    {"use": "torchscript", "fold_bn": True},
    {"use": "torchscript", "preprocess": True},
    {"use": "pt2", "fold_bn": True},
    {"use": "pt2", "preprocess": True},
    {"use": "onnx", "fold_bn": True},
    {"use": "onnx", "preprocess": True},
    {"use": "onnx-int8"},
)

RECIPE = """\
format = 1
[run]
name = "export"
epochs = 1
batch_size = 16
[backbone]
use = "{library}"
arch = "{arch}"
[weights]
{weights}
[data]
use = "imagefolder"
root = "{root}"
[freeze]
use = "head"
[device]
precision = "fp32"
channels_last = false
{exports}
"""


@dataclass(frozen=True)
class Row:
    """One artefact: what it is, its bytes, its difference and tolerance, its accuracy, and seconds for one image."""

    label: str
    bytes: int
    difference: float
    tolerance: float
    accuracy: float | None
    seconds: float


def make_weights(library: str, arch: str, folder: Path) -> str:
    """Return the recipe's [weights]: ImageNet's where they are installed, else a network that has seen noise."""
    if arch == "tf_efficientnet_lite0":
        return 'use = "card"\ncard = "tf_efficientnet_lite0.imagenet"'
    torch.manual_seed(0)
    network: nn.Module = timm.create_model(arch) if library == "timm" else torchvision.models.get_model(arch)
    with torch.inference_mode():
        for _ in range(3):
            network.train()(torch.randn(8, 3, 224, 224))
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder / "base.safetensors")
    return f'use = "file"\nfile = "{folder / "base.safetensors"}"'


def exports(library: str) -> str:
    tables = [one for one in FORMATS if library == "timm" or one["use"] != "hub"]
    return "\n".join(f"[[export]]\n{_keys(table)}" for table in tables)


def _keys(table: dict[str, str | bool]) -> str:
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())


def call(*arguments: str) -> str:
    """Run the command in this process and return what it printed. RuntimeError: it did not end well."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = zoo(list(arguments))
    if status:
        raise RuntimeError(f"zoo {' '.join(arguments)} ended with {status}")
    return said.getvalue()


def measure(library: str, arch: str, root: Path) -> list[str]:
    """Return the lines about an architecture: trained, exported, verified, measured. RuntimeError: not verified."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        recipe = folder / "recipe.toml"
        weights = make_weights(library, arch, folder)
        recipe.write_text(
            RECIPE.format(library=library, arch=arch, weights=weights, root=root, exports=exports(library))
        )
        call("finetune", str(recipe), "--out", str(folder / "run"))
        verified = json.loads(call("verify", str(folder / "run/export"), "--json"))
        if not all(one["ok"] for one in verified):
            raise RuntimeError(f"{arch}: {verified}")
        own = json.loads((folder / "run/export/model.json").read_text())["metrics"]["val/accuracy"]
        return [f"The model itself: {100 * own:.1f} % of {VAL} images.", "", *table(list(_rows(folder / "run/export")))]


def _rows(bundle: Path) -> Iterator[Row]:
    with opened(bundle, load_registry()) as found:
        height, width = found.manifest.spec.size
        given = {
            "normalised": torch.randn(1, 3, height, width),
            "decoded": torch.randint(0, 256, (1, 3, 480, 640), dtype=torch.uint8),
        }
        for artefact in found.manifest.artefacts:
            network = found.open(artefact, base_of(found))
            seconds = latency(network, given[artefact.takes])
            label = f"`{artefact.file}`" + (", folded" if artefact.options.get("fold_bn") else "")
            yield Row(label, artefact.bytes, artefact.difference, artefact.tolerance, artefact.accuracy, seconds)


@torch.inference_mode()
def latency(network: Callable[[Tensor], Tensor], images: Tensor) -> float:
    """Return the median seconds of a call."""
    taken = []
    for _ in range(REPEATS + 3):
        started = time.perf_counter()
        network(images)
        taken.append(time.perf_counter() - started)
    return median(taken[3:])


def table(rows: list[Row]) -> list[str]:
    lines = ["| file | MB | differs by | allowed | accuracy | one image |", "|---|---|---|---|---|---|"]
    for row in rows:
        accuracy = "" if row.accuracy is None else f"{100 * row.accuracy:.1f} %"
        cells = (row.label, f"{row.bytes / 1e6:.2f}", f"{row.difference:.1g}", f"{row.tolerance:g}", accuracy)
        lines.append(f"| {' | '.join(cells)} | {1e3 * row.seconds:.1f} ms |")
    return lines


def write(path: Path, lines: list[str]) -> None:
    """Put the lines between the page's two marks."""
    text = path.read_text(encoding="utf-8")
    head, _, rest = text.partition(START)
    _, _, tail = rest.partition(END)
    path.write_text("\n".join([head + START, "", *lines, "", END + tail]), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="the page to write the tables into")
    parser.add_argument("--only", help="one architecture, by name")
    chosen = parser.parse_args()
    lines = [f"{describe()}; one image alone, median of {REPEATS}."]
    with TemporaryDirectory() as folder:
        root = Path(folder) / "photos"
        write_photos(root, TRAIN, VAL)
        for library, arch in ARCHITECTURES:
            if chosen.only in (None, arch):
                found = ["", f"### {library}/{arch}", "", *measure(library, arch, root)]
                print("\n".join(found), flush=True)
                lines += found
    if chosen.write:
        write(chosen.write, lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
