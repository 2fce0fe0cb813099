"""What a checkpoint's values become when the model's tensor of that name has another shape, where that is understood.

What a tensor means is read off the module that owns it, never off its name. Values are computed by the functions, and
with the interpolation, by which timm, or torchvision for its own ViT, loads weights at another size.
"""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from timm.layers import (
    PatchEmbed,
    RelPosBias,
    RelPosBiasTf,
    resample_abs_pos_embed,
    resample_abs_pos_embed_nhwc,
    resample_patch_embed,
    resize_rel_pos_bias_table,
    resize_rel_pos_bias_table_levit,
)
from timm.models import (
    adapt_input_conv,
    beit,
    cait,
    convit,
    efficientvit_msra,
    eva,
    levit,
    pit,
    swin_transformer,
    tiny_vit,
    tnt,
    vision_transformer,
    vision_transformer_sam,
    volo,
)
from torch import Tensor, nn
from torchvision.models import vision_transformer as torchvision_vit

Kind = Literal["channels", "positions", "patches"]

RGB = 3
TABLE = "relative_position_bias_table"
PLAIN_VITS = (vision_transformer.VisionTransformer, eva.Eva)
CLASS_WITHOUT_POSITION = (cait.Cait, convit.ConVit)
MAPPED = (volo.VOLO, vision_transformer_sam.VisionTransformerSAM)
WINDOWED = (swin_transformer.WindowAttention, beit.Attention, beit.RelativePositionBias, RelPosBias)
OFFSETS = (
    *(tiny_vit.Attention, efficientvit_msra.CascadedGroupAttention),
    *(levit.Attention, levit.AttentionDownsample),
)


@dataclass(frozen=True)
class Adapted:
    """New values of the wanted shape: float32, in memory of their own. `how` is for people."""

    values: Tensor
    kind: Kind
    how: str


@dataclass(frozen=True)
class _Case:
    """A tensor of the model (the module that owns it, its name in there, its shape) and the file's values for it."""

    model: nn.Module
    path: str
    owner: nn.Module
    leaf: str
    value: Tensor
    wanted: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the file."""
        return tuple(self.value.shape)

    def parent(self) -> nn.Module:
        """Return the module that holds the owner; the model itself is its own."""
        return self.model.get_submodule(self.path.rpartition(".")[0])

    def around(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the modules from the model to the owner, both included, with their prefixes: "", "a.", "a.b."."""
        prefix = ""
        yield prefix, self.model
        for part in filter(None, self.path.split(".")):
            prefix += f"{part}."
            yield prefix, self.model.get_submodule(prefix.removesuffix("."))


@dataclass(frozen=True)
class _Tokens:
    """Positions as a sequence: of `prefix` tokens before the patches, then of a grid of patches.

    `classless` says that no position is a class token's because the model has no such token.
    """

    grid: tuple[int, int]
    prefix: int
    classless: bool


def adapt(name: str, value: Tensor, wanted: Tensor, model: nn.Module) -> Adapted | None:
    """Return what `value`, the file's, becomes in the shape of `wanted`, the model's tensor `name`, or None.

    None: the shapes are equal, no rule is known for the module that owns the tensor, or the new values would not be
    finite. Square grids and windows are assumed in the file, and any other number of positions has no rule. Nothing is
    raised for odd shapes, and the model, which may be on the meta device, is only looked at.
    """
    case = _look_up(name, value, wanted, model)
    if case is None:
        return None
    # The functions of timm also make tensors of their own, on torch's default device.
    with torch.no_grad(), value.device:
        rules = RULES.get(value.dim(), ())
        adapted = next((found for rule in rules if (found := rule(case)) is not None), None)
    return adapted if adapted is not None and bool(torch.isfinite(adapted.values).all()) else None


