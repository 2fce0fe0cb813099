"""Files of another variant, of another size, and of the other library."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor

from tests.weights.corpus.case import Case, Refused, changed, refused, save, short
from tests.weights.corpus.models import State, born, fresh, trained
from zoo.registry.contracts import WeightsFile

RESNET, VIT = "timm/test_resnet", "timm/test_vit"
SHARE = r"x\.pth does not fit the model: [\d.]+ % of the backbone's [\d,]+ elements are covered"
MISFITS = r"of another shape or type: .+ in the file, .+ in the model\).*"
LACKS = r"not in the file: .+ of the model"
MORE = r"not in the model: .+ of the file"


def cases() -> Iterator[Case]:
    yield from _variants()
    yield from _sizes()
    yield from _foreign()
    yield from _renamed()


VARIANTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("torchvision/resnet18", "torchvision/resnet34", (LACKS,)),
    ("timm/mobilenetv3_small_050", "timm/mobilenetv3_small_075", (MISFITS,)),
    ("timm/mobilenetv3_small_075", "timm/mobilenetv3_small_050", (MISFITS,)),
    (VIT, "timm/test_vit, patch 8", (r'.*patch_embed\.proj\.weight .+; adapt = \["patches"\] would take it\)',)),
    (VIT, "timm/test_vit, patch 32", (r'.*patch_embed\.proj\.weight .+; adapt = \["patches"\] would take it\)',)),
    ("timm/test_convnext", "timm/test_convnext, deeper", (r"not in the file: stages\.2\.blocks\..+ of the model",)),
    ("timm/test_convnext, deeper", "timm/test_convnext", (r"not in the model: stages\.2\.blocks\..+ of the file",)),
    (RESNET, "timm/test_resnet, 5 classes", (r"of another shape or type: fc\.weight \(10 x .+",)),
    ("timm/test_resnet, 5 classes", RESNET, (r"of another shape or type: fc\.weight \(5 x .+",)),
    (RESNET, "timm/test_efficientnet", (LACKS, MORE)),
    (VIT, "torchvision/vit, cut", (LACKS, MORE)),
    ("timm/test_resnet, 1 channel", RESNET, (r"of another shape or type: conv1\.0\.weight .+",)),
)
LARGE = (("timm/resnet50", "timm/wide_resnet50_2", (MISFITS,)), ("timm/wide_resnet50_2", "timm/resnet50", (MISFITS,)))


def _variants() -> Iterator[Case]:
    for source, target, lines in (*VARIANTS, *LARGE):
        name, slow = f"{short(source)} into {short(target)}", (source, target, lines) in LARGE
        yield changed("wrong variant", name, target, dict, refused(SHARE, *lines), source=source, slow=slow)
    said = refused(r"these weights are of timm/resnet18, the model is timm/test_resnet")
    known = {"architecture": "timm/resnet18"}
    yield changed("wrong variant", "by its card", RESNET, dict, said, known, by_option=True)


def _sizes() -> Iterator[Case]:
    """Files for another image size, patch size or number of channels; the truth is timm's own."""
    smaller, patches = "timm/test_vit, 128 px", ["channels", "positions", "patches"]
    truth = partial(_by_timm, smaller)
    yield changed("another size", "positions", smaller, dict, truth, source=VIT)
    strict = refused(r".*pos_embed .+; adapt = \[\"positions\"\] would take it\)")
    yield changed("another size", "positions, not allowed", smaller, dict, strict, source=VIT, options={"adapt": []})
    one = "timm/test_resnet, 1 channel"
    yield changed("another size", "channels", one, dict, _summed, source=RESNET)
    for size in ("patch 8", "patch 32"):
        target, options = f"timm/test_vit, {size}", {"adapt": patches}
        yield changed("another size", size, target, dict, partial(_by_timm, target), source=VIT, options=options)


def _by_timm(architecture: str, file: State, first: State) -> State:
    return {**first, **checkpoint_filter_fn(dict(file), fresh(architecture))}


def _summed(file: State, _: State) -> State:
    return {**file, "conv1.0.weight": file["conv1.0.weight"].sum(1, keepdim=True)}


SAME = (
    ("timm/mobilenetv2_100", "torchvision/mobilenet_v2", "mobilenetv2_100"),
    ("timm/mnasnet_050", "torchvision/mnasnet0_5", "mnasnet_050"),
    ("timm/regnet, cut", "torchvision/regnet, cut", "regnety_004"),
    ("timm/efficientnet_b0", "torchvision/efficientnet_b0", "efficientnet_b0"),
    ("timm/vit, cut", "torchvision/vit, cut", "vit_base_patch16_224"),
    ("timm/swin, cut", "torchvision/swin, cut", "swin_tiny_patch4_window7_224"),
    ("timm/convnext, cut", "torchvision/convnext, cut", "convnext_tiny"),
    ("timm/vgg, cut", "torchvision/vgg, cut", "vgg11"),
)
"""The same networks in timm and in torchvision, and the name by which zoo knows them."""
TWINS = {"mobilenetv2_100": "mobilenet_v2", "mnasnet_050": "mnasnet0_5", "regnety_004": "regnet_y_400mf"} | {
    "vit_base_patch16_224": "vit_b_16",
    "swin_tiny_patch4_window7_224": "swin_t",
}
LATER = (".proj.", ".downsample.")
"""Shortcuts of a block, which the libraries define at its two ends."""


