"""The `timm` backbone: any architecture of timm, its classifier taken off, all other names as timm has them."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import timm
from timm.models import PretrainedCfg, get_arch_pretrained_cfgs
from torch import nn

from zoo.backbones.behead import Asked, take_trunk
from zoo.backbones.depths import timm_depths
from zoo.backbones.stages import find_stages
from zoo.errors import ZooError, nearest
from zoo.meta import on_meta
from zoo.registry.builtin.backbones import TimmOptions
from zoo.registry.contracts import Backbone, InputSpec, Interpolation, Native


def build(options: TimmOptions, image_size: tuple[int, int] | None) -> Backbone:
    """Return the architecture with random weights on torch's default device, for images of `image_size` (or its own).

    ZooError: timm does not know the name or tag, the architecture cannot take that size, or it has no stochastic depth.
    """
    arch = options.arch.partition(".")[0]
    expected = _find_input(options.arch)
    asked = Asked(f"timm/{arch}", image_size or expected.size, expected.size)
    sized = {"img_size": image_size} if image_size and _takes(arch, "img_size", image_size, asked) else {}
    create = partial(_create, arch, {**sized, **_stochastic_depth(arch, options.drop_path, asked)})
    trunk = take_trunk(create, partial(create, 0), asked)
    native = _describe_native(arch, trunk.classifier, sized)
    depths = timm_depths(trunk.module, trunk.classifier)
    return Backbone(trunk.module, trunk.spec, find_stages(trunk.module), native, expected, depths)


def architectures() -> list[str]:
    """Return the names of all of timm's architectures, without pretrained tags."""
    return list(timm.list_models())


def _create(arch: str, arguments: Mapping[str, Any], classes: int) -> nn.Module:
    module: nn.Module = timm.create_model(arch, pretrained=False, num_classes=classes, **arguments)
    return module


def _takes(arch: str, key: str, value: object, asked: Asked) -> bool:
    """Return whether the architecture has such an argument: only building it tells, cheap on the meta device."""
    with on_meta(), asked.refusing():
        try:
            _create(arch, {key: value}, 0)
        except TypeError as error:
            if f"'{key}'" in str(error):
                return False
            raise
    return True


def _stochastic_depth(arch: str, rate: float, asked: Asked) -> dict[str, float]:
    if rate and not _takes(arch, "drop_path_rate", rate, asked):
        raise ZooError(f"{asked.name} has no stochastic depth", where="[backbone] drop_path", hint="leave it out")
    return {"drop_path_rate": rate} if rate else {}


def _find_input(arch: str) -> InputSpec:
    """Return the preprocessing that the weights of an architecture, or of its tag, expect."""
    name, _, tag = arch.partition(".")
    if not timm.is_model(name):
        raise ZooError(f"timm has no architecture {name!r}", "[backbone] arch", nearest(name, timm.list_models()))
    tagged = get_arch_pretrained_cfgs(name)
    if tag and arch not in tagged:
        raise ZooError(f"timm has no weights {arch!r}", "[backbone] arch", nearest(arch, tagged))
    wanted = timm.get_pretrained_cfg(arch) or PretrainedCfg()
    return InputSpec(
        size=(wanted.input_size[1], wanted.input_size[2]),
        mean=_triple(wanted.mean),
        std=_triple(wanted.std),
        interpolation=cast(Interpolation, wanted.interpolation),
        crop_pct=min(wanted.crop_pct, 1.0),  # volo's 1.15 pads, which an InputSpec cannot say
    )


def _triple(channels: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = channels
    return red, green, blue


def _describe_native(arch: str, classifier: str | None, sized: Mapping[str, Any]) -> Native:
    """Return how timm spells the classifier. Stochastic depth is left out: it has no tensors and ends with training."""
    extra = "".join(f", {key}={value!r}" for key, value in sized.items())
    return Native(
        library="timm",
        arch=arch,
        classifier=classifier,
        build=partial(_create, arch, sized),
        code=f'timm.create_model("{arch}", num_classes=classes{extra})',
        arguments=dict(sized),
    )
