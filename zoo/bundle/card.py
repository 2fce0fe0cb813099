"""README.md: the model card, in the hub's format, with Python that needs no zoo."""

from collections.abc import Sequence

from zoo.bundle.golden import FILE, FOLDER
from zoo.bundle.manifest import Manifest
from zoo.bundle.replay import tolerance_of
from zoo.data.preprocess import ON_TENSORS
from zoo.registry.contracts import InputSpec

DECODE = """\
import json
import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision.transforms import v2

def decode(path):  # -> uint8 (1, 3, H, W)
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode == "I" or image.mode.startswith("I;16"):  # 16-bit greys keep their upper byte
        values, clear = np.asarray(image), image.info.get("transparency", -1)
        image = Image.fromarray(np.where(values == clear, 255, values >> 8).astype(np.uint8))
    if image.has_transparency_data:  # over white
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return v2.functional.pil_to_tensor(image.convert("RGB"))[None]
"""

PREPROCESS = """\
preprocess = v2.Compose([
    {resize},
    v2.CenterCrop({size}),
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize({mean}, {std}),
])
"""

COVER = """\
def cover(image):
    height, width = image.shape[-2:]
    ratio = min(height / {height}, width / {width})
    return [round(height / ratio), round(width / ratio)]
"""

RESIZE = """\
def resize(image):
    return v2.functional.resize(image, {cover}, v2.InterpolationMode.{mode}, antialias=True)
"""

PILLOW = """\
def resize(image):  # as Pillow does it
    pixels = v2.functional.to_pil_image(image[0])
    return v2.functional.pil_to_tensor(v2.functional.resize(pixels, {cover}, v2.InterpolationMode.{mode}))[None]
"""

USE = """\
classes = json.load(open("model.json", encoding="utf-8"))["classes"]
with torch.inference_mode():
    logits = network({given})
print(classes[logits.argmax()])
"""

CHECK = """\
expected = json.load(open("{folder}/{file}", encoding="utf-8"))
for image, wanted in zip(expected["images"], expected["logits"]["{artefact}"]):
    wanted = torch.tensor([wanted])
    with torch.inference_mode():
        logits = network({given})
    difference = float((logits - wanted).abs().max() / wanted.abs().max())
    print(image["file"], f"{{difference:.1g}}", "ok" if difference <= {tolerance} else "DIFFERENT")
"""


def write_card(manifest: Manifest, codes: Sequence[str]) -> str:
    """Return README.md; `codes` are the artefacts' Python, in their order, empty where it takes zoo."""
    lines = [
        *_front(manifest),
        f"# {manifest.name}",
        f"{manifest.architecture}, fine-tuned to {_classes(manifest.classes)}. {_measured(manifest)}".rstrip(),
        *_origin(manifest),
        "## Use it without zoo",
        "Run this in the bundle's folder. `preprocess` is what the model was trained with; another gives other ones.",
        _python(DECODE, _preprocess(manifest.spec)),
    ]
    for artefact, code in zip(manifest.artefacts, codes, strict=True):
        given = "decode({path})" if artefact.takes == "decoded" else "preprocess(decode({path}))"
        photo, golden = (given.format(path=path) for path in ('"photo.jpg"', f'"{FOLDER}/" + image["file"]'))
        lines += [f"### {artefact.file} ({artefact.runtime})"]
        if not code:
            lines += [f"Put it together with the base weights: `zoo weights apply {artefact.file} model.safetensors`."]
            continue
        check = CHECK.format(
            folder=FOLDER, file=FILE, artefact=artefact.file, given=golden, tolerance=tolerance_of(artefact)
        )
        lines += [_python(f"{code}\n", USE.format(given=photo)), "Check it:", _python(check)]
    return "\n\n".join(lines) + "\n"


def _front(manifest: Manifest) -> list[str]:
    library = manifest.architecture.partition("/")[0]
    lines = [
        "---",
        "pipeline_tag: image-classification",
        f"library_name: {library}",
        f"license: {(manifest.licence or 'unknown').lower()}",
        "tags: [image-classification, zoo]",
        "---",
    ]
    return ["\n".join(lines)]


def _origin(manifest: Manifest) -> list[str]:
    rows = [f"| {link.what} | {link.origin} | `{link.sha256[:12]}` |" for link in manifest.lineage]
    table = "\n".join(["| from | what | sha256 |", "|---|---|---|", *rows])
    licence = manifest.licence or "not stated"
    return [
        f"Licence of the base weights: {licence}. The images that it was trained on have their own.",
        "## Where it comes from",
        table,
    ]


def _measured(manifest: Manifest) -> str:
    found = [f"{name} {value:.4g}" for name, value in manifest.metrics.items() if name.startswith("val/")]
    return f"Validation: {', '.join(found)}." if found else ""


def _classes(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
    return f"{len(names)} classes ({shown})"


def _python(*parts: str) -> str:
    return "```python\n" + "\n".join(part.rstrip("\n") + "\n" for part in parts) + "```"


def _preprocess(spec: InputSpec) -> str:
    height, width = (int(side / spec.crop_pct) for side in spec.size)
    mode, square = spec.interpolation.upper(), spec.size[0] == spec.size[1]
    resize = f"v2.Resize({height}, v2.InterpolationMode.{mode}, antialias=True)"
    before = "" if square else COVER.format(height=height, width=width) + "\n"
    if not square or spec.interpolation not in ON_TENSORS:
        form = RESIZE if spec.interpolation in ON_TENSORS else PILLOW
        before += form.format(cover=height if square else "cover(image)", mode=mode) + "\n"
        resize = "resize"
    values = {"size": list(spec.size), "mean": list(spec.mean), "std": list(spec.std)}
    return before + PREPROCESS.format(resize=resize, **values)