def paired(file: State, first: State) -> State:
    """Return the values of a file of the other library under the names here.

    Each tensor gets the first that is left of those of its size, in the order in which the networks are defined: names
    tell only what a shortcut is. That this is right is seen by equal logits.
    """
    left = {
        name: value for name, value in _shortcuts_last(file).items() if value.is_floating_point() or not value.dim()
    }
    after = dict(first)
    for name, value in _shortcuts_last(first).items():
        found = next((key for key, other in left.items() if _alike(key, name, other, value)), None)
        if found is not None:
            after[name] = left.pop(found).reshape(value.shape)
    return after


def _alike(key: str, name: str, other: Tensor, value: Tensor) -> bool:
    counts = [place.endswith("num_batches_tracked") for place in (key, name)]
    return other.numel() == value.numel() and counts[0] == counts[1] and other.dtype == value.dtype


def _shortcuts_last(state: State) -> State:
    """Return the tensors with the shortcuts of regnets behind all others."""
    if not any(name.startswith(("s1.", "trunk_output.")) for name in state):
        return state
    return dict(sorted(state.items(), key=lambda item: any(mark in item[0] for mark in LATER)))


def _foreign() -> Iterator[Case]:
    for timm, torchvision, arch in SAME:
        options = {"architecture": f"timm/{arch}"}
        name = f"{short(torchvision)} into timm's"
        yield changed("foreign names", name, timm, dict, paired, source=torchvision, options=options)
        options = {"architecture": f"torchvision/{TWINS.get(arch, arch)}"}
        name = f"{short(timm)} into torchvision's"
        yield changed("foreign names", name, torchvision, dict, paired, source=timm, options=options)
    yield from _foreign_extras()


def _foreign_extras() -> Iterator[Case]:
    timm, torchvision, other = "timm/mobilenetv2_100", "torchvision/mobilenet_v2", refused(SHARE, LACKS, MORE)
    yield changed("foreign names", "timm's models say what they are", timm, dict, paired, source=torchvision)
    yield changed("foreign names", "wrapped and contained", timm, _contained, paired, source=torchvision)
    yield changed("foreign names", "torchvision's models do not", torchvision, dict, other, source=timm)
    alike = "timm/mobilenetv3_small_100"
    yield changed("foreign names", "a lookalike", alike, dict, other, source="torchvision/mobilenet_v3_small")
    turned = refused(r"of another shape or type: classifier\.weight \(1280 x 10 in the file, 10 x 1280 in the model\)")
    yield changed("foreign names", "a transposed classifier", timm, _transposed, turned, source=torchvision)
    half = refused(SHARE, r"not in the file: blocks\..+ of the model")
    yield changed("foreign names", "half of a file", timm, _half, half, source=torchvision)


def _transposed(state: State) -> State:
    """A classifier as other frameworks keep it: as many numbers in another shape."""
    return {**state, "classifier.1.weight": state["classifier.1.weight"].T.contiguous()}


def _contained(state: State) -> Any:
    return {"model": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}


def _half(state: State) -> State:
    return dict(list(state.items())[: len(state) // 2])


RULES: Mapping[str, tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]] = {
    "timm/test_efficientnet": (
        (("conv_stem.", "stem/"), ("blocks.", "Blocks_"), ("running_", "moving_")),
        ((r"^stem/", "conv_stem."), (r"^Blocks_(\d+)", r"blocks.\1"), (r"moving_(mean|var)$", r"running_\1")),
    ),
    VIT: (
        (("blocks.", "encoder.layer."), ("attn.", "attention.")),
        ((r"^encoder\.layer", "blocks"), ("attention", "attn")),
    ),
    RESNET: ((("layer", "stage"), ("fc.", "logits.")), (("^stage", "layer"), ("^logits", "fc"))),
}
"""What is replaced in the names, and the rules that undo it."""


def _renamed() -> Iterator[Case]:
    for architecture, (spelling, rename) in RULES.items():
        change = partial(_respelt, spelling)
        yield changed("rename rules", short(architecture), architecture, change, known={"rename": rename})
        lines: Refused = refused(SHARE, LACKS, MORE)
        yield changed("rename rules", f"{short(architecture)}, none given", architecture, change, lines)
    clash = refused(r"two keys land on .+: .+ and .+")
    yield changed(
        "rename rules", "too wide", RESNET, dict, clash, {"rename": ((r"layer\d", "layer1"),)}, by_option=True
    )
    wrong = refused(r"the rename rule .+ cannot be applied: .+")
    yield changed("rename rules", "broken", RESNET, dict, wrong, {"rename": (("layer(", "x"),)}, by_option=True)
    yield Case("two names for one", "rename rules", RESNET, _twice, clash)


def _respelt(spelling: tuple[tuple[str, str], ...], state: State) -> State:
    after = {}
    for name, value in state.items():
        for here, there in spelling:
            name = name.replace(here, there)
        after[name] = value
    return after


def _twice(folder: Path) -> WeightsFile:
    """Bare and wrapped names of two trainings in one file."""
    wrapped = {f"module.{name}": value for name, value in trained(RESNET, seed=1).items()}
    return save({**trained(RESNET), **wrapped}, folder / "x.pth")


def logits(architecture: str, values: State) -> Tensor:
    """Return what a network of these values says of an image of noise."""
    model, side = fresh(architecture).eval(), 28 if "vgg" in architecture else 32
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.copy_(values[name])
        said: Tensor = model(image)
    return said


def proof(source: str, target: str) -> tuple[Tensor, Tensor]:
    """Return the logits of both networks with the values of the first."""
    values = trained(source)
    return logits(source, values), logits(target, paired(values, born(target)))
