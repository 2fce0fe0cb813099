"""The networks that timm and torchvision both have, and what each calls the tensors of the other.

Two networks are the same when equal tensors give equal logits. Some look alike and are not:

- mobilenet_v3, efficientnet_b5 to b7 and efficientnet_v2: torchvision's batch norms divide by sqrt(var + 1e-3), timm's
  by sqrt(var + 1e-5). timm's `tf_` twins have the 1e-3 but pad as TensorFlow does, more at the right and the bottom.
- swin_v2: torchvision keeps in one tensor (`qkv.bias`) what timm keeps in two (`q_bias`, `v_bias`).
- maxvit_t: torchvision's last layer has no bias, nor has its first, and its tables of relative positions are turned.
- inception_v3: equal until torchvision is told `transform_input`, as its own weights need it. Then it wants another
  normalisation of the image than timm, which the names of the tensors do not say.
- convnext_tiny_hnf normalises before it pools; resnetaa, resnetblur and efficientnet_blur pool where torchvision
  strides; the names that end in _gn have group norms; nf_resnet has no norms.

alexnet, googlenet, mnasnet1_3, shufflenet_v2 and squeezenet are torchvision's alone.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache

Rules = Mapping[str, str]
"""timm's spelling → torchvision's, of a tensor or of a module with all that is in it; `{2s+1}` stands for a number.