def _look_up(name: str, value: Tensor, wanted: Tensor, model: nn.Module) -> _Case | None:
    path, _, leaf = name.rpartition(".")
    try:
        owner = model.get_submodule(path)
    except AttributeError:
        return None
    own = getattr(owner, leaf, None)
    if not isinstance(own, Tensor) or own.shape != wanted.shape or not _comparable(value, wanted):
        return None
    # Halves are adapted in float32, and rounded only once, by whoever takes the values.
    return _Case(model, path, owner, leaf, value.detach().float(), tuple(wanted.shape))


def _comparable(value: Tensor, wanted: Tensor) -> bool:
    plain = value.is_floating_point() and not value.is_meta and value.layout is torch.strided
    sized = value.dim() == wanted.dim() and value.numel() > 0 and wanted.numel() > 0
    return plain and wanted.is_floating_point() and sized and value.shape != wanted.shape


def _adapted(values: Tensor, kind: Kind, how: str) -> Adapted:
    # A copy: where nothing had to be computed these are the file's own values, which may be mapped.
    return Adapted(values.clone(memory_format=torch.contiguous_format), kind, how)


def _channels(case: _Case) -> Adapted | None:
    """The convolution that sees the image: one channel gets the sum of three, more get them repeated and rescaled."""
    conv = case.owner
    if not isinstance(conv, nn.Conv2d) or case.leaf != "weight" or conv.groups != 1:
        return None
    wanted = case.wanted[1]
    if case.shape != (case.wanted[0], RGB, *case.wanted[2:]) or not _sees_the_image(case):
        return None
    return _adapted(adapt_input_conv(wanted, case.value), "channels", f"input channels {RGB} to {wanted}")


def _sees_the_image(case: _Case) -> bool:
    """Tell whether the case's convolution is an input layer.

    timm's word on its own models counts, and where it says that there is none, there is none. In any other model it is
    the first convolution. A timm model behind a convolution does not see the image itself.
    """
    first = next((name for name, module in case.model.named_modules() if isinstance(module, nn.Conv2d)), "")
    for prefix, module in case.around():
        config = _config(module)
        if "first_conv" in config:
            names = config["first_conv"] or ()
            known = (names,) if isinstance(names, str) else tuple(names)
            return first.startswith(prefix) and case.path.removeprefix(prefix) in known
    return case.path == first


def _config(module: nn.Module) -> Mapping[str, Any]:
    """Return what timm says of its model, nothing for any other module."""
    config = getattr(module, "pretrained_cfg", None)
    return config if isinstance(config, Mapping) else {}


def _resampling(case: _Case) -> dict[str, Any] | None:
    """Return how timm resamples the architecture's positions and patches, None where it depends on the weights.

    timm tells these by their names, and so must this.
    """
    names = (_config(module).get("architecture") for _, module in case.around())
    name = str(next(filter(None, names), ""))
    if "radio" in name:
        return None
    return {"interpolation": "bilinear", "antialias": False} if "flexi" in name else {}


def _patches(case: _Case) -> Adapted | None:
    """A projection of patches that do not overlap, for patches of another size: its answer to a resized image stays."""
    conv = case.owner
    if not isinstance(conv, nn.Conv2d) or case.leaf != "weight" or case.shape[:2] != case.wanted[:2]:
        return None
    kernel = case.wanted[2:]
    if (conv.groups, conv.kernel_size, conv.stride) != (1, kernel, kernel) or not _projects_patches(case):
        return None
    resampling = _resampling(case)
    if resampling is None:
        return None
    how = f"patches {_by(case.shape[2:])} to {_by(kernel)}"
    return _adapted(resample_patch_embed(case.value, list(kernel), **resampling), "patches", how)


def _projects_patches(case: _Case) -> bool:
    parent = case.parent()
    if isinstance(parent, PatchEmbed):
        return parent.proj is case.owner
    return isinstance(parent, torchvision_vit.VisionTransformer) and parent.conv_proj is case.owner


