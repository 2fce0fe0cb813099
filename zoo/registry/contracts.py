"""What the parts of a run give each other: small frozen dataclasses and protocols. Nothing here imports torch.

Shapes: B images, C channels, H × W pixels, K classes. Pixel sizes are (height, width).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, device, nn
    from torch.optim import Optimizer
    from torchmetrics import Metric

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Align = Literal["names", "order"]
Rates = Mapping[str, float | None]
"""For every parameter name the multiple of the run's learning rate: 1.0 trained, 0.0 kept in the optimiser at rate zero
("zero-lr"), None out of the optimiser with requires_grad=False."""


@dataclass(frozen=True)
class InputSpec:
    """The preprocessing that weights expect: it travels with them from card to run to artefact.

    An RGB image is resized so that its shorter side is `size / crop_pct` pixels, centre-cropped to `size`, scaled to
    [0, 1] and normalised by `mean` and `std` (per channel, in that scale). `crop_pct` is in (0, 1].
    """

    size: tuple[int, int] = (224, 224)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: Interpolation = "bicubic"
    crop_pct: float = 0.875


@dataclass(frozen=True)
class FeatureSpec:
    """What a backbone gives a head: (B, channels) when `pooled`, else (B, channels, H / stride, W / stride).

    Where the stride does not divide a side, up or down, as the network has it.
    """

    channels: int
    pooled: bool = True
    stride: int | None = None


@dataclass(frozen=True)
class TargetSpec:
    """What a head predicts: one of these classes; a target is a class index (B,) or class probabilities (B, K)."""

    classes: tuple[str, ...]


@dataclass(frozen=True)
class Native:
    """How the backbone's own library spells the whole classifier, for loading and for export.

    `classifier` is the state-dict prefix of its final linear layer ("fc"), or None when the architecture does not end
    in one linear layer on pooled features. `build(classes)` makes the library's own model, images to logits (B, K);
    `code` is the Python for it, with `=classes` for their number; `arguments` are what it is told beside that number
    ("img_size"). `logits` names the attribute of what the model of `code` gives that holds the logits; None where it
    gives them itself.
    """

    library: str
    arch: str
    classifier: str | None
    build: "Callable[[int], nn.Module]"
    code: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    logits: str | None = None

    @property
    def identity(self) -> str:
        """`library/arch`, as weight cards name an architecture."""
        return f"{self.library}/{self.arch}"

    def call(self, classes: int) -> str:
        """Return the library's call for so many classes."""
        return re.sub(r"=classes\b", f"={classes}", self.code)


@dataclass(frozen=True)
class Depths:
    """Layers counted from the input, from 0: `of` each parameter of a backbone; `heads` is that of what follows."""

    of: Mapping[str, int]
    heads: int


@dataclass(frozen=True)
class Backbone:
    """A built backbone. `module` maps images (B, 3, H, W) to features; its state dict has the library's native names.

    `stages` are parameter-name prefixes, input side first, which together cover every parameter exactly once. `depths`
    are finer: those of its layers; a stage is a layer when they are None.
    """

    module: "nn.Module"
    spec: FeatureSpec
    stages: tuple[str, ...]
    native: Native
    input: InputSpec
    depths: Depths | None = None


class Head(Protocol):
    """A built head: an nn.Module from features to logits (B, K)."""

    def __call__(self, features: "Tensor") -> "Tensor":
        """Return logits (B, K)."""
        ...

    def loss(self, logits: "Tensor", target: "Tensor") -> "Tensor":
        """Return the unreduced loss (B,) for class indices (B,) or class probabilities (B, K)."""
        ...

    def metrics(self) -> "Mapping[str, Metric]":
        """Return fresh metrics under the names the part declares; each is updated with (logits, class indices)."""
        ...

    def native_names(self) -> Mapping[str, str]:
        """Return {name in this head: name below the native classifier}; empty when the head has no native form."""
        ...


@dataclass(frozen=True)
class WeightsRequest:
    """What a weights source is told: the architecture that asks, where cards lie, and where downloads are kept."""

    native: Native
    cards: tuple[Path, ...]
    cache: Path