The first rule that fits a name applies: the special ones come before the general.
"""


def _within(timm: str, torchvision: str, layers: Rules) -> Rules:
    """Return the rules for the layers of two modules that are the same."""
    return {f"{timm}.{name}": f"{torchvision}.{other}" for name, other in layers.items()}


_RESNET: Rules = {"conv1": "conv1", "bn1": "bn1", "layer{s}": "layer{s}", "fc": "fc"}
_DENSENET: Rules = {"features": "features", "classifier": "classifier"}
_VGG: Rules = {
    "features": "features",
    "pre_logits.fc1": "classifier.0",
    "pre_logits.fc2": "classifier.3",
    "head.fc": "classifier.6",
}

_STEM: Rules = {"conv_stem": "features.0.0", "bn1": "features.0.1", "classifier": "classifier.1"}
_FIRST_OF_MOBILENET: Rules = {"conv_dw": "conv.0.0", "bn1": "conv.0.1", "conv_pw": "conv.1", "bn2": "conv.2"}
_BLOCK_OF_MOBILENET: Rules = {
    "conv_pw": "conv.0.0",
    "bn1": "conv.0.1",
    "conv_dw": "conv.1.0",
    "bn2": "conv.1.1",
    "conv_pwl": "conv.2",
    "bn3": "conv.3",
}
_MOBILENET_V2: Rules = {
    **_STEM,
    **_within("blocks.0.0", "features.1", _FIRST_OF_MOBILENET),
    # torchvision counts the blocks through. From behind, the first stage that begins before a block is the block's.
    **{
        timm: torchvision
        for stage, start in ((6, 17), (5, 14), (4, 11), (3, 7), (2, 4), (1, 2))
        for timm, torchvision in _within(
            f"blocks.{stage}.{{b}}", f"features.{{b+{start}}}", _BLOCK_OF_MOBILENET
        ).items()
    },
    "conv_head": "features.18.0",
    "bn2": "features.18.1",
}

_FIRST_OF_MNASNET: Rules = {"conv_dw": "3", "bn1": "4", "conv_pw": "6", "bn2": "7"}
_BLOCK_OF_MNASNET: Rules = {"conv_pw": "0", "bn1": "1", "conv_dw": "3", "bn2": "4", "conv_pwl": "6", "bn3": "7"}
_MNASNET: Rules = {
    "conv_stem": "layers.0",
    "bn1": "layers.1",
    **_within("blocks.0.0", "layers", _FIRST_OF_MNASNET),
    **_within("blocks.{s}.{b}", "layers.{s+7}.{b}.layers", _BLOCK_OF_MNASNET),
    "conv_head": "layers.14",
    "bn2": "layers.15",
    "classifier": "classifier.1",
}

_FIRST_OF_EFFICIENTNET: Rules = {
    "conv_dw": "block.0.0",
    "bn1": "block.0.1",
    "se.conv_reduce": "block.1.fc1",
    "se.conv_expand": "block.1.fc2",
    "conv_pw": "block.2.0",
    "bn2": "block.2.1",
}
_BLOCK_OF_EFFICIENTNET: Rules = {
    "conv_pw": "block.0.0",
    "bn1": "block.0.1",
    "conv_dw": "block.1.0",
    "bn2": "block.1.1",
    "se.conv_reduce": "block.2.fc1",
    "se.conv_expand": "block.2.fc2",
    "conv_pwl": "block.3.0",
    "bn3": "block.3.1",
}
_EFFICIENTNET: Rules = {
    **_STEM,
    **_within("blocks.0.{b}", "features.1.{b}", _FIRST_OF_EFFICIENTNET),
    **_within("blocks.{s}.{b}", "features.{s+1}.{b}", _BLOCK_OF_EFFICIENTNET),
    "conv_head": "features.8.0",
    "bn2": "features.8.1",
}

_BLOCK_OF_REGNET: Rules = {
    "conv1.conv": "f.a.0",
    "conv1.bn": "f.a.1",
    "conv2.conv": "f.b.0",
    "conv2.bn": "f.b.1",
    "se": "f.se",
    "conv3.conv": "f.c.0",
    "conv3.bn": "f.c.1",
    "downsample.conv": "proj.0",
    "downsample.bn": "proj.1",
}
_REGNET: Rules = {
    "stem.conv": "stem.0",
    "stem.bn": "stem.1",
    **_within("s{s}.b{b+1}", "trunk_output.block{s}.block{s}-{b}", _BLOCK_OF_REGNET),
    "head.fc": "fc",
}

_BLOCK_OF_CONVNEXT: Rules = {
    "conv_dw": "block.0",
    "norm": "block.2",
    "mlp.fc1": "block.3",
    "mlp.fc2": "block.5",
    "gamma": "layer_scale",
}
_CONVNEXT: Rules = {
    "stem": "features.0",
    "stages.{s}.downsample": "features.{2s}",
    **_within("stages.{s}.blocks.{b}", "features.{2s+1}.{b}", _BLOCK_OF_CONVNEXT),
    "head.norm": "classifier.0",
    "head.fc": "classifier.2",
}

_BLOCK_OF_VIT: Rules = {
    "norm1": "ln_1",
    "attn.qkv.weight": "self_attention.in_proj_weight",
    "attn.qkv.bias": "self_attention.in_proj_bias",
    "attn.proj": "self_attention.out_proj",
    "norm2": "ln_2",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.3",
}
_VIT: Rules = {
    "cls_token": "class_token",
    "pos_embed": "encoder.pos_embedding",
    "patch_embed.proj": "conv_proj",
    **_within("blocks.{b}", "encoder.layers.encoder_layer_{b}", _BLOCK_OF_VIT),
    "norm": "encoder.ln",
    "head": "heads.head",
}

_BLOCK_OF_SWIN: Rules = {
    "norm1": "norm1",
    "attn.qkv": "attn.qkv",
    "attn.proj": "attn.proj",
    "attn.relative_position_bias_table": "attn.relative_position_bias_table",
    "norm2": "norm2",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.3",
}
_SWIN: Rules = {
    "patch_embed.proj": "features.0.0",
    "patch_embed.norm": "features.0.2",
    "layers.{s}.downsample": "features.{2s}",
    **_within("layers.{s}.blocks.{b}", "features.{2s+1}.{b}", _BLOCK_OF_SWIN),
    "norm": "norm",
    "head.fc": "head",
}

_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2")
_RESNEXTS = ("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d")
_DENSENETS = ("densenet121", "densenet161", "densenet169", "densenet201")
_VGGS = ("vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn")
_EFFICIENTNETS = ("efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4")
_CONVNEXTS = ("convnext_tiny", "convnext_small", "convnext_base", "convnext_large")
_MNASNETS = {"mnasnet_050": "mnasnet0_5", "mnasnet_075": "mnasnet0_75", "mnasnet_100": "mnasnet1_0"}
# timm's regnetx_004, regnety_008 and regnety_080 are narrower in places than torchvision's.
_REGNETS = {
    "regnetx_004_tv": "regnet_x_400mf",
    "regnetx_008": "regnet_x_800mf",
    "regnetx_016": "regnet_x_1_6gf",
    "regnetx_032": "regnet_x_3_2gf",
    "regnetx_080": "regnet_x_8gf",
    "regnetx_160": "regnet_x_16gf",
    "regnetx_320": "regnet_x_32gf",
    "regnety_004": "regnet_y_400mf",
    "regnety_008_tv": "regnet_y_800mf",
    "regnety_016": "regnet_y_1_6gf",
    "regnety_032": "regnet_y_3_2gf",
    "regnety_080_tv": "regnet_y_8gf",
    "regnety_160": "regnet_y_16gf",
    "regnety_320": "regnet_y_32gf",
    "regnety_1280": "regnet_y_128gf",
}
_VITS = {
    "vit_base_patch16_224": "vit_b_16",
    "deit_base_patch16_224": "vit_b_16",
    "vit_base_patch32_224": "vit_b_32",
    "vit_large_patch16_224": "vit_l_16",
    "vit_large_patch32_224": "vit_l_32",
    "vit_huge_patch14_224": "vit_h_14",
}
_SWINS = {
    "swin_tiny_patch4_window7_224": "swin_t",
    "swin_small_patch4_window7_224": "swin_s",
    "swin_base_patch4_window7_224": "swin_b",
}
_FAMILIES: tuple[tuple[Mapping[str, str], Rules], ...] = (
    ({arch: arch for arch in _RESNETS + _RESNEXTS}, _RESNET),
    ({arch: arch for arch in _DENSENETS}, _DENSENET),
    ({arch: arch for arch in _VGGS}, _VGG),
    ({"mobilenetv2_100": "mobilenet_v2"}, _MOBILENET_V2),
    (_MNASNETS, _MNASNET),
    ({arch: arch for arch in _EFFICIENTNETS}, _EFFICIENTNET),
    (_REGNETS, _REGNET),
    ({arch: arch for arch in _CONVNEXTS}, _CONVNEXT),
    (_VITS, _VIT),
    (_SWINS, _SWIN),
)

PAIRS: Mapping[str, str] = {timm: torchvision for pairs, _ in _FAMILIES for timm, torchvision in pairs.items()}
"""timm's architecture → the same network in torchvision. Of two that are one network there, the first is the answer."""
_BACK = {torchvision: timm for timm, torchvision in reversed([*PAIRS.items()])}
_RULES = {timm: rules for pairs, rules in _FAMILIES for timm in pairs}