def _sequence(case: _Case) -> Adapted | None:
    """Absolute positions (1, tokens, C) of timm's models: those before the patches stay, the grid is resampled."""
    tokens = _find_tokens(case.owner, case.leaf)
    if tokens is None or not _is_sequence(case, tokens):
        return None
    source, resampling = _find_source(case.shape[1], tokens), _resampling(case)
    if source is None or resampling is None:
        return None
    side, dropped = source
    size, old = list(tokens.grid), [side, side]
    values = resample_abs_pos_embed(case.value[:, dropped:], size, old, tokens.prefix, **resampling)
    left_out = " without the class token's" if dropped else ""
    return _adapted(values, "positions", f"positions {_by(old)} to {_by(size)}{left_out}")


def _find_tokens(owner: nn.Module, leaf: str) -> _Tokens | None:
    embed = getattr(owner, "patch_embed", None)
    if isinstance(owner, PLAIN_VITS) and leaf == "pos_embed":
        prefix = 0 if getattr(owner, "no_embed_class", False) else owner.num_prefix_tokens
    elif isinstance(owner, beit.Beit) and leaf == "pos_embed":
        prefix = 1
    elif isinstance(owner, CLASS_WITHOUT_POSITION) and leaf == "pos_embed":
        prefix = 0
    elif isinstance(owner, tnt.TNT) and leaf == "patch_pos":
        embed, prefix = owner.pixel_embed, 1
    else:
        return None
    grid = getattr(embed, "grid_size", None)
    classless = prefix == 0 and getattr(owner, "cls_token", None) is None
    return _Tokens((grid[0], grid[1]), prefix, classless) if grid is not None else None


def _is_sequence(case: _Case, tokens: _Tokens) -> bool:
    length = tokens.grid[0] * tokens.grid[1] + tokens.prefix
    return case.wanted == (1, length, case.wanted[-1]) and case.shape == (1, case.shape[1], case.wanted[-1])


def _find_source(length: int, tokens: _Tokens) -> tuple[int, int] | None:
    """Return the side of the file's grid and how many of its positions to drop.

    A class token's position is dropped only where the model has no such token: a class token without a position would
    need it added to itself. A position that the file lacks cannot be had.
    """
    side = _root(length - tokens.prefix)
    if side is not None:
        return side, 0
    side = _root(length - 1)
    return (side, 1) if side is not None and tokens.classless else None


def _torchvision_sequence(case: _Case) -> Adapted | None:
    """Positions of torchvision's ViT by its own function: corners stay corners, which timm does not do."""
    vit, encoder = case.parent(), case.owner
    if not isinstance(vit, torchvision_vit.VisionTransformer) or vit.encoder is not encoder:
        return None
    side = vit.image_size // vit.patch_size
    tokens = _Tokens((side, side), 1, classless=False)
    source = _find_source(case.shape[1], tokens)
    if case.leaf != "pos_embedding" or not _is_sequence(case, tokens) or source is None:
        return None
    state = OrderedDict({"encoder.pos_embedding": case.value})
    resampled = torchvision_vit.interpolate_embeddings(vit.image_size, vit.patch_size, state)
    how = f"positions {_by((source[0], source[0]))} to {_by(tokens.grid)}"
    return _adapted(resampled["encoder.pos_embedding"], "positions", how)


def _map(case: _Case) -> Adapted | None:
    """Absolute positions as a map: (1, H, W, C) in VOLO and SAM, (1, C, H, W) in PiT."""
    if case.leaf != "pos_embed" or (case.shape[0], case.wanted[0]) != (1, 1):
        return None
    if isinstance(case.owner, MAPPED):
        return _resample_map(case.value, case.wanted[1:])
    if isinstance(case.owner, pit.PoolingVisionTransformer):
        width, *size = case.wanted[1:]
        adapted = _resample_map(case.value.permute(0, 2, 3, 1), (*size, width))
        return adapted and _adapted(adapted.values.permute(0, 3, 1, 2), adapted.kind, adapted.how)
    return None