@dataclass(frozen=True)
class WeightsFile:
    """Where a checkpoint's bytes are and what is known of them.

    `rename` are (regular expression, replacement) pairs applied in order to each key; `align` = "order" pairs tensors
    with the model's one by one, whatever their names; `may_miss` are glob patterns of target names, `may_drop` of the
    file's keys; `architecture` is `library/arch`; `origin` says in words where the file came from.
    """

    path: Path
    origin: str
    sha256: str | None = None
    architecture: str | None = None
    rename: tuple[tuple[str, str], ...] = ()
    align: Align = "names"
    may_miss: tuple[str, ...] = ()
    may_drop: tuple[str, ...] = ()
    input: InputSpec | None = None
    classes: tuple[str, ...] | None = None
    licence: str | None = None


class Split(Protocol):
    """One split of a data source: labelled images in a stable order."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def image(self, index: int) -> "Image":
        """Return the image as stored, any mode and size; raise OSError or ValueError when it cannot be decoded."""
        ...

    def target(self, index: int) -> int:
        """Return the class index."""
        ...

    def identity(self, index: int) -> str:
        """Return what names this sample for people and caches: a path, or `source/split/index`."""
        ...


@dataclass(frozen=True)
class DataSource:
    """A data source's splits and class names; class index i is `classes[i]`."""

    train: Split
    val: Split
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """What a freeze policy knows: names of a model, no values, and the run's length.

    `parameters` names every parameter, `norms` those of normalisation layers. `heads` are the heads' prefixes; all else
    is the backbone, covered by the prefixes `stages`, input side first. `depths` counts every parameter's layers from
    the input, from 0. `root` stands before the backbone's own names ("backbone."). `epochs` is 0 when not known.
    """

    parameters: tuple[str, ...]
    stages: tuple[str, ...]
    heads: tuple[str, ...] = ()
    norms: frozenset[str] = frozenset()
    depths: Mapping[str, int] = field(default_factory=dict)
    root: str = ""
    epochs: int = 0


FreezePolicy = Callable[[Layout, int], Rates]
"""(layout, epoch) → rates for every parameter. Pure: the same arguments give the same rates."""


class Adapter(Protocol):
    """Parameters that a freeze policy adds to a model for training, and that end up in the model's own."""

    def attach(self, model: "nn.Module", layout: Layout) -> None:
        """Add the parameters in place, below the stages of `layout`. The weights are loaded already.

        Random values are drawn from torch's own generator, which is seeded. What the model computes stays the same.
        """
        ...

    def merge(self, model: "nn.Module") -> None:
        """Fold the parameters in: the model computes the same, with names and shapes as before `attach`."""
        ...


@dataclass(frozen=True)
class DeviceSettings:
    """The keys that every device strategy takes; "auto" is for the strategy to resolve."""

    device: str = "auto"
    precision: Literal["fp32", "bf16", "fp16", "auto"] = "auto"
    channels_last: bool | Literal["auto"] = "auto"
    devices: Literal["auto"] | int | tuple[int, ...] = "auto"
    compile: bool | str = False
    sync_batchnorm: bool = False


