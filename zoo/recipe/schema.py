"""The recipe's fixed tables: what every run has, and the keys that every part of a kind takes beside its own."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

FORMAT = 1

Unit = Annotated[float, Field(ge=0, le=1)]
Pixels = Annotated[int, Field(ge=1)]


class Table(BaseModel):
    """A closed, frozen table: a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class RunTable(Table):
    """`[run]`: how long, how much at a time, and what counts as best."""

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$")
    """Names the run's folder: letters, digits, `-`, `_` and `.`."""
    epochs: int = Field(ge=1)
    """Passes over the training images."""
    batch_size: int = Field(32, ge=1)
    """Images per optimiser step, over all devices and micro-batches."""
    accumulate: int = Field(1, ge=1)
    """Micro-batches per optimiser step."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Every random choice follows from it."""
    best_by: str = "val/accuracy"
    """The metric that chooses the best checkpoint: `val/NAME`, or `val/HEAD/NAME` with several heads."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest L2 norm of the gradient, over all parameters that the optimiser holds; none when left out."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay per step of the exponential moving average of the weights; 0 is off. When on, it is what is validated."""


class OptimTable(Table):
    """`[optim]`: an optimiser of torch or timm, by name. Options left out are the optimiser's own."""

    use: str = "adamw"
    """torch's or timm's name, lower case: "adamw", "sgd", "lamb", "adafactor"."""
    lr: float = Field(1e-3, gt=0)
    """Peak learning rate."""
    weight_decay: float = Field(0.01, ge=0)
    """Not applied to biases and normalisation layers."""
    no_decay: list[str] = []
    """Globs of further parameters that it is not applied to, over the backbone's own names and `heads.…`."""
    momentum: float | None = Field(None, ge=0, lt=1)
    nesterov: bool | None = None
    betas: tuple[Unit, Unit] | None = None
    eps: float | None = Field(None, gt=0)


class _Schedule(Table):
    warmup: float = Field(0.0, ge=0, lt=1)
    """Share of all steps over which the rate rises linearly from zero."""


class ConstantSchedule(_Schedule):
    """The peak rate throughout."""

    use: Literal["constant"]


class LinearSchedule(_Schedule):
    """A straight line down to `floor`."""

    use: Literal["linear"]
    floor: Unit = 0.0
    """The last rate, as a share of the peak."""


class CosineSchedule(_Schedule):
    """Half a cosine down to `floor` (Loshchilov and Hutter 2017, without restarts)."""

    use: Literal["cosine"] = "cosine"
    floor: Unit = 0.0
    """The last rate, as a share of the peak."""


class StepSchedule(_Schedule):
    """Multiplied by `gamma` at each milestone."""

    use: Literal["step"]
    milestones: list[Annotated[float, Field(gt=0, lt=1)]] = Field(min_length=1)
    """Shares of all steps."""
    gamma: float = Field(0.1, gt=0, lt=1)
    """The factor at each milestone."""


class OneCycleSchedule(Table):
    """Cosine up from `start` to the peak, then down to `floor` (Smith and Topin 2018; torch's defaults)."""

    use: Literal["one-cycle"]
    warmup: float = Field(0.3, gt=0, lt=1)
    """Share of all steps on the way up."""
    start: Unit = 0.04
    """The first rate, as a share of the peak."""
    floor: Unit = 4e-6
    """The last rate, as a share of the peak."""


Schedule = Annotated[
    ConstantSchedule | LinearSchedule | CosineSchedule | StepSchedule | OneCycleSchedule,
    Field(discriminator="use"),
]


_MINUTES = r"^[1-9]\d*m$"
_OFTEN = {"anyOf": [{"const": "epoch"}, {"type": "integer", "minimum": 1}, {"type": "string", "pattern": _MINUTES}]}


def _often(value: Any) -> Any:
    steps = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if steps or value == "epoch" or (isinstance(value, str) and re.match(_MINUTES, value)):
        return value
    raise ValueError('give "epoch", a number of steps (200), or minutes ("10m")')


class CheckpointTable(Table):
    """`[checkpoint]`: how often, and how many are kept beside the best."""

    every: Annotated[int | str, BeforeValidator(_often), WithJsonSchema(_OFTEN)] = "epoch"
    """"epoch", a number of optimiser steps, or minutes ("10m"). An epoch's end is always saved."""
    keep: int = Field(2, ge=1)
    """The newest ones that stay; the best one always does."""


def _requirement(text: str) -> str:
    from zoo.recipe.requirements import parse

    parse(text)
    return text


class PluginsTable(Table):
    """`[plugins]`: what must be installed for the recipe to mean what it meant."""

    require: list[Annotated[str, AfterValidator(_requirement)]] = []
    """Distributions with versions, as pip takes them: ["zoo-timm>=1.2"]. They are checked before anything runs."""


# The keys that every part of a kind takes. They stand in the part's own table, beside the part's options.


class HeadTable(Table):
    """Keys of every `[head]`."""

    name: str = Field("main", pattern=r"^[A-Za-z]\w*$")
    """Names the head among several."""
    weight: float = Field(1.0, gt=0)
    """What its loss counts in the sum."""
    target: str = "class"
    """What it predicts: "class", or one of `data.targets`."""