def _resample_map(value: Tensor, wanted: tuple[int, ...]) -> Adapted | None:
    size = list(wanted[:2])
    if value.shape[-1] != wanted[-1]:
        return None
    how = f"positions {_by(value.shape[1:3])} to {_by(size)}"
    return _adapted(resample_abs_pos_embed_nhwc(value, size), "positions", how)


def _window(case: _Case) -> Adapted | None:
    """Relative positions in a window of H x W: ((2H - 1)(2W - 1), and 3 with a class token, heads)."""
    if not isinstance(case.owner, WINDOWED) or case.leaf != TABLE or case.shape[1] != case.wanted[1]:
        return None
    window = _pair(case.owner.window_size)
    extra = case.wanted[0] - (2 * window[0] - 1) * (2 * window[1] - 1)
    side = _root(case.shape[0] - extra)
    if extra not in (0, 3) or side is None or side % 2 == 0:
        return None
    return _resize_table(case, (side, side), window)


def _window_map(case: _Case) -> Adapted | None:
    """The same as a map: (heads, 2H - 1, 2W - 1)."""
    if not isinstance(case.owner, RelPosBiasTf) or case.leaf != TABLE or case.shape[0] != case.wanted[0]:
        return None
    window, (height, width) = _pair(case.owner.window_size), case.shape[1:]
    if case.wanted[1:] != (2 * window[0] - 1, 2 * window[1] - 1) or height % 2 == 0 or width % 2 == 0:
        return None
    return _resize_table(case, (height, width), window)


def _resize_table(case: _Case, old: tuple[int, int], window: tuple[int, int]) -> Adapted:
    with warnings.catch_warnings():
        # torch warns of how timm indexes, which is nothing that a reader could mend.
        warnings.simplefilter("ignore", UserWarning)
        values = resize_rel_pos_bias_table(case.value, new_window_size=window, new_bias_shape=case.wanted)
    source = [(side + 1) // 2 for side in old]
    return _adapted(values, "positions", f"relative positions, window {_by(source)} to {_by(window)}")


def _offsets(case: _Case) -> Adapted | None:
    """Relative positions without their sign, in a square of H x H: (heads, H·H), as in LeViT and TinyViT."""
    if not isinstance(case.owner, OFFSETS) or case.leaf != "attention_biases" or case.shape[0] != case.wanted[0]:
        return None
    resolution, side = getattr(case.owner, "resolution", None), _root(case.shape[1])
    if resolution is None or side is None:
        return None  # older versions of timm do not keep the grid of LeViT
    grid = _pair(resolution)
    if grid[0] != grid[1] or case.wanted[1] != grid[0] * grid[1]:
        return None
    values = resize_rel_pos_bias_table_levit(case.value.T, case.wanted[::-1]).T
    return _adapted(values, "positions", f"relative positions {_by((side, side))} to {_by(grid)}")


def _axis(case: _Case) -> Adapted | None:
    """Relative positions along one axis of length L in SAM: (2L - 1, C), stretched as SAM's attention does itself."""
    if not isinstance(case.owner, vision_transformer_sam.Attention) or case.leaf not in ("rel_pos_h", "rel_pos_w"):
        return None
    old, new = case.shape[0], case.wanted[0]
    if case.shape[1:] != case.wanted[1:] or old % 2 == 0 or new % 2 == 0:
        return None
    values = F.interpolate(case.value.T[None], size=new, mode="linear")[0].T
    return _adapted(values, "positions", f"relative positions along an axis of {(old + 1) // 2} to {(new + 1) // 2}")


RULES: dict[int, tuple[Callable[[_Case], Adapted | None], ...]] = {
    2: (_window, _offsets, _axis),
    3: (_sequence, _torchvision_sequence, _window_map),
    4: (_channels, _patches, _map),
}
"""The rules by the number of a tensor's dimensions."""


def _root(count: int) -> int | None:
    """Return the side of a square of so many, None when there is none."""
    return isqrt(count) if count > 0 and isqrt(count) ** 2 == count else None


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _by(size: tuple[int, ...] | list[int]) -> str:
    return " x ".join(str(side) for side in size)