class Strategy(Protocol):
    """How a model is placed, wrapped and stepped, in one process or several. A single device is the identity."""

    device: "device"
    settings: DeviceSettings
    rank: int
    """Of this process, from 0."""
    processes: int
    """How many there are. Each takes a part of every batch."""

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and speaks: rank 0."""
        ...

    def place(self, module: "nn.Module", stages: Sequence[str] = ()) -> "nn.Module":
        """Return the module on the device, in its memory format; its parameters may be other objects afterwards.

        `stages` names submodules that are computed one after another: boundaries for what is sharded.
        """
        ...

    def wrap(self, module: "nn.Module") -> "nn.Module":
        """Return what the loop calls in training: the module itself, or a wrapper around it."""
        ...

    def micro(self, last: bool) -> AbstractContextManager[Any]:
        """Return the context for the forward and backward of a micro-batch; gradients travel in a step's last one."""
        ...

    def inference(self) -> AbstractContextManager[Any]:
        """Return the context for a forward without gradients."""
        ...

    def send(self, tensor: "Tensor") -> "Tensor":
        """Return the tensor on the device; images (B, C, H, W) in the memory format. Does not wait."""
        ...

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context for forward and loss in the strategy's precision."""
        ...

    def backward(self, loss: "Tensor") -> None:
        """Add the gradients of a loss () to the parameters, summed over processes, scaled where the precision needs it.

        The loss is this process's share of the whole.
        """
        ...

    def step(self, optimizer: "Optimizer", clip_norm: float | None) -> None:
        """Clip the gradients' L2 norm over all parameters, step the optimiser, and clear the gradients.

        Afterwards parameters and buffers are the same in all processes.
        """
        ...

    def reduce(self, tensor: "Tensor") -> "Tensor":
        """Return the sum of a tensor over all processes. Does not wait for the device."""
        ...

    def collect(self, tensor: "Tensor") -> "Tensor":
        """Return the rows of every process's tensor (N, …), in the order of their ranks; N may differ."""
        ...

    def total(self, values: Sequence[float]) -> list[float]:
        """Return the sums of plain numbers over all processes. Waits for all of them, and for no device."""
        ...

    def gather(self, value: Any) -> Sequence[Any]:
        """Return every process's value, in the order of their ranks. Waits for all of them."""
        ...

    def state(self) -> Mapping[str, float | int]:
        """Return what a checkpoint must keep (the loss scale)."""
        ...

    def load_state(self, state: Mapping[str, float | int]) -> None:
        """Take back what `state` gave."""
        ...

    def close(self) -> None:
        """Leave the other processes, when all have done their work."""
        ...


@dataclass(frozen=True, kw_only=True)
class Described:
    """What whoever opens an artefact knows of the model: its architecture, its preprocessing and its class names.

    `base` returns the tensors that training started from, under native names; None when it started from nothing.
    """

    native: Native
    input: InputSpec
    classes: tuple[str, ...]
    base: "Callable[[], Mapping[str, Tensor]] | None" = None


@dataclass(frozen=True, kw_only=True)
class Exportable(Described):
    """A model, ready to write: native names, single device, no wrapper prefixes.

    `heads` are the names of all its heads; `state` holds the first one's tensors under the native classifier.
    `calibration` returns that many normalised training images (N, 3, H, W), without augmentation.
    """

    state: "Mapping[str, Tensor]"
    heads: tuple[str, ...] = ("main",)
    calibration: "Callable[[int], Tensor] | None" = None


class Exporter(Protocol):
    """Writes an artefact and reads it back as a callable, to be compared with the eager model."""

    tolerance: float
    """Largest difference in logits from the eager model, relative to the largest logit."""
    max_drop: float | None
    """For what rounds coarsely: how far the accuracy on the validation images may fall, in 0 to 1. None: not at all, so
    it is not measured."""
    takes: Literal["normalised", "decoded"]
    """What the artefact maps to logits (B, K): float32 images (B, 3, H, W) out of the preprocessing, or uint8 RGB ones
    (B, 3, any H, any W) that it resizes, crops and normalises itself."""

    def runtime(self, native: Native) -> str:
        """Return the package that runs the artefact: "timm", "torchvision", "torch", "onnxruntime"."""
        ...

    def check(self, model: Exportable) -> None:
        """Raise ZooError when such a model cannot be written. Asked before training, so that none is in vain."""
        ...

    def write(self, model: Exportable, folder: Path) -> tuple[Path, ...]:
        """Write the artefact's files into `folder`, which is empty, and return them, the main one first.

        The same model gives the same bytes.
        """
        ...

    def read(self, model: Described, folder: Path) -> "Callable[[Tensor], Tensor]":
        """Return the artefact in `folder` as a function from what it `takes`, on the CPU, to logits (B, K)."""
        ...

    def code(self, model: Described) -> str:
        """Return Python that needs no zoo and binds `network` to such a function; it runs in the artefact's folder."""
        ...