class WeightsTable(Table):
    """Keys of `[weights]`, whatever the source."""

    head: Literal["reset", "keep", "by-class-name"] = "reset"
    """What becomes of the checkpoint's own classifier: dropped, kept as it is, or its rows taken by class name."""
    may_miss: list[str] = []
    """Globs of backbone tensors that the checkpoint need not have."""
    may_drop: list[str] = []
    """Globs of the checkpoint's keys that the model need not take."""
    adapt: list[Literal["channels", "positions", "patches"]] = ["channels", "positions"]
    """Which shapes may be adapted: input channels, positions for another image size, another patch size."""
    which: str | None = Field(None, min_length=1, pattern=r"^[^.]+(\.[^.]+)*$")
    """Which set of weights, where the checkpoint holds several: "raw", "ema", or one's own name there ("teacher")."""


class DataTable(Table):
    """Keys of `[data]`, whatever the source."""

    image_size: Pixels | tuple[Pixels, Pixels] | None = None
    """Pixels, one side or (height, width); what the weights expect when left out."""
    augment: Literal["none", "flip", "standard", "randaugment", "trivial"] = "none"
    """Random changes to training images. "standard" is random resized crop and flip."""
    mixup: float = Field(0.0, ge=0)
    """Alpha of mixup's Beta distribution (Zhang et al. 2018); 0 is off."""
    cutmix: float = Field(0.0, ge=0)
    """Alpha of CutMix's Beta distribution (Yun et al. 2019); 0 is off. With both on, each step draws one."""
    cache: Literal["auto", "off"] = "auto"
    """Features of a frozen backbone: computed once where that is exact ("auto"), or in every epoch."""
    targets: dict[str, dict[str, list[str]]] = {}
    """Further targets, as groups of the data's classes: { parity = { even = ["0", "2"], odd = ["1", "3"] } }."""
    workers: int = Field(2, ge=0)
    """Processes that decode images; 0 decodes in the main one."""
    on_bad_image: Literal["error", "skip"] = "error"
    """An image that cannot be decoded stops the run, or is left out, counted and listed."""


class FreezeTable(Table):
    """Keys of `[freeze]`, whatever the policy."""

    bn: Literal["fixed", "track", "auto"] = "auto"
    """Statistics of the backbone's batch norms: all fixed, all tracked, or fixed where nothing trains."""
    mode: Literal["eval", "train", "auto"] = "auto"
    """Dropout and drop-path of the backbone: off, on, or off in the stages where nothing trains."""


Devices = Literal["auto"] | int | tuple[int, ...]


def _several(value: Any) -> Any:
    if value == "auto" or (type(value) is int and value >= 1):
        return value
    if isinstance(value, list | tuple) and value and all(type(number) is int and number >= 0 for number in value):
        if len(set(value)) < len(value):
            raise ValueError("a GPU can be named once")
        return tuple(value)
    raise ValueError('input should be "auto", a number of devices, or a list of GPUs such as [1, 3]')


_SEVERAL: dict[str, Any] = {
    "anyOf": [
        {"const": "auto"},
        {"type": "integer", "minimum": 1},
        {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "uniqueItems": True},
    ],
}


class DeviceTable(Table):
    """Keys of `[device]`, whatever the strategy."""

    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    """"auto" takes cuda, then mps, then cpu."""
    devices: Annotated[Devices, BeforeValidator(_several), WithJsonSchema(_SEVERAL)] = "auto"
    """For the strategies that take several: how many, or the numbers of GPUs. "auto" takes every GPU, or one CPU."""
    precision: Literal["fp32", "bf16", "fp16", "auto"] = "auto"
    """Arithmetic of forward and backward; weights stay fp32. "auto" measures and takes the faster of fp32 and bf16."""
    channels_last: bool | Literal["auto"] = "auto"
    """Memory format of images and convolutions. "auto" measures."""
    compile: bool | str = False
    """Whether torch.compile compiles the training step's forward and backward, or the backend that does."""
    sync_batchnorm: bool = False
    """Whether batch norms in training take their statistics over all processes; only on GPUs."""


class ExportTable(Table):
    """Keys of every `[[export]]`. All of a recipe's artefacts make one bundle."""

    weights: Literal["best", "last", "ema"] | None = None
    """Which weights: of the best checkpoint, of the last, or the best one's moving average. With run.ema say which."""


class NoKeys(Table):
    """For kinds whose parts share no keys."""


COMMON: dict[str, type[Table]] = {
    "backbone": NoKeys,
    "head": HeadTable,
    "weights": WeightsTable,
    "data": DataTable,
    "freeze": FreezeTable,
    "device": DeviceTable,
    "export": ExportTable,
    "callback": NoKeys,
}

FIXED: dict[str, Any] = {
    "run": RunTable,
    "optim": OptimTable,
    "schedule": Schedule,
    "checkpoint": CheckpointTable,
    "plugins": PluginsTable,
}