def equivalent(architecture: str) -> str | None:
    """Return the same network in the other library, "timm/vgg11" → "torchvision/vgg11", or None where it has none.

    It is the same on images of the size that it is made for: larger ones timm's vggs pool elsewhere.
    """
    timm, torchvision = _pair(architecture)
    if not timm:
        return None
    return f"torchvision/{torchvision}" if architecture.startswith("timm/") else f"timm/{timm}"


def other_names(architecture: str, names: Iterable[str]) -> dict[str, str]:
    """Return {name in the other library: name here} for the tensors `names` of an architecture, as "timm/vgg11".

    Every name with a counterpart is there, spelt the same or not; torchvision's `relative_position_index` of the swins
    has none, since timm does not keep it. {} where the other library has no equal network.

    The shapes are equal but for two layouts of the same elements in the same order: in timm the vggs' `pre_logits` are
    convolutions, (4096, 512, 7, 7) for (4096, 25088), and the convnexts' `gamma` is (C,) for (C, 1, 1).
    """
    timm, _ = _pair(architecture)
    rules = [*_RULES.get(timm, {}).items()]
    if architecture.startswith("torchvision/"):
        rules = [(here, there) for there, here in rules]
    found = ((_respelt(name, rules), name) for name in names)
    return {other: name for other, name in found if other is not None}


def _pair(architecture: str) -> tuple[str, str]:
    """Return the network's names in timm and in torchvision, or two empty strings."""
    library, _, arch = architecture.partition("/")
    timm = arch if library == "timm" else _BACK.get(arch, "") if library == "torchvision" else ""
    return (timm, PAIRS[timm]) if timm in PAIRS else ("", "")


def _respelt(name: str, rules: Iterable[tuple[str, str]]) -> str | None:
    for here, there in rules:
        found = _spelling(here).read(name)
        if found is not None:
            return _spelling(there).write(*found)
    return None


_INDEX = re.compile(r"\{(\d*)([a-z])(\+\d+)?\}")


class _Spelling:
    """One side of a rule: `features.{2s+1}.{b}` reads "features.3.0.weight" as s = 1, b = 0 and ".weight"."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.indices = [(letter, int(factor or 1), int(start or 0)) for factor, letter, start in _INDEX.findall(text)]
        literals = [re.escape(literal) for literal in re.split(r"\{.*?\}", text)]
        self.pattern = re.compile(r"(\d+)".join(literals) + r"(?P<rest>(?:\..+)?)")

    def read(self, name: str) -> tuple[dict[str, int], str] | None:
        """Return the indices and the rest of a name that is spelt so, None for any other."""
        found = self.pattern.fullmatch(name)
        if found is None:
            return None
        values = {}
        for digits, (letter, factor, start) in zip(found.groups(), self.indices, strict=False):
            values[letter], left = divmod(int(digits) - start, factor)
            if left or values[letter] < 0:
                return None
        return values, found["rest"]

    def write(self, values: Mapping[str, int], rest: str) -> str:
        """Return the name of these indices and this rest."""
        numbers = (str(factor * values[letter] + start) for letter, factor, start in self.indices)
        return _INDEX.sub(lambda _: next(numbers), self.text) + rest


@cache
def _spelling(text: str) -> _Spelling:
    return _Spelling(text)
